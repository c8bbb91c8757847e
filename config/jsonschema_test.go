package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compiled is the schema as an editor reads it.
func compiled(t testing.TB, own bool) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(JSONSchema(own, func(key string) string { return "about " + key }))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("cove.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("cove.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a TOML file as an editor holds it against a schema.
func asJSON(t testing.TB, text string) any {
	t.Helper()
	tree := map[string]any{}
	if _, err := toml.Decode(text, &tree); err != nil {
		return nil
	}
	data, err := json.Marshal(tree)
	if err != nil { // a number that JSON has not
		return nil
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestJSONSchema(t *testing.T) {
	project, own := compiled(t, false), compiled(t, true)
	full, err := os.ReadFile(filepath.Join("..", "testdata", "profiles", "full.toml"))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := os.ReadFile(filepath.Join("..", "testdata", "profiles", "wrong_values.toml"))
	if err != nil {
		t.Fatal(err)
	}
	trust := "[trust]\nregistries = ['docker.io', '*.corp.example', 'localhost:5000/me']\nhosts = ['*.debian.org:80', '10.0.0.0/8']\npaths = ['~/data', '/srv:rw']\n"
	for _, c := range []struct {
		name, text string
		schema     *jsonschema.Schema
		ok         bool
	}{
		{"full", string(full), project, true},
		{"empty", "", project, true},
		{"wrong", string(wrong), project, false},
		{"own", string(full) + trust, own, true},
		{"trust in a project", trust, project, false},
		{"trust too wide", "trust.registries = ['docker.io:x:y/Z Z']", own, false},
		{"unknown", "imgae = 'host'", project, false},
		{"unknown below", "[network]\nmod = 'user'", project, false},
		{"unknown in a mount", "[[mount]]\nsource = '/a'\ntarget = '/b'\nread = 1", project, false},
		{"word", "network.mode = 'usre'", project, false},
		{"word in a mount", "[[mount]]\nsource = '/a'\ntarget = '/b'\nmode = 'wr'", project, false},
		{"no source", "[[mount]]\ntarget = '/b'", project, false},
		{"not a table", "network = 1", project, false},
		{"not a list", "command = 'sh'", project, false},
		{"not a string", "command = [1]", project, false},
		{"port", "network.host_ports = [0]", project, false},
		{"publish", "network.publish = ['x']", project, false},
		{"publish auto", "network.publish = 'auto'", project, true},
		{"memory", "limits.memory = '2 GB'", project, false},
		{"pids", "limits.pids = 1.5", project, false},
		{"timeout", "limits.timeout = 'soon'", project, false},
		{"host", "network.allow = ['a b']", project, false},
		{"empty host", "network.allow = ['']", project, false},
		{"caps", "security.caps = ['SYS ADMIN']", project, false},
		{"truth", "security.nested = 'yes'", project, false},
		{"target", "[[mount]]\nsource = '/a'\ntarget = 'b'", project, false},
	} {
		if err := c.schema.Validate(asJSON(t, c.text)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// No key is missing, none has no description, and none is known to a part of the schema alone.
func TestJSONSchemaKeys(t *testing.T) {
	var found []string
	var walk func(prefix string, node map[string]any)
	walk = func(prefix string, node map[string]any) {
		if item, ok := node["items"].(map[string]any); ok {
			node = item
		}
		keys, _ := node["properties"].(map[string]any)
		for name, value := range keys {
			one := value.(map[string]any)
			if one["description"] != "about "+prefix+name {
				t.Errorf("%s%s: %v", prefix, name, one["description"])
			}
			found = append(found, prefix+name)
			walk(prefix+name+".", one)
		}
	}
	walk("", JSONSchema(true, func(key string) string { return "about " + key }))
	slices.Sort(found)
	if want := slices.Sorted(slices.Values(schemaKeys)); !slices.Equal(found, want) {
		t.Errorf("the schema has %v, the decoder %v", found, want)
	}
	for key, want := range map[string]string{"network.mode": "none user host", "mount.mode": "rw ro", "user": "root me image", "home.mode": "project temp"} {
		if got := strings.Join(wordsOf(key), " "); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}
	if got := required("mount"); !slices.Equal(got, []string{"source", "target"}) {
		t.Errorf("required of a mount: %v", got)
	}
}

// FuzzJSONSchema: what the decoder takes the schema takes too, or an editor would call wrong what is right.
func FuzzJSONSchema(f *testing.F) {
	full, err := os.ReadFile(filepath.Join("..", "testdata", "profiles", "full.toml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(full))
	for _, seed := range []string{"limits.memory = '.5g'", "limits.timeout = '+1m'", "limits.cpus = 1", "network.publish = ['1-2:3-4/udp', 'auto']",
		"[[mount]]\nsource = '~'\ntarget = '~/'", "mount = []", "network.allow = ['[::1]:1', '::/0', '*:1-2/udp', 'a_b.\u00fc:53/tcp']\nnetwork.mode='user'",
		"security.caps = ['cap_net_bind_service', 'ALL', 'default']", "user = 'me'", "workspace.at = ''"} {
		f.Add(seed)
	}
	s := compiled(f, false)
	f.Fuzz(func(t *testing.T, text string) {
		home := t.TempDir()
		dir := filepath.Join(home, "p")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(LoadOptions{Cwd: dir, Home: home}); err != nil {
			return
		}
		doc := asJSON(t, text)
		if doc == nil {
			return
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

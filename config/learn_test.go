package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestInsertAllow(t *testing.T) {
	const both = `["a.example:443", "b"]`
	for name, c := range map[string]struct{ in, want string }{
		"nothing":       {"", "\n[network]\nmode = \"user\"\nallow = " + both + "\n"},
		"no newline":    {`image = "host"`, "image = \"host\"\n\n[network]\nmode = \"user\"\nallow = " + both + "\n"},
		"no list":       {"[network] # mine\nmode = \"user\" # yes\n[home]\n", "[network] # mine\nallow = " + both + "\nmode = \"user\" # yes\n[home]\n"},
		"no mode":       {"[network]\npublish = []\n", "[network]\nmode = \"user\"\nallow = " + both + "\npublish = []\n"},
		"a list alone":  {"[network]\nallow = ['b']\n", "[network]\nmode = \"user\"\nallow = ['b', \"a.example:443\"]\n"},
		"at the end":    {"[network]", "[network]\nmode = \"user\"\nallow = " + both + "\n"},
		"spaced":        {"[ \"network\" ] # [network]\nmode='user'\n", "[ \"network\" ] # [network]\nallow = " + both + "\nmode='user'\n"},
		"escaped":       {"[\"netw\\u006frk\"]\nmode='user'\n", "[\"netw\\u006frk\"]\nallow = " + both + "\nmode='user'\n"},
		"an empty one":  {"[network]\nmode='user'\nallow = [] # none\n", "[network]\nmode='user'\nallow = " + both + " # none\n"},
		"empty, lines":  {"[network]\nmode='user'\nallow = [ # none\n]\n", "[network]\nmode='user'\nallow = " + both[:len(both)-1] + " # none\n]\n"},
		"some of it":    {"[network]\nmode='user'\nallow = ['b']\n", "[network]\nmode='user'\nallow = ['b', \"a.example:443\"]\n"},
		"a comma":       {"[network]\nmode='user'\nallow = ['b' , ]\n", "[network]\nmode='user'\nallow = ['b', \"a.example:443\" , ]\n"},
		"all of it":     {"[network]\nmode='user'\nallow = ['b', \"a.example:443\"]\n", "[network]\nmode='user'\nallow = ['b', \"a.example:443\"]\n"},
		"lines":         {"[network]\nmode='user'\nallow = [ # these, ]\n  # one\n  \"x\", # x ]\n]\n", "[network]\nmode='user'\nallow = [ # these, ]\n  # one\n  \"x\", # x ]\n  \"a.example:443\",\n  \"b\",\n]\n"},
		"lines, bare":   {"[network]\nmode='user'\nallow = [\n\t'x', 'y' # ,\n\t# last\n]\n", "[network]\nmode='user'\nallow = [\n\t'x', 'y', # ,\n\t# last\n\t\"a.example:443\",\n\t\"b\",\n]\n"},
		"lines, odd":    {"[network]\nmode='user'\nallow = ['x',\n  'y',\n  ]\n", "[network]\nmode='user'\nallow = ['x',\n  'y',\n  \t\"a.example:443\",\n  \t\"b\",\n  ]\n"},
		"lines, closed": {"[network]\nmode='user'\nallow = [\n  'x',\n  'y']\n", "[network]\nmode='user'\nallow = [\n  'x',\n  'y', \"a.example:443\", \"b\"]\n"},
		"strings":       {"[network]\nmode='user'\nallow = [\"\"\"x\"\"\", '''b''']\n", "[network]\nmode='user'\nallow = [\"\"\"x\"\"\", '''b''', \"a.example:443\"]\n"},
		"dotted":        {"network.mode = \"user\"\nuser = \"me\"\n", "network.mode = \"user\"\nnetwork.allow = " + both + "\nuser = \"me\"\n"},
		"dotted, list":  {"network.allow = ['x']\nuser = \"me\"\n[home]\n", "network.allow = ['x', \"a.example:443\", \"b\"]\nnetwork.mode = \"user\"\nuser = \"me\"\n[home]\n"},
		"dotted, odd":   {"\"network\" . 'mode' = \"user\"\nuser = \"me\"", "\"network\" . 'mode' = \"user\"\nnetwork.allow = " + both + "\nuser = \"me\""},
		"dotted, end":   {"network.mode = \"user\"", "network.mode = \"user\"\nnetwork.allow = " + both + "\n"},
		"inline":        {"network = { mode = \"user\" } # x\n", "network = { allow = " + both + ", mode = \"user\" } # x\n"},
		"inline, empty": {"network = {}\n", "network = { mode = \"user\", allow = " + both + "}\n"},
		"inline, list":  {"network = {allow = [ 'x' ], mode = 'user'}\n", "network = {allow = [ 'x', \"a.example:443\", \"b\" ], mode = 'user'}\n"},
		"a BOM":         {"\ufeff[network]\nmode='user'\nallow = []\n", "\ufeff[network]\nmode='user'\nallow = " + both + "\n"},
		"CRLF":          {"[network]\r\nmode = 'user'\r\n", "[network]\r\nallow = " + both + "\r\nmode = 'user'\r\n"},
		"CRLF, lines":   {"[network]\r\nmode = 'user'\r\nallow = [\r\n  'x' # x\r\n]\r\n", "[network]\r\nmode = 'user'\r\nallow = [\r\n  'x', # x\r\n  \"a.example:443\",\r\n  \"b\",\r\n]\r\n"},
		"CRLF, nothing": {"user = 'me'\r\n", "user = 'me'\r\n\r\n[network]\r\nmode = \"user\"\r\nallow = " + both + "\r\n"},
	} {
		got, err := insertAllow([]byte(c.in), []string{"a.example:443", "b", "b"})
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, want %q, %v", name, got, c.want, err)
		}
		again, err := insertAllow(got, []string{"a.example:443", "b"})
		if err != nil || string(again) != string(got) {
			t.Errorf("%s, again: %q, %v", name, again, err)
		}
	}
	for _, in := range []string{"[network\n", "network.allow = 5\n[x", "network.allow = 5\n", "network.allow = 'x'\n", "network = 1\n", "[[network]]\n",
		"[network]\nmode = \"none\"\n", "[network]\nmode = \"host\"\nallow = []\n", "[network]\nmode = 5\n"} {
		if got, err := insertAllow([]byte(in), []string{"b"}); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// FuzzInsertAllow: of whatever can be read, what comes out has the entry besides everything that was there, and a second time
// changes nothing.
func FuzzInsertAllow(f *testing.F) {
	for _, s := range []string{"", "[network]\nmode='user'\nallow=['x',# y\n]\n", "network={mode='user'}", "network.allow=[\n]\r\n", "a=1\n[network] # x\r\n[[mount]]\n", "network.x.y=[[]]\n", "network.allow=[[\n]\n]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if strings.Contains(in, "new.example") {
			return
		}
		got, err := insertAllow([]byte(in), []string{"new.example"})
		if err != nil {
			if strings.Contains(err.Error(), "bug:") {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		before, after := parseTOML([]byte(in)), parseTOML(got)
		if len(after.mistakes) > 0 {
			t.Fatalf("%q: %q", in, got)
		}
		network, _ := after.tree["network"].(map[string]any)
		list, _ := network["allow"].([]any)
		if len(list) == 0 || list[len(list)-1] != any("new.example") {
			t.Fatalf("%q: %q", in, got)
		}
		old, had := before.tree["network"].(map[string]any)
		if network["allow"] = list[:len(list)-1]; old["allow"] == nil {
			delete(network, "allow")
		}
		if old["mode"] == nil {
			delete(network, "mode")
		}
		if !had {
			delete(after.tree, "network")
		}
		if a, b := fmt.Sprintf("%#v", before.tree), fmt.Sprintf("%#v", after.tree); a != b {
			t.Fatalf("%q: %q: %s, %s", in, got, a, b)
		}
		again, err := insertAllow(got, []string{"new.example"})
		if err != nil || string(again) != string(got) {
			t.Fatalf("%q, again: %q, %v", got, again, err)
		}
	})
}

func TestAddAllow(t *testing.T) {
	r := newRoom(t)
	p := r.profile("# mine\n[network]\nmode = \"user\"\n")
	if err := p.AddAllow([]string{"a.example:443"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.File)
	if err != nil {
		t.Fatal(err)
	}
	q := r.profile(string(text))
	if len(q.Network.Allow) != 1 || q.Network.Allow[0].String() != "a.example:443" || !strings.HasPrefix(string(text), "# mine\n") {
		t.Errorf("%+v", q.Network)
	}
	if err := p.AddAllow([]string{"b.example"}); err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("a file that was changed: %v", err)
	}
}

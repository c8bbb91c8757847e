package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// shape is what a key holds.
type shape int

const (
	aTable shape = iota
	aString
	aBool
	aNumber
	someStrings
	someNumbers
	someTables  // [[mount]]
	namedValues // env.set
)

// schema is every key there is, in the order in which they are shown. A key that does nothing is not known.
var schema = []struct {
	key   string
	shape shape
	set   func(*Profile, *change)
}{
	{"image", aString, setImage},
	{"verify", someStrings, setVerify},
	{"command", someStrings, setCommand},
	{"user", aString, setUser},
	{"workspace", aTable, nil},
	{"workspace.mode", aString, setWorkspaceMode},
	{"workspace.at", aString, setWorkspaceAt},
	{"workspace.protect", someStrings, setProtect},
	{"home", aTable, nil},
	{"home.mode", aString, setHomeMode},
	{"mount", someTables, addMount},
	{"env", aTable, nil},
	{"env.set", namedValues, setEnvSet},
	{"env.pass", someStrings, setEnvPass},
	{"network", aTable, nil},
	{"network.mode", aString, setNetworkMode},
	{"network.allow", someStrings, setAllow},
	{"network.deny", someStrings, setDeny},
	{"network.publish", someStrings, setPublish},
	{"network.host_ports", someNumbers, setHostPorts},
	{"network.proxy", aBool, setProxy},
	{"network.driver", aString, setDriver},
	{"limits", aTable, nil},
	{"limits.memory", aString, setMemory},
	{"limits.cpus", aNumber, setCPUs},
	{"limits.pids", aNumber, setPIDs},
	{"limits.timeout", aString, setTimeout},
	{"security", aTable, nil},
	{"security.caps", someStrings, setCaps},
	{"security.new_privileges", aBool, setNewPrivileges},
	{"security.nested", aBool, setNested},
	{"security.seccomp", aString, setSeccomp},
	{"host", aTable, nil},
	{"host.ssh_agent", aTable, nil},
	{"host.ssh_agent.keys", someStrings, setSSHKeys},
	{"host.ssh_agent.confirm", aBool, setSSHConfirm},
}

var schemaKeys = func() []string {
	names := make([]string, len(schema))
	for i, s := range schema {
		names[i] = s.key
	}
	return names
}()

var mountKeys = []string{"source", "target", "mode"}

// reader turns one decoded file into changes of a profile.
type reader struct {
	doc      *document
	kind     string // FromUser, FromProfile
	file     string // absolute
	shown    string // as the user knows it
	base     string // what relative paths are relative to, "" when there must be none
	profile  *Profile
	mistakes []Mistake
	failed   map[string]bool // keys with a mistake in their values
}

// read lays a file over the profile and returns everything that is wrong with it.
func (r *reader) read(data []byte) []Mistake {
	r.doc = parseTOML(data)
	r.mistakes = r.doc.mistakes
	r.table("", r.doc.tree)
	for i := range r.mistakes {
		r.mistakes[i].File = r.shown
	}
	return sortMistakes(r.mistakes)
}

// table goes through one table: the file's top level, or one of the tables in schema.
func (r *reader) table(parent string, table map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		full := keyOf(parent, name)
		i := slices.IndexFunc(schemaKeys, func(k string) bool { return k == full })
		if i < 0 {
			r.unknown(full, name, namesIn(parent), parent)
			continue
		}
		value := table[name]
		if want := schema[i]; want.shape == aTable {
			if sub, ok := value.(map[string]any); ok {
				r.table(full, sub)
			} else {
				r.wrong(full, fmt.Sprintf("%s: want a table [%s], not %s", full, full, kindOf(value)))
			}
		} else {
			r.value(full, value, want.set)
		}
	}
}

// namesIn are the names that a table may hold.
func namesIn(parent string) []string {
	var names []string
	for _, key := range schemaKeys {
		if parent == "" && !strings.Contains(key, ".") {
			names = append(names, key)
		} else if name, ok := strings.CutPrefix(key, parent+"."); ok && parent != "" && !strings.Contains(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// unknown says what was probably meant: a name of this table, or the same name in another one.
func (r *reader) unknown(full, name string, known []string, parent string) {
	text := fmt.Sprintf("unknown key %q", name)
	if parent != "" {
		text += " in [" + parent + "]"
	}
	near := nearest(name, known)
	if near == "" {
		near = elsewhere(name)
	}
	if near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	text += " (" + strings.Join(known, ", ") + ")"
	line, col := r.doc.keyPlace(full)
	r.mistakes = append(r.mistakes, Mistake{Line: line, Col: col, Text: text})
}

// elsewhere is the only key of any table that ends with a name, "" when there are several.
func elsewhere(name string) string {
	found := ""
	for _, key := range schemaKeys {
		if strings.HasSuffix(key, "."+name) {
			if found != "" {
				return ""
			}
			found = key
		}
	}
	return found
}

func (r *reader) wrong(key, text string) {
	line, col := r.doc.valuePlace(key)
	r.mistakes = append(r.mistakes, Mistake{Line: line, Col: col, Text: text})
}

// value hands one value to its setter.
func (r *reader) value(key string, value any, set func(*Profile, *change)) {
	c := &change{key: key, value: value, base: r.base, partial: len(r.doc.mistakes) > 0, origin: r.origin}
	if key == "mount" {
		r.mounts(c, value)
	} else {
		set(r.profile, c)
	}
	if len(c.wrong) > 0 && r.failed != nil {
		r.failed[key] = true
	}
	for _, w := range c.wrong {
		if w.atKey {
			line, col := r.doc.keyPlace(w.key)
			r.mistakes = append(r.mistakes, Mistake{Line: line, Col: col, Text: w.text})
			continue
		}
		r.wrong(w.key, w.text)
	}
}

func (r *reader) origin(key string) Origin {
	line, col := r.doc.valuePlace(key)
	return Origin{Kind: r.kind, File: r.file, Line: line, Col: col}
}

// mounts goes through [[mount]]; a plain array of inline tables is the same.
func (r *reader) mounts(c *change, value any) {
	list, ok := tablesOf(value)
	if !ok {
		c.fail("mount", "mount: want [[mount]] tables, not "+kindOf(value))
		return
	}
	for i, table := range list {
		key := elementOf("mount", i)
		for _, name := range slices.Sorted(maps.Keys(table)) {
			if !slices.Contains(mountKeys, name) {
				r.unknown(keyOf(key, name), name, mountKeys, "[mount]")
			}
		}
		one := &change{key: key, value: table, base: c.base, partial: c.partial, origin: c.origin}
		addMount(r.profile, one)
		c.wrong = append(c.wrong, one.wrong...)
	}
}

func tablesOf(value any) ([]map[string]any, bool) {
	switch v := value.(type) {
	case []map[string]any:
		return v, true
	case []any:
		list := make([]map[string]any, len(v))
		for i := range v {
			table, ok := v[i].(map[string]any)
			if !ok {
				return nil, false
			}
			list[i] = table
		}
		return list, true
	}
	return nil, false
}

// kindOf names the type of a decoded value as a person would.
func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	case int, int64:
		return "an integer"
	case float64:
		return "a number"
	case time.Time:
		return "a date or time"
	case []any, []string:
		return "an array"
	case map[string]any:
		return "a table"
	case []map[string]any:
		return "an array of tables"
	}
	return fmt.Sprintf("a %T", value)
}

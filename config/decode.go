package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// shape is what a key holds, for the JSON Schema that editors use; the key's setter has the last word. Words of which a
// value must be one are the setter's own, see wordsOf.
type shape struct {
	form form
	like string          // what a string, or each of the strings, is like: a regular expression that JavaScript and RE2 both know
	some func() []string // words that an editor may offer, besides what like takes
	from float64         // of a number, or of each of the numbers
	to   float64         // 0: no bound
}

type form int

const (
	isTable form = iota
	isText
	isTruth
	isNumber
	isTexts
	isTextOrTexts // one string stands for an array of one
	isWhole       // an integer
	isWholes
	isTables
	isNamed // a table of strings
)

// The plain shapes.
var (
	aTable      = shape{form: isTable}
	aString     = shape{form: isText}
	aBool       = shape{form: isTruth}
	someStrings = shape{form: isTexts}
	someTables  = shape{form: isTables} // [[mount]]
	namedValues = shape{form: isNamed}  // env.set
)

// What several keys hold.
const (
	nonEmpty    = `^[^\x00]+$`
	aPathInside = `^(/[^\x00]*|~(/[^\x00]*)?)$`
	aHost       = `^(\*|(\*\.)?[^\s:/*]+|[0-9A-Fa-f:.]+(/[0-9]+)?|\[[0-9A-Fa-f:.]+(/[0-9]+)?\])(:[0-9]+(-[0-9]+)?)?(/(tcp|udp))?$`
)

// schema is every key there is, in the order in which they are shown. A key that does nothing is not known.
var schema = []struct {
	key   string
	shape shape
	set   func(*Profile, *change)
}{
	{"image", shape{form: isText, like: nonEmpty}, setImage},
	{"verify", shape{form: isTexts, like: nonEmpty}, setVerify},
	{"command", someStrings, setCommand},
	{"user", aString, setUser},
	{"setup", shape{form: isTexts, like: nonEmpty}, setSetup},
	{"setup_network", shape{form: isTexts, like: aHost}, setSetupNetwork},
	{"persist", aBool, setPersist},
	{"workspace", aTable, nil},
	{"workspace.mode", aString, setWorkspaceMode},
	{"workspace.at", shape{form: isText, like: `^(/[^\x00]+)?$`}, setWorkspaceAt},
	{"workspace.protect", shape{form: isTexts, like: `^[^/~\x00][^\x00]*$`}, setProtect},
	{"workspace.repository", aString, setWorkspaceRepository},
	{"home", aTable, nil},
	{"home.mode", aString, setHomeMode},
	{"home.dotfiles", shape{form: isTexts, like: `^[^/~\x00][^\x00]*$`}, setDotfiles},
	{"mount", someTables, addMount},
	{"mount.source", shape{form: isText, like: `^(/|~(/|$)|\.\.?(/|$))[^\x00]*$`}, nil},
	{"mount.target", shape{form: isText, like: aPathInside}, nil},
	{"mount.mode", aString, nil},
	{"env", aTable, nil},
	{"env.set", namedValues, setEnvSet},
	{"env.pass", shape{form: isTexts, like: `^[^=\x00]+$`}, setEnvPass},
	{"network", aTable, nil},
	{"network.mode", aString, setNetworkMode},
	{"network.allow", shape{form: isTexts, like: aHost}, setAllow},
	{"network.deny", shape{form: isTexts, like: aHost}, setDeny},
	{"network.publish", shape{form: isTextOrTexts, like: `^(auto|((\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?([0-9]+(-[0-9]+)?:)?[0-9]+(-[0-9]+)?(/(tcp|udp))?)$`, some: func() []string { return []string{"auto"} }}, setPublish},
	{"network.host_ports", shape{form: isWholes, from: 1, to: 65535}, setHostPorts},
	{"network.proxy", aBool, setProxy},
	{"network.driver", aString, setDriver},
	{"limits", aTable, nil},
	{"limits.memory", shape{form: isText, like: `^[0-9.]+([bB]|[kKmMgGtT]([iI][bB]?)?)?$`}, setMemory},
	{"limits.cpus", shape{form: isNumber, from: 0, to: 1 << 20}, setCPUs},
	{"limits.pids", shape{form: isWhole, from: -1, to: 1 << 22}, setPIDs},
	{"limits.timeout", shape{form: isText, like: `^[+-]?([0-9.]+|([0-9.]+(ns|us|µs|μs|ms|s|m|h))+)$`}, setTimeout},
	{"security", aTable, nil},
	{"security.caps", shape{form: isTexts, like: `^([Cc][Aa][Pp]_)?[A-Za-z_]+$`, some: capWords}, setCaps},
	{"security.new_privileges", aBool, setNewPrivileges},
	{"security.nested", aBool, setNested},
	{"security.seccomp", shape{form: isText, like: `^[^\x00]*$`}, setSeccomp},
	{"host", aTable, nil},
	{"host.ssh_agent", aTable, nil},
	{"host.ssh_agent.keys", shape{form: isTexts, like: nonEmpty}, setSSHKeys},
	{"host.ssh_agent.confirm", aBool, setSSHConfirm},
	{"host.git", aTable, nil},
	{"host.git.identity", aBool, setGitIdentity},
	{"host.git.credentials", shape{form: isTexts, like: `^[a-z0-9][a-z0-9.-]*(:[0-9]+)?$`}, setGitCredentials},
	{"host.browser", aBool, setBrowser},
	{"host.notify", aBool, setNotify},
	{"host.wayland", aBool, setWayland},
	{"host.gpu", shape{form: isTexts, like: `^(dri|nvidia|[A-Za-z0-9._-]+/[A-Za-z0-9._-]+=[A-Za-z0-9._:-]+)$`}, setGPU},
	{"host.audio", aString, setAudio},
	{"host.x11", aString, setX11},
	{"trust", aTable, nil},
	{"trust.registries", shape{form: isTexts, like: `^(\*\.)?[A-Za-z0-9.:\[\]-]+(/[a-z0-9._/-]+)?$`}, setTrustRegistries},
	{"trust.hosts", shape{form: isTexts, like: aHost}, setTrustHosts},
	{"trust.paths", shape{form: isTexts, like: `^(/|~(/|$))[^\x00]*$`}, setTrustPaths},
}

// ownTable is the table that a user's own config.toml alone may have: a project does not say what its user trusts.
const ownTable = "trust"

var schemaKeys = func() []string {
	names := make([]string, len(schema))
	for i, s := range schema {
		names[i] = s.key
	}
	return names
}()

var mountKeys = keysBelow("mount")

// keysBelow are the names of the keys of a table.
func keysBelow(parent string) []string {
	var names []string
	for _, s := range schema {
		if name, ok := strings.CutPrefix(s.key, parent+"."); ok {
			names = append(names, name)
		}
	}
	return names
}

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
func (r *reader) table(parent string, tree map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		full := keyOf(parent, name)
		i := slices.IndexFunc(schemaKeys, func(k string) bool { return k == full })
		if i < 0 {
			r.unknown(full, name, r.namesIn(parent), parent)
			continue
		}
		if full == ownTable && r.kind != FromUser {
			line, col := r.doc.keyPlace(full)
			r.mistakes = append(r.mistakes, Mistake{Line: line, Col: col,
				Text: "[" + full + "]: a project does not say what its user trusts; this table is for your own config.toml, see `cove help trust`"})
			continue
		}
		value := tree[name]
		if want := schema[i]; want.shape.form == isTable {
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

// namesIn are the names that a table of this file may hold.
func (r *reader) namesIn(parent string) []string {
	var names []string
	for _, key := range schemaKeys {
		if key == ownTable && r.kind != FromUser {
			continue
		}
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

package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Setting is one value of a profile, for showing.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"` // string, bool, []string, int64, float64
	Origin Origin `json:"origin"`
}

// String is the setting as a line of TOML.
func (s Setting) String() string { return s.Key + " = " + showValue(s.Value) }

// Show is every value in the order of the manual; mounts and variables one by one.
func (p *Profile) Show() []Setting {
	var all []Setting
	put := func(key string, value any) {
		all = append(all, Setting{Key: key, Value: value, Origin: p.OriginOf(key)})
	}
	put("image", p.Image)
	for _, d := range p.Verify {
		all = append(all, Setting{Key: "verify", Value: d.Files(), Origin: d.Origin})
	}
	if len(p.Verify) == 0 {
		put("verify", []string{})
	}
	put("command", list(p.Command))
	put("user", p.User)
	put("setup", list(p.Setup))
	if p.SetupNetwork != nil {
		put("setup_network", texts(p.SetupNetwork))
	}
	put("persist", p.Persist)
	put("workspace.mode", p.Workspace.Mode)
	put("workspace.at", p.Workspace.At)
	put("workspace.protect", list(p.Workspace.Protect))
	put("workspace.repository", p.Workspace.Repository)
	put("home.mode", p.Home.Mode)
	dotfiles := []string{}
	for _, d := range p.Home.Dotfiles {
		dotfiles = append(dotfiles, d.Name)
	}
	put("home.dotfiles", dotfiles)
	for i, m := range p.Mounts {
		key := elementOf("mount", i)
		put(key+".source", m.Source)
		put(key+".target", m.Target)
		put(key+".mode", m.Mode)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Env.Set)) {
		put(keyOf("env.set", name), p.Env.Set[name])
	}
	put("env.pass", list(p.Env.Pass))
	put("network.mode", p.Network.Mode)
	publish := []string{}
	if p.Network.PublishAuto {
		publish = append(publish, "auto")
	}
	for _, one := range p.Network.Publish {
		publish = append(publish, one.String())
	}
	put("network.publish", publish)
	if p.Network.Allow != nil {
		put("network.allow", texts(p.Network.Allow))
	}
	put("network.deny", texts(p.Network.Deny))
	put("network.host_ports", list(ports(p.Network.HostPorts)))
	put("network.proxy", p.Network.Proxy)
	put("network.driver", p.Network.Driver)
	put("limits.memory", ShowSize(p.Limits.MemoryBytes))
	put("limits.cpus", p.Limits.CPUs)
	put("limits.pids", p.Limits.PIDs)
	put("limits.timeout", ShowTime(p.Limits.Timeout))
	put("security.caps", list(p.Security.Caps))
	put("security.new_privileges", p.Security.NewPrivileges)
	put("security.nested", p.Security.Nested)
	put("security.seccomp", p.Security.Seccomp.File)
	p.showIntegrations(put)
	for _, l := range []struct {
		key  string
		list []string
	}{{"trust.registries", p.Approved.Registries}, {"trust.hosts", texts(p.Approved.Hosts)}, {"trust.paths", p.Approved.pathTexts()}} {
		if len(l.list) > 0 {
			put(l.key, l.list)
		}
	}
	return all
}

// list is never nil: JSON would have null.
func list(values []string) []string {
	if values == nil {
		return []string{}
	}
	return values
}

func texts(entries []Egress) []string {
	out := []string{}
	for _, e := range entries {
		out = append(out, e.String())
	}
	return out
}

func ports(numbers []uint16) []string {
	var out []string
	for _, n := range numbers {
		out = append(out, strconv.Itoa(int(n)))
	}
	return out
}

// showValue is a value as TOML has it. What a terminal would act on is escaped.
func showValue(value any) string {
	switch v := value.(type) {
	case string:
		return tomlString(v)
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = tomlString(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = showValue(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any, []map[string]any:
		return "{...}"
	}
	return fmt.Sprint(value)
}

// tomlString quotes for TOML, which knows \u and \U but neither \a nor \v. A byte that is no UTF-8 cannot be written in
// TOML and is shown as Go has it.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case Visible(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			b.WriteString(`\u` + strings.ToUpper(fmt.Sprintf("%04s", strconv.FormatInt(int64(r), 16))))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// TOML is a value as a profile has it: a string, a list of strings.
func TOML(value any) string { return showValue(value) }

// TOMLKey is one part of a key as a profile has it.
func TOMLKey(part string) string {
	if isBare(part) {
		return part
	}
	return tomlString(part)
}

package config

import (
	"path/filepath"
	"strings"
)

// addMount checks one mount and appends it. It takes the place of one that was laid below at the same target.
func addMount(p *Profile, c *change) {
	table, ok := c.value.(map[string]any)
	if !ok {
		c.bad(c.key, c.value, "want a table with source, target and mode, not %s", kindOf(c.value))
		return
	}
	m := Mount{Mode: "rw"}
	part := func(name string, read func(string) (string, error)) string {
		key := c.key + "." + name
		value, there := table[name]
		if !there {
			if name != "mode" && !c.partial {
				c.wrong = append(c.wrong, wrong{key: c.key, text: c.key + ": " + name + " is missing", atKey: true})
			}
			ok = ok && name == "mode"
			return m.Mode
		}
		one := &change{key: key, value: value}
		text, isText := one.text()
		if isText {
			parsed, err := read(text)
			if err == nil {
				return parsed
			}
			one.bad(key, text, "%v", err)
		}
		c.wrong = append(c.wrong, one.wrong...)
		ok = false
		return ""
	}
	m.Source = part("source", func(s string) (string, error) { return parseSource(s, c.base, p.home) })
	m.Target = part("target", parseTarget)
	m.Mode = part("mode", func(s string) (string, error) {
		one := &change{key: c.key + ".mode", value: s}
		word, right := one.choice("mode", "rw", "ro")
		if !right {
			c.wrong, c.words = append(c.wrong, one.wrong...), one.words
			ok = false
		}
		return word, nil
	})
	if ok {
		p.putMount(m, c)
	}
}

func (p *Profile) putMount(m Mount, c *change) {
	for i, other := range p.Mounts {
		if other.Target != m.Target {
			continue
		}
		was := p.OriginOf(elementOf("mount", i))
		if now := c.origin(c.key); was.rank() == now.rank() {
			c.bad(c.key+".target", m.Target, "something is already mounted there (%s)", p.briefly(was))
			return
		}
		p.Mounts = append(p.Mounts[:i:i], p.Mounts[i+1:]...)
		p.forgetElement("mount", i)
		break
	}
	// The source is the real one: what is shown and agreed to is what will be mounted, whatever becomes of a link.
	real, ok := pathFor(c.origin(c.key).Kind, m.Source)
	if ok {
		m.Source = real
	}
	m.Within = ok && p.Dir != "" && inside(p.Dir, m.Source)
	key := elementOf("mount", len(p.Mounts))
	p.Mounts = append(p.Mounts, m)
	p.Origin[key] = c.origin(c.key)
	for _, sub := range []string{".source", ".target", ".mode"} {
		p.Origin[key+sub] = c.origin(c.key + sub)
	}
}

// realPath follows the links of a path as far as it exists. It is false when nobody can say where the path leads: at a
// link to nothing, or where a folder on the way cannot be read.
func realPath(path string) (string, bool) {
	missing := ""
	for at := path; ; at = filepath.Dir(at) {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			return filepath.Join(real, missing), true
		}
		if !isAbsent(at) || at == "/" {
			return path, false
		}
		missing = filepath.Join(filepath.Base(at), missing)
	}
}

// inside says whether a clean absolute path is dir or lies in it.
func inside(dir, path string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

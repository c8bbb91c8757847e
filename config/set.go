package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// change is one value on its way into a profile, from a file or a flag.
type change struct {
	key     string
	value   any
	base    string // what relative paths are relative to, "" when there must be none
	add     bool   // a list grows instead of being replaced
	partial bool   // parts of the file were left out: what is missing may have been there
	origin  func(key string) Origin
	items   []int    // of each element that comes of it, which one of the list it was written as; nil: the same
	words   []string // what choice knew
	wrong   []wrong
}

// wrong is a mistake in a value, or with atKey in its name.
type wrong struct {
	key, text string
	atKey     bool
}

func (c *change) fail(key, text string) { c.wrong = append(c.wrong, wrong{key: key, text: text}) }

// bad says which value of which key is wrong, and why.
func (c *change) bad(key string, value any, format string, args ...any) {
	c.fail(key, fmt.Sprintf("%s = %s: %s", key, showValue(value), fmt.Sprintf(format, args...)))
}

// Set lays a value over the profile: how flags get above the files. It takes the keys of the profile ("network.mode"),
// "env.set.NAME" for one variable, and "mount" with a Mount, which is added to those that are there. Values are what
// the file would hold (string, bool, []string, map[string]string). They are checked as the file's are; what only shows
// when everything is known (a port published twice, say) is for Check.
func (p *Profile) Set(key string, value any, origin Origin) error {
	return p.change(&change{key: key, value: value}, origin)
}

func (p *Profile) change(c *change, origin Origin) error {
	c.base = p.cwd
	c.origin = func(string) Origin { return origin }
	set := setterOf(c)
	if set == nil {
		c.fail(c.key, fmt.Sprintf("unknown key %q%s", c.key, didYouMean(c.key, schemaKeys)))
	} else {
		set(p, c)
	}
	if len(c.wrong) == 0 {
		return nil
	}
	e := &ProfileError{}
	for _, w := range c.wrong {
		e.Mistakes = append(e.Mistakes, Mistake{Flag: origin.Flag, File: origin.File, Line: origin.Line, Col: origin.Col, Text: w.text})
	}
	return e
}

func setterOf(c *change) func(*Profile, *change) {
	if name, ok := strings.CutPrefix(c.key, "env.set."); ok {
		c.key, c.value = "env.set", map[string]any{name: c.value}
	}
	if m, ok := c.value.(Mount); ok && c.key == "mount" {
		c.value = map[string]any{"source": m.Source, "target": m.Target, "mode": m.Mode}
		if m.Mode == "" {
			c.value = map[string]any{"source": m.Source, "target": m.Target}
		}
	}
	for _, s := range schema {
		if s.key == c.key {
			return s.set
		}
	}
	return nil
}

// text is the value as a string; wrong types are told here.
func (c *change) text() (string, bool) {
	s, ok := c.value.(string)
	if !ok {
		c.bad(c.key, c.value, "want a string, not %s", kindOf(c.value))
	}
	return s, ok
}

// list is the value as strings. What is no string is told and left out.
func (c *change) list(example string) ([]string, bool) {
	switch v := c.value.(type) {
	case []string:
		return v, true
	case []any:
		list := make([]string, 0, len(v))
		for i, e := range v {
			if s, ok := e.(string); ok {
				list = append(list, s)
			} else {
				c.bad(elementOf(c.key, i), e, "want a string, not %s", kindOf(e))
			}
		}
		return list, len(list) == len(v)
	}
	c.bad(c.key, c.value, "want an array of strings such as %s, not %s", example, kindOf(c.value))
	return nil, false
}

// choice is the value as one of a few words.
func (c *change) choice(what string, words ...string) (string, bool) {
	c.words = words
	s, ok := c.text()
	if ok && !slices.Contains(words, s) {
		c.bad(c.key, s, "unknown %s%s", what, didYouMean(s, words))
		return "", false
	}
	return s, ok
}

// from notes where the value came from, and for a list where each element did.
func (c *change) from(p *Profile) { p.Origin[c.key] = c.origin(c.key) }

func (c *change) fromElements(p *Profile, before, after int) {
	if before == 0 {
		for key := range p.Origin {
			if strings.HasPrefix(key, c.key+"[") {
				delete(p.Origin, key)
			}
		}
		c.from(p)
	}
	for i := before; i < after; i++ {
		item := i - before
		if c.items != nil {
			item = c.items[item]
		}
		p.Origin[elementOf(c.key, i)] = c.origin(elementOf(c.key, item))
	}
}

// replace sets a list, or with add appends to it.
func replace[E any](p *Profile, c *change, list *[]E, with []E) {
	before := 0
	if c.add {
		before = len(*list)
		with = append(slices.Clone(*list), with...)
	}
	*list = slices.Clone(with)
	if *list == nil {
		*list = []E{}
	}
	c.fromElements(p, before, len(with))
}

// setEach sets a list, each element of which is read by itself.
func setEach[E any](p *Profile, c *change, into *[]E, example string, read func(string) (E, error)) {
	list, ok := c.list(example)
	all := make([]E, 0, len(list))
	for i, s := range list {
		one, err := read(s)
		if err != nil {
			c.bad(elementOf(c.key, i), s, "%v", err)
			ok = false
		}
		all = append(all, one)
	}
	if ok {
		replace(p, c, into, all)
	}
}

func setImage(p *Profile, c *change) {
	s, ok := c.text()
	if !ok {
		return
	}
	image, err := parseImage(s, c.base, p.home)
	if err != nil {
		c.bad(c.key, s, "%v", err)
		return
	}
	if dir, isDir := strings.CutPrefix(image, "dir:"); isDir {
		if real, ok := pathFor(c.origin(c.key).Kind, dir); ok {
			image = "dir:" + real // what is shown and agreed to is what will be used, whatever becomes of a link
		}
	}
	p.Image, p.imageText = image, s
	c.from(p)
}

func setCommand(p *Profile, c *change) {
	list, ok := c.list(`["bash", "-l"]`)
	if !ok {
		return
	}
	if len(list) == 0 || list[0] == "" {
		c.bad(c.key, list, "names no program")
		return
	}
	for i, s := range list {
		if strings.Contains(s, "\x00") {
			c.bad(elementOf(c.key, i), s, "holds a NUL")
			ok = false
		}
	}
	if ok {
		replace(p, c, &p.Command, list)
	}
}

func setUser(p *Profile, c *change) {
	if s, ok := c.choice("user", "root", "me", "image"); ok {
		p.User = s
		c.from(p)
	}
}

func setWorkspaceMode(p *Profile, c *change) {
	if s, ok := c.choice("mode", "rw", "ro", "review", "none"); ok {
		p.Workspace.Mode = s
		c.from(p)
	}
}

func setWorkspaceRepository(p *Profile, c *change) {
	if s, ok := c.choice("mode", "auto", "rw", "ro", "none"); ok {
		p.Workspace.Repository = s
		c.from(p)
	}
}

func setWorkspaceAt(p *Profile, c *change) {
	s, ok := c.text()
	if !ok {
		return
	}
	if s != "" {
		if err := checkTarget(s); err != nil {
			c.bad(c.key, s, "%v", err)
			return
		}
	}
	p.Workspace.At = s
	c.from(p)
}

func setProtect(p *Profile, c *change) {
	setEach(p, c, &p.Workspace.Protect, `[".git/hooks"]`, parseProtect)
}

func setHomeMode(p *Profile, c *change) {
	if s, ok := c.choice("mode", "project", "temp"); ok {
		p.Home.Mode = s
		c.from(p)
	}
}

// setEnvSet merges by name. A variable that is set here is no longer passed because of something laid below.
func setEnvSet(p *Profile, c *change) {
	table, ok := c.value.(map[string]any)
	if !ok {
		if named, isStrings := c.value.(map[string]string); isStrings {
			table = map[string]any{}
			for name, value := range named {
				table[name] = value
			}
		} else {
			c.bad(c.key, c.value, `want a table such as { CGO_ENABLED = "0" }, not %s`, kindOf(c.value))
			return
		}
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		key := keyOf(c.key, name)
		value, isString := table[name].(string)
		switch {
		case !isString:
			c.bad(key, table[name], "want a string, not %s", kindOf(table[name]))
		case strings.Contains(value, "\x00"):
			c.bad(key, value, "holds a NUL")
		case checkEnvName(name) != nil:
			c.wrong = append(c.wrong, wrong{key: key, text: key + ": " + checkEnvName(name).Error(), atKey: true})
		default:
			p.setEnv(name, value, key, c.origin(key))
		}
	}
}

func (p *Profile) setEnv(name, value, key string, origin Origin) {
	if i := slices.Index(p.Env.Pass, name); i >= 0 && p.OriginOf(elementOf("env.pass", i)).rank() < origin.rank() {
		p.Env.Pass = slices.Delete(p.Env.Pass, i, i+1)
		p.forgetElement("env.pass", i)
	}
	p.Env.Set[name] = value
	p.Origin[key] = origin
}

// setEnvPass replaces. A variable that is passed here is no longer set because of something laid below.
func setEnvPass(p *Profile, c *change) {
	list, ok := c.list(`["EDITOR"]`)
	for i, name := range list {
		if err := checkEnvName(name); err != nil {
			c.bad(elementOf(c.key, i), name, "%v", err)
			ok = false
		} else if slices.Contains(list[:i], name) {
			c.bad(elementOf(c.key, i), name, "is already in the list")
			ok = false
		}
	}
	if !ok {
		return
	}
	for i, name := range list {
		key := keyOf("env.set", name)
		if _, set := p.Env.Set[name]; set && p.OriginOf(key).rank() < c.origin(elementOf(c.key, i)).rank() {
			delete(p.Env.Set, name)
			delete(p.Origin, key)
		}
	}
	if c.add {
		list = slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(p.Env.Pass, name) })
	}
	replace(p, c, &p.Env.Pass, list)
}

func setNetworkMode(p *Profile, c *change) {
	if s, ok := c.choice("mode", "none", "user", "host"); ok {
		p.Network.Mode = s
		c.from(p)
	}
}

// publishAuto is where the origin of "auto" among network.publish is kept.
const publishAuto = "network.publish.auto"

func setPublish(p *Profile, c *change) {
	if c.value == "auto" {
		c.value = []string{"auto"}
	}
	list, ok := c.list(`["8080:80"]`)
	all := make([]Publish, 0, len(list))
	auto := false
	for i, s := range list {
		if s == "auto" {
			auto = true
			continue
		}
		some, err := ParsePublishes(s)
		if err != nil {
			c.bad(elementOf(c.key, i), s, "%v", err)
			ok = false
		}
		if len(all)+len(some) > maxPublish {
			c.bad(elementOf(c.key, i), s, "with it there are more than %d ports", maxPublish)
			return
		}
		for _, one := range some { // a range is several
			if c.add && slices.Contains(p.Network.Publish, one) {
				continue // asked for in the file, and again by hand
			}
			all, c.items = append(all, one), append(c.items, i)
		}
	}
	if ok {
		p.Network.PublishAuto = auto || c.add && p.Network.PublishAuto
		if auto { // its origin is its own: what is added by hand beside it is no word on it
			p.Origin[publishAuto] = c.origin(c.key)
		}
	}
	if ok {
		replace(p, c, &p.Network.Publish, all)
	}
}

func setAllow(p *Profile, c *change) {
	setEgress(p, c, &p.Network.Allow, `["proxy.golang.org", "*.debian.org:80"]`)
}

func setDeny(p *Profile, c *change) { setEgress(p, c, &p.Network.Deny, `["ads.example.com"]`) }

func setEgress(p *Profile, c *change, into *[]Egress, example string) {
	setEach(p, c, into, example, ParseEgress)
}

// setHostPorts takes integers, and from a flag strings.
func setHostPorts(p *Profile, c *change) {
	var all []uint16
	ok := true
	one := func(i int, value any, text string) {
		port, err := parsePort(text)
		if err != nil {
			c.bad(elementOf(c.key, i), value, "%v", err)
			ok = false
		}
		all = append(all, port)
	}
	switch list := c.value.(type) {
	case []string:
		for i, s := range list {
			one(i, s, s)
		}
	case []any:
		for i, v := range list {
			n, isInt := v.(int64)
			if !isInt {
				c.bad(elementOf(c.key, i), v, "want a port such as 5432, not %s", kindOf(v))
				ok = false
				continue
			}
			one(i, v, strconv.FormatInt(n, 10))
		}
	default:
		c.bad(c.key, c.value, "want an array of ports such as [5432], not %s", kindOf(c.value))
		return
	}
	if ok {
		replace(p, c, &p.Network.HostPorts, all)
	}
}

func setDriver(p *Profile, c *change) {
	if s, ok := c.choice("driver", "auto", "builtin", "slirp4netns", "pasta"); ok {
		p.Network.Driver = s
		c.from(p)
	}
}

func setCaps(p *Profile, c *change) {
	setEach(p, c, &p.Security.Caps, `["default"]`, parseCap)
}

func setProxy(p *Profile, c *change) { c.bool(p, &p.Network.Proxy) }

func setNewPrivileges(p *Profile, c *change) { c.bool(p, &p.Security.NewPrivileges) }

func setNested(p *Profile, c *change) { c.bool(p, &p.Security.Nested) }

func (c *change) bool(p *Profile, into *bool) {
	b, ok := c.value.(bool)
	if !ok {
		c.bad(c.key, c.value, "want true or false, not %s", kindOf(c.value))
		return
	}
	*into = b
	c.from(p)
}

// setSeccomp reads the file at once: what is agreed to is what will be used. "" is the default policy again.
func setSeccomp(p *Profile, c *change) {
	s, ok := c.text()
	if !ok {
		return
	}
	if s == "" {
		p.Security.Seccomp = Seccomp{}
		c.from(p)
		return
	}
	if !filepath.IsAbs(s) && !strings.HasPrefix(s, "~") && !strings.HasPrefix(s, "./") && !strings.HasPrefix(s, "../") {
		s = "./" + s // unlike a mount's source it can be nothing but a file
	}
	file, err := parseSource(s, c.base, p.home)
	var data []byte
	if err == nil {
		data, err = readNamed(file, c.origin(c.key))
	}
	if err != nil {
		c.bad(c.key, c.value, "%v", bare(err))
		return
	}
	p.Security.Seccomp = Seccomp{File: file, Data: data}
	c.from(p)
}

// forgetElement moves the origins of a list's later elements down, after element i was taken out.
func (p *Profile) forgetElement(list string, i int) {
	for ; ; i++ {
		moved := false
		for _, sub := range []string{"", ".source", ".target", ".mode"} {
			key, next := elementOf(list, i)+sub, elementOf(list, i+1)+sub
			delete(p.Origin, key)
			if o, ok := p.Origin[next]; ok {
				p.Origin[key], moved = o, true
			}
		}
		if !moved {
			return
		}
	}
}

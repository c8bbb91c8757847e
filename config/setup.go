package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// longestCommand is what a program can be given as one argument (MAX_ARG_STRLEN, execve(2)).
const longestCommand = 1<<17 - 1

// setSetup replaces the commands. An empty list, or from a flag one empty command, is none.
func setSetup(p *Profile, c *change) {
	list, ok := c.list(`["apt-get update && apt-get install -y make"]`)
	if c.origin(c.key).Kind == FromFlag && len(list) == 1 && list[0] == "" {
		list = nil
	}
	for i, s := range list {
		switch key := elementOf(c.key, i); {
		case strings.TrimSpace(s) == "":
			c.bad(key, s, "is no command")
			ok = false
		case strings.Contains(s, "\x00"):
			c.bad(key, s, "holds a NUL")
			ok = false
		case len(s) > longestCommand:
			c.fail(key, fmt.Sprintf("%s: longer than the %d bytes that a program can be given; put it into a file of the image", key, longestCommand))
			ok = false
		}
	}
	if ok {
		replace(p, c, &p.Setup, list)
	}
}

func setSetupNetwork(p *Profile, c *change) {
	setEgress(p, c, &p.SetupNetwork, `["deb.debian.org:80"]`)
}

func setPersist(p *Profile, c *change) { c.bool(p, &p.Persist) }

// filed is what the files say, before what is typed is laid over it: a setup of theirs has their network. What it makes
// is kept for everybody, and is not to depend on how the command was called that came first.
type filed struct {
	network Network
	origin  map[string]Origin
}

// file remembers that.
func (p *Profile) file() {
	if len(p.Setup) > 0 {
		p.filed = &filed{p.Network, maps.Clone(p.Origin)}
	}
}

// filedSetup tells whether setup is that of a file, with a network that may be another than what runs has.
func (p *Profile) filedSetup() bool {
	return len(p.Setup) > 0 && p.SetupNetwork == nil && p.filed != nil && p.OriginOf("setup").Kind != FromFlag
}

// ForSetup is the network that setup's commands have: what setup_network lists and nothing else, where it is there, or
// else the sandbox's own. Nothing listens while an image is set up, so nothing is published.
func (p *Profile) ForSetup() Network {
	n := p.Network
	if p.filedSetup() {
		n = p.filed.network
	}
	n.Publish, n.PublishAuto = nil, false
	switch {
	case p.SetupNetwork == nil:
		return n
	case len(p.SetupNetwork) == 0:
		return Network{Mode: "none", Driver: "auto"}
	}
	own := Network{Mode: "user", Driver: "auto", Allow: p.SetupNetwork}
	if n.Mode == "user" && n.Builtin() {
		own.Deny, own.Proxy = n.Deny, n.Proxy
	}
	return own
}

// SetupApart says what of the profile makes something else of the same commands, without that any of them fails: what they
// reach where that is listed for them, capabilities that no sandbox has by itself, and another policy of system calls, which can
// answer a call with success and do nothing. What was made under one of these is for nobody who has not asked for the same; ""
// where there is none. A limit that was reached makes nothing that is kept, and so has no part in it.
func (p *Profile) SetupApart() string {
	var b strings.Builder
	if p.SetupNetwork != nil {
		hosts := texts(p.SetupNetwork)
		slices.Sort(hosts)
		fmt.Fprintf(&b, "network %q\n", slices.Compact(hosts))
	}
	more := slices.DeleteFunc(ExpandCaps(p.Security.Caps), func(c string) bool { return slices.Contains(DefaultCaps(), c) })
	if len(more) > 0 {
		fmt.Fprintf(&b, "caps %q\n", more)
	}
	if s := p.Security.Seccomp; s.File != "" {
		fmt.Fprintf(&b, "seccomp %s\n", s.Digest())
	}
	return b.String()
}

// setupGrants are asked for in the order in which the commands are run. Each is shown whole: it is what is agreed to.
func (p *Profile) setupGrants(grant func(key, kind, format string, args ...any) *Grant) {
	for i, command := range p.Setup {
		grant(elementOf("setup", i), GrantSetup, "run once as root, in a copy of the image that is kept: %s", quotePlain(command))
	}
	if len(p.Setup) == 0 {
		return
	}
	// Where what was typed has narrowed the network, setup has all of it, and that is no less to be agreed to. What is the same
	// is in the list once.
	if p.filedSetup() {
		now := p.Origin
		p.Origin = p.filed.origin
		p.networkGrants(p.filed.network, grant)
		p.Origin = now
	}
	for i, e := range p.SetupNetwork {
		grant(elementOf("setup_network", i), GrantNetwork, "reach %s while the image is set up", quotePlain(e.String())).egress = &e
	}
}

// LockableSetup is setup as the project's profile has it, which is what a lock holds.
func (p *Profile) LockableSetup() []string {
	if p.OriginOf("setup").Kind != FromProfile {
		return nil
	}
	return p.Setup
}

// LockedSetup compares what is to be run with the lock, which may be nil.
func (p *Profile) LockedSetup(l *Lock) error {
	if l == nil || slices.Equal(l.Setup, p.Setup) {
		return nil
	}
	e := &LockError{File: p.shownAs(l.File)}
	switch o := p.OriginOf("setup"); {
	case len(l.Setup) == 0:
		e.Text = fmt.Sprintf("it has no setup, and there is one (%s)", p.briefly(o))
	case len(p.Setup) == 0:
		e.Text = "it has a setup, and the profile has none"
	default:
		e.Text = fmt.Sprintf("its setup is another one than that of %s", p.briefly(o))
		for i, s := range p.Setup {
			if i >= len(l.Setup) || l.Setup[i] != s {
				e.Text += fmt.Sprintf(", from command %d on", i+1)
				break
			}
		}
	}
	return e
}

// writeSetup writes a lock's setup, a command a line, so that what changed is what a diff shows.
func (l *Lock) writeSetup(b *strings.Builder) {
	if len(l.Setup) == 0 {
		return
	}
	b.WriteString("\n[setup]\ntext = [\n")
	for _, s := range l.Setup {
		fmt.Fprintf(b, "    %s,\n", tomlString(s))
	}
	b.WriteString("]\n")
}

// maxLockedSetup bounds the commands of a lock.
const maxLockedSetup = 10_000

// setup reads what writeSetup wrote.
func (r *lockReader) setup(l *Lock, value any) {
	if value == nil {
		return
	}
	table, ok := value.(map[string]any)
	if !ok {
		r.wrong("setup", "setup: want a table [setup]%s", butGot(value))
		return
	}
	r.known("setup", table, "text")
	list, ok := table["text"].([]any)
	switch {
	case !ok || len(list) == 0:
		r.wrong("setup.text", "setup.text: want a list of commands%s", butGot(table["text"]))
	case len(list) > maxLockedSetup:
		r.wrong("setup.text", "setup.text: more than %d commands", maxLockedSetup)
	default:
		for i, s := range list {
			l.Setup = append(l.Setup, r.text(elementOf("setup.text", i), s))
		}
	}
}

// SetupIn is the setup that a profile's file has now: ok is false where none can be told. It is for what is kept for that
// file, and checks nothing.
func SetupIn(file string) (text []string, ok bool) {
	data, err := readOwned(file, true)
	if err != nil {
		return nil, false
	}
	d := parseTOML(data)
	list, _ := d.tree["setup"].([]any)
	for _, v := range list {
		s, _ := v.(string)
		text = append(text, s)
	}
	return text, len(d.mistakes) == 0
}

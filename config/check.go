package config

import (
	"fmt"
	"slices"
	"strings"
)

// Check looks at what only shows when everything is known: values that are right alone and wrong together. Load has
// done it; call it again after Set. The error is a *ProfileError.
//
// Ports that a file publishes are dropped with a warning when a later word took the network away under them, and mounts of the
// project are held to a later word on the workspace.
func (p *Profile) Check() ([]Warning, error) {
	warnings, mistakes := p.check(nil)
	if len(mistakes) > 0 {
		return warnings, &ProfileError{File: p.File, Mistakes: mistakes}
	}
	return warnings, nil
}

// check leaves out what would only follow from a key that was wrong itself.
func (p *Profile) check(failed map[string]bool) (warnings []Warning, mistakes []Mistake) {
	wrong := func(key, format string, args ...any) {
		o := p.OriginOf(key)
		m := Mistake{Flag: o.Flag, Line: o.Line, Col: o.Col, Text: fmt.Sprintf(format, args...)}
		if o.File != "" {
			m.File = p.shownAs(o.File)
		}
		mistakes = append(mistakes, m)
	}
	if p.Network.Mode != "user" && !failed["network.mode"] && len(p.Network.Publish) > 0 {
		warnings = p.dropPublish()
		for i, one := range p.Network.Publish {
			key := elementOf("network.publish", i)
			wrong(key, `%s = %q: needs network.mode = "user"; the mode is %q`, key, one, p.Network.Mode)
		}
	}
	if p.Network.PublishAuto && p.Network.Mode != "user" && !failed["network.mode"] && p.OriginOf("network.mode").rank() < p.OriginOf(publishAuto).rank() {
		wrong(publishAuto, `network.publish = "auto": needs network.mode = "user"; the mode is %q`, p.Network.Mode)
	}
	if !failed["workspace.mode"] {
		warnings = append(warnings, p.narrowMounts()...)
	}
	taken := listeners{}
	for i, one := range p.Network.Publish {
		key := elementOf("network.publish", i)
		if j := taken.add(one, i); j >= 0 {
			first := elementOf("network.publish", j)
			wrong(key, "%s = %q: port %d is already taken by %s = %q", key, one, one.HostPort, first, p.Network.Publish[j])
		}
	}
	if !failed["network.mode"] && !failed["network.driver"] {
		p.checkEgress(wrong)
	}
	if c := opensNetwork(p.Security.Caps); p.Network.Mode == "user" && !p.Network.Builtin() && c != "" {
		key := "security.caps"
		for i, own := range p.Security.Caps {
			if own == c || own == "all" {
				key = elementOf(key, i)
				break
			}
		}
		wrong(key, `%s: %s does not go with network.driver = %q: private addresses could not be kept closed`, key, c, p.Network.Driver)
	}
	for i, m := range p.Mounts {
		if at := p.workspaceAt(); at != "" && m.Target == at {
			key := elementOf("mount", i) + ".target"
			wrong(key, "%s = %q: the workspace is mounted there", key, m.Target)
		}
	}
	if !failed["host.ssh_agent.keys"] {
		p.checkIntegrations(wrong)
	}
	if o := p.OriginOf("workspace.repository"); p.Workspace.Mode == "review" && p.Workspace.Repository == "rw" && o.Kind == FromFlag {
		wrong("workspace.repository", `workspace.repository = "rw": under review there is no view of it (ro, none)`)
	}
	if p.Dir == "" && p.Workspace.Mode != "none" && !failed["workspace.mode"] {
		wrong("workspace.mode", "workspace.mode = %q: there is no project folder here (none)", p.Workspace.Mode)
	}
	for i, name := range p.Env.Pass {
		if _, set := p.Env.Set[name]; set {
			key := elementOf("env.pass", i)
			wrong(key, "%s = %q: env.set has it too", key, name)
		}
	}
	if at := p.workspaceAt(); at != "" && p.Workspace.At == "" {
		// The same path as outside is a target like any other.
		if err := checkTarget(at); err != nil {
			wrong("workspace.mode", "the project folder %q cannot be at the same path inside: %v (workspace.at puts it elsewhere)", at, err)
		}
	}
	return warnings, mistakes
}

// checkEgress looks whether the network is one that can hold to a list.
func (p *Profile) checkEgress(wrong func(key, format string, args ...any)) {
	n := p.Network
	for _, l := range []struct {
		key   string
		given bool
	}{
		{"network.allow", n.Allow != nil}, {"network.deny", len(n.Deny) > 0}, {"network.host_ports", len(n.HostPorts) > 0},
		{"network.proxy", n.Proxy},
	} {
		switch {
		case !l.given:
		case n.Mode == "none":
			// A later word may take the network away under it.
			if p.OriginOf("network.mode").rank() < p.OriginOf(l.key).rank() {
				wrong(l.key, `%s: needs network.mode = "user"; the mode is "none"`, l.key)
			}
		case n.Mode == "host":
			wrong(l.key, `%s: needs network.mode = "user"; the mode "host" is this machine's own network, and nothing holds it to that`, l.key)
		case !n.Builtin():
			wrong(l.key, "%s: %s cannot hold to it; leave network.driver out", l.key, n.Driver)
		}
	}
}

// Builtin says whether the network of mode user is cove's own.
func (n Network) Builtin() bool { return n.Driver == "auto" || n.Driver == "builtin" }

// opensNetwork returns a capability among caps that undoes what closes a user-mode network inside: NET_ADMIN changes the
// routes and the packet filter, NET_RAW sends past both.
func opensNetwork(caps []string) string {
	caps = ExpandCaps(caps)
	for _, c := range []string{"NET_ADMIN", "NET_RAW"} {
		if slices.Contains(caps, c) {
			return c
		}
	}
	return ""
}

// workspaceAt is where the workspace is inside, "" when there is none.
func (p *Profile) workspaceAt() string {
	switch {
	case p.Dir == "" || p.Workspace.Mode == "none":
		return ""
	case p.Workspace.At != "":
		return p.Workspace.At
	}
	return p.Dir
}

// dropPublish takes out the ports that were laid below the word on the network.
func (p *Profile) dropPublish() []Warning {
	mode := p.OriginOf("network.mode").rank()
	var gone []string
	for i := 0; i < len(p.Network.Publish); {
		if p.OriginOf(elementOf("network.publish", i)).rank() >= mode {
			i++
			continue
		}
		gone = append(gone, p.Network.Publish[i].String())
		p.Network.Publish = slices.Delete(p.Network.Publish, i, i+1)
		p.forgetElement("network.publish", i)
	}
	if gone == nil {
		return nil
	}
	return []Warning{warn("not published, for the network is %s: %s", p.Network.Mode, strings.Join(gone, ", "))}
}

// narrowMounts holds the mounts of what is in the project to a word on the workspace that was laid over them: they are its files
// by another name.
func (p *Profile) narrowMounts() []Warning {
	mode, o := p.Workspace.Mode, p.OriginOf("workspace.mode")
	if mode != "ro" && mode != "none" {
		return nil
	}
	var told []Warning
	for i := 0; i < len(p.Mounts); i++ {
		m, key := &p.Mounts[i], elementOf("mount", i)
		if !m.Within || p.OriginOf(key).rank() >= o.rank() || m.Mode == mode {
			continue
		}
		if mode == "ro" {
			m.Mode, p.Origin[key+".mode"] = "ro", o
			told = append(told, warn("%s is read-only inside: it is of the project, which is read-only", quotePlain(m.Target)))
			continue
		}
		told = append(told, warn("%s is not inside: it is of the project, of which nothing is to be there", quotePlain(m.Target)))
		p.Mounts = slices.Delete(slices.Clone(p.Mounts), i, i+1)
		p.forgetElement("mount", i)
		i--
	}
	return told
}

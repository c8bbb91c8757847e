package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// The kinds of grant.
const (
	GrantMount         = "mount"
	GrantDotfile       = "dotfile"
	GrantNetwork       = "network"
	GrantEnv           = "env"
	GrantPublish       = "publish"
	GrantCap           = "cap"
	GrantNewPrivileges = "new_privileges"
	GrantNested        = "nested"
	GrantSeccomp       = "seccomp"
	GrantImage         = "image"
	GrantProtect       = "protect"
	GrantWorkspace     = "workspace"
	GrantLimit         = "limit"
	GrantHost          = "host"
	GrantGit           = "git"
	GrantSetup         = "setup"
)

// Grant is one wish of a profile that reaches past the project folder, or that lets what runs inside act later,
// outside. Two grants are the same when Kind and Text are, or for an image the Registry: which image is run is the
// project's business, once the user trusts where it comes from.
type Grant struct {
	Key      string `json:"key"`
	Kind     string `json:"kind"`
	Text     string `json:"text"`               // for a person; every value in it is quoted, and plain ASCII
	Registry string `json:"registry,omitempty"` // of an image: agreeing to it agrees to the registry
	About    string `json:"about,omitempty"`    // what of its kind it is about, where the same thing can be wanted otherwise
	Origin   Origin `json:"origin"`
	// ApprovedBy is the line of the user's own config.toml that says yes before it is asked.
	ApprovedBy *Origin `json:"approved_by,omitempty"`

	// What a pattern of the user's is held against.
	mount  *Mount
	egress *Egress
	image  string
}

// about names what a grant is about: a key that holds one value says it by itself.
func (g Grant) about() string {
	if g.About == "" && !strings.Contains(g.Key, "[") {
		return g.Key
	}
	return g.About
}

// identity is equal for grants that are the same.
type identity struct{ kind, registry, text string }

func (g Grant) identity() identity {
	if g.Registry != "" {
		return identity{kind: g.Kind, registry: g.Registry}
	}
	return identity{kind: g.Kind, text: g.Text}
}

// identities are those of grants, of which there may be one for each port there is.
func identities(grants []Grant) map[identity]bool {
	all := make(map[identity]bool, len(grants))
	for _, g := range grants {
		all[g.identity()] = true
	}
	return all
}

// Grants is everything that the project's profile wants and that its user has to agree to. What the user wrote into the
// own config.toml or typed is no grant. A registry's image is always in the list; Trust knows which registries are
// approved.
func (p *Profile) Grants() []Grant {
	return p.reaches(func(o Origin) bool { return o.Kind == FromProfile })
}

// Reaches is what Grants is, whoever wants it: the profile, its user's own config.toml, or what was typed.
func (p *Profile) Reaches() []Grant { return p.reaches(func(Origin) bool { return true }) }

func (p *Profile) reaches(from func(Origin) bool) []Grant {
	var all []Grant
	grant := func(key, kind, format string, args ...any) *Grant {
		o := p.OriginOf(key)
		if !from(o) {
			return &Grant{}
		}
		all = append(all, Grant{Key: key, Kind: kind, Text: fmt.Sprintf(format, args...), Origin: o})
		return &all[len(all)-1]
	}
	p.imageGrant(grant)
	p.setupGrants(grant)
	for i, m := range p.Mounts {
		key := elementOf("mount", i)
		if !m.Within {
			g := grant(key, GrantMount, "%s the file or folder %s of this machine, as %s inside%s", readOrWrite(m.Mode), quotePlain(m.Source), quotePlain(m.Target), p.secretMount(m.Source))
			g.mount, g.About = &m, m.Target
			continue
		}
		p.projectMountGrant(m, key, grant)
		// Under review what shows the project is read-only, whatever the mount says.
		if protected := p.uncovers(m); protected != "" && p.Workspace.Mode != "review" {
			grant(key, GrantProtect, "write %s of the project, which acts later, outside, through the mount at %s", quotePlain(protected), quotePlain(m.Target))
		}
	}
	p.dotfileGrants(grant)
	if g, ok := p.repositoryGrant(from); ok {
		all = append(all, g)
	}
	p.workspaceGrants(grant)
	for i, name := range p.Env.Pass {
		grant(elementOf("env.pass", i), GrantEnv, "read your environment variable %s", quotePlain(name))
	}
	p.networkGrants(p.Network, grant)
	if p.Network.PublishAuto {
		grant(publishAuto, GrantPublish, "listen on 127.0.0.1 of this machine for every port that is listened on inside")
	}
	for i, one := range p.Network.Publish {
		grant(elementOf("network.publish", i), GrantPublish, "listen on %s of this machine and hand it to port %d/%s inside", quotePlain(hostSide(one)), one.ContainerPort, one.Proto)
	}
	p.limitGrants(grant)
	p.capGrants(grant)
	if p.Security.NewPrivileges {
		grant("security.new_privileges", GrantNewPrivileges, "gain privileges from setuid programs and file capabilities")
	}
	if p.Security.Nested {
		grant("security.nested", GrantNested, "make sandboxes inside, with user namespaces and mounts, which opens more of the kernel to attack")
	}
	if s := p.Security.Seccomp; s.File != "" {
		grant("security.seccomp", GrantSeccomp, "be held to the system calls that %s (%s) allows instead of docker's", quotePlain(s.File), s.Digest())
	} else if p.own != nil && p.own.seccomp.File != "" {
		grant("security.seccomp", GrantSeccomp, "be held to docker's system calls instead of those that your own %s allows", quotePlain(p.own.seccomp.File))
	}
	p.integrationGrants(grant)
	have := map[identity]bool{}
	var once []Grant
	for _, g := range all {
		if id := g.identity(); !have[id] {
			have[id], once = true, append(once, g)
		}
	}
	return once
}

// networkGrants are for what can be reached.
func (p *Profile) networkGrants(n Network, grant func(key, kind, format string, args ...any) *Grant) {
	switch n.Mode {
	case "user":
		switch {
		case n.Allow == nil:
			grant("network.mode", GrantNetwork, "use the network, private addresses excepted (mode %s)", quotePlain("user"))
		case p.own != nil && p.own.network.Mode == "none" && len(p.own.network.Allow)+len(p.own.network.HostPorts) > 0:
			grant("network.mode", GrantNetwork, "use the network, which your own config.toml keeps closed (mode %s)", quotePlain("user"))
		}
		p.denyGrants(n, grant)
		for i, e := range n.Allow {
			grant(elementOf("network.allow", i), GrantNetwork, "reach %s", quotePlain(e.String())).egress = &e
		}
		if n.Proxy {
			grant("network.proxy", GrantNetwork, "connect through the proxy that your environment names, with what it holds of passwords")
		}
		for i, port := range n.HostPorts {
			grant(elementOf("network.host_ports", i), GrantNetwork, "reach port %d of this machine's loopback", port)
		}
	case "host":
		grant("network.mode", GrantNetwork, "use this machine's own network, with everything that listens on it (mode %s)", quotePlain("host"))
	}
}

func readOrWrite(mode string) string {
	if mode == "ro" {
		return "read"
	}
	return "read and write"
}

func hostSide(one Publish) string {
	text := one.String()
	return text[:strings.LastIndexByte(text, ':')]
}

// capGrants asks for every capability beyond the default ones, and beyond those that the user leaves of them, once.
func (p *Profile) capGrants(grant func(key, kind, format string, args ...any) *Grant) {
	seen := DefaultCaps()
	if p.own != nil {
		seen = slices.DeleteFunc(seen, func(c string) bool { return !slices.Contains(p.own.caps, c) })
	}
	for i, name := range p.Security.Caps {
		for _, c := range ExpandCaps([]string{name}) {
			if !slices.Contains(seen, c) {
				seen = append(seen, c)
				grant(elementOf("security.caps", i), GrantCap, "have the capability %s inside", quotePlain(c))
			}
		}
	}
}

func (p *Profile) imageGrant(grant func(key, kind, format string, args ...any) *Grant) {
	if p.Image == "host" {
		return
	}
	scheme, rest, _ := strings.Cut(p.Image, ":")
	if slices.Contains(archives, scheme) {
		if !p.archiveWithin(rest) {
			grant("image", GrantImage, "run the image %s, which is outside the project", quotePlain(p.Image))
		}
		return
	}
	registry := registryOf(p.Image)
	g := grant("image", GrantImage, "run the image %s, and others from the registry %s", quotePlain(p.Image), quotePlain(registry))
	g.Registry, g.image = registry, p.Image
}

// archiveWithin says whether DIR[:TAG] lies in the project however it is split: a colon may belong to the path.
func (p *Profile) archiveWithin(rest string) bool {
	if p.Dir == "" || !strings.HasPrefix(rest, p.Dir) {
		return false
	}
	for end := len(p.Dir); end <= len(rest); end++ {
		if end < len(rest) && rest[end] != ':' {
			continue
		}
		real, ok := quietPath(filepath.Clean(rest[:end]))
		if !ok || !inside(p.Dir, real) {
			return false
		}
	}
	return true
}

// uncovers is the protected path of the project that a mount from within makes writable, "" when there is none: the
// mount's other name for it knows nothing of the workspace's protection.
func (p *Profile) uncovers(m Mount) string {
	if m.Mode == "ro" {
		return ""
	}
	for _, name := range p.keptFromWriting() {
		// Real paths on both sides: .git itself may be a link.
		path, ok := quietPath(filepath.Join(p.Dir, name))
		if !ok || inside(m.Source, path) || inside(path, m.Source) {
			return name
		}
	}
	return ""
}

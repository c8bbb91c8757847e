package config

import (
	"fmt"
	"slices"
)

// own is what the user's own config.toml, or the default, says of what a project's profile can lay its own word over. What it
// loosens of that it is asked about: a limit or a protection that a stranger can lift is none.
type own struct {
	limits    Limits
	workspace Workspace
	network   Network
	caps      []string // each by its own name
	seccomp   Seccomp
}

func (p *Profile) noteOwn() {
	p.own = &own{limits: p.Limits, workspace: p.Workspace, network: p.Network, caps: ExpandCaps(p.Security.Caps), seccomp: p.Security.Seccomp}
	p.own.workspace.Protect = slices.Clone(p.Workspace.Protect)
}

// keptFromWriting is what is read-only in a workspace unless it is agreed to otherwise.
func (p *Profile) keptFromWriting() []string {
	names := p.mustProtect()
	if p.own == nil {
		return names
	}
	for _, name := range p.own.workspace.Protect {
		if !slices.ContainsFunc(names, func(have string) bool { return inside(have, name) }) {
			names = append(names, name)
		}
	}
	return names
}

// workspaceGrants are for a project that can be written, or seen, where its user would not have it so, and for what of it acts
// outside.
func (p *Profile) workspaceGrants(grant func(key, kind, format string, args ...any) *Grant) {
	if p.Dir == "" {
		return
	}
	mode := p.Workspace.Mode
	if p.own != nil {
		switch was := p.own.workspace.Mode; {
		case mode == "rw" && was != "rw":
			grant("workspace.mode", GrantWorkspace, "write the files of the project, where your own config.toml has workspace.mode = %s", quotePlain(was))
		case mode != "none" && was == "none":
			grant("workspace.mode", GrantWorkspace, "read the files of the project, where your own config.toml has workspace.mode = %s", quotePlain(was))
		}
	}
	if mode != "rw" {
		return
	}
	for _, name := range p.keptFromWriting() {
		if !slices.ContainsFunc(p.Workspace.Protect, func(kept string) bool { return inside(kept, name) }) {
			grant("workspace.protect", GrantProtect, "write %s of the project, which acts later, outside", quotePlain(name))
		}
	}
}

// projectMountGrant is for a mount that shows the project where its user would not have it so.
func (p *Profile) projectMountGrant(m Mount, key string, grant func(key, kind, format string, args ...any) *Grant) {
	if p.own == nil {
		return
	}
	was := p.own.workspace.Mode
	how := ""
	switch {
	case m.Mode == "rw" && was != "rw" && p.Workspace.Mode != "review":
		how = "read and write"
	case was == "none":
		how = "read"
	default:
		return
	}
	grant(key, GrantWorkspace, "%s %s of the project, as %s inside, where your own config.toml has workspace.mode = %s", how, quotePlain(m.Source), quotePlain(m.Target), quotePlain(was)).About = m.Target
}

// denyGrants are for what the user's own file denies and the profile, whose list takes its place, does not.
func (p *Profile) denyGrants(n Network, grant func(key, kind, format string, args ...any) *Grant) {
	if p.own == nil {
		return
	}
	for _, was := range p.own.network.Deny {
		if slices.ContainsFunc(n.Deny, func(e Egress) bool { return e.String() == was.String() || e.covers(was) }) {
			continue
		}
		g := grant("network.deny", GrantNetwork, "reach %s, which your own config.toml denies, where it is allowed else", quotePlain(was.String()))
		g.About = fmt.Sprint("deny ", was)
	}
}

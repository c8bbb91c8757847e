package sandbox

import (
	"path"

	"cove/sandbox/spec"
)

// repository shows a git repository that lies outside of the project, of which this is a worktree or a submodule.
//
// Of a worktree it is read-only but for objects, refs and logs, and the worktree's own folder. So nothing inside can
// plant a hook, a config or a commondir that git outside believes, nor change what another worktree, the main one too,
// has checked out, staged or begun. What is lost is what rewrites a file beside them: packed-refs when a packed branch is
// deleted, shallow, config. A submodule's repository is its own alone, and like the .git of any project.
func (p *planner) repository() {
	r, mode := p.profile.Repository, p.profile.RepositoryMode()
	if mode == "none" {
		return
	}
	p.bind(r.Common, r.CommonAt, mode == "ro" || r.Worktree(), "")
	p.spec.Mounts[len(p.spec.Mounts)-1].Agreed = true
	if mode == "ro" {
		return
	}
	protect := &spec.Protect{Workspace: spec.Path(r.GitAt), Source: spec.Path(r.Git), Git: spec.Path(r.Git)}
	if r.Worktree() {
		for _, name := range r.Written() {
			p.within(path.Join(r.Common, name), path.Join(r.CommonAt, name), r.Common, r.CommonAt)
		}
		p.within(r.Git, r.GitAt, r.Common, r.CommonAt)
		protect.Paths = []spec.Path{"commondir", "gitdir", "config.worktree"}
	} else {
		protect.Paths = []spec.Path{"hooks", "config", "config.worktree"}
	}
	p.spec.Repository = protect
}

// within binds a folder of the repository over the read-only one, no link followed on either side.
func (p *planner) within(source, target, beneath, below string) {
	p.bind(source, target, false, beneath)
	p.spec.Mounts[len(p.spec.Mounts)-1].Below = spec.Path(below)
}

package sandbox

import (
	"path/filepath"
	"slices"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// gitRedirects are files of a repository that change which configuration git reads, and are not
// there in an ordinary one: to protect them would keep git from working.
var gitRedirects = []string{".git/commondir", ".git/config.worktree"}

// gitNotes is what of the workspace is compared at the end.
type gitNotes struct {
	started  time.Time // by the clock of files' times
	redirect map[string]bool
	git      bool // the workspace is a repository
}

func gitState(root int) gitNotes {
	n := gitNotes{started: fileTime(), redirect: map[string]bool{}, git: exists(root, ".git")}
	for _, name := range gitRedirects {
		n.redirect[name] = exists(root, name)
	}
	return n
}

func exists(root int, name string) bool {
	fd, err := openBeneath(root, name)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil || err == unix.ELOOP
}

// report tells what a command left in the workspace that makes git outside act on its behalf. A
// keeper has nobody to tell: each shell looks for itself.
func (b *box) report(before gitNotes, workspace string, made []spec.Path) {
	if !b.opts.shell {
		reportGit(b.warn, before, workspace, made)
	}
}

// watchGit notes how the workspace of p is now. The function that it returns tells what has come since.
func watchGit(p *spec.Protect, warn func(format string, args ...any)) func() {
	if p == nil {
		return func() {}
	}
	root, err := unix.Open(string(p.Source), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	defer unix.Close(root)
	before := gitState(root)
	return func() { reportGit(warn, before, string(p.Source), nil) }
}

func reportGit(warn func(format string, args ...any), before gitNotes, workspace string, made []spec.Path) {
	root, err := unix.Open(workspace, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(root)
	for _, name := range gitRedirects {
		if !before.redirect[name] && exists(root, name) {
			warn("new in the workspace: %q, which changes what git reads here", name)
		}
	}
	found, whole := newRepositories(root, before.started, time.Now().Add(walkTime))
	for _, name := range found {
		// Its birth may be of the same tick of the clock as the sandbox's.
		if name == ".git" && before.git {
			continue
		}
		if !slices.Contains(made, spec.Path(name)) {
			warn("new in the workspace: a git repository at %q, whose hooks and config act when git runs there", filepath.Dir(name))
		}
	}
	if !whole {
		warn("the workspace is too large to look through for new git repositories")
	}
}

package sandbox

import (
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
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
	runs     bool // a rebase that was begun has commands to run
}

// rebaseTodo is what `git rebase --continue` goes on with.
const rebaseTodo = "rebase-merge/git-rebase-todo"

// rebaseRuns reports whether a rebase that was begun in a repository would run commands (git-rebase(1), --exec).
func rebaseRuns(root int, repo string) bool {
	f, err := openPlainFile(root, path.Join(repo, rebaseTodo), unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 0 && (words[0] == "exec" || words[0] == "x") {
			return true
		}
	}
	return err != nil || len(data) == 1<<20 // nobody has seen all of it
}

func gitState(root int) gitNotes {
	n := gitNotes{started: fileTime(), redirect: map[string]bool{}, git: exists(root, ".git"), runs: rebaseRuns(root, ".git")}
	for _, name := range gitRedirects {
		n.redirect[name] = exists(root, name)
	}
	return n
}

// watchRepository does it for a repository outside.
func watchRepository(p *spec.Protect, warn func(format string, args ...any)) func() {
	if p == nil {
		return func() {}
	}
	look := func() (redirect, runs bool) {
		root, err := unix.Open(string(p.Source), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, false
		}
		defer unix.Close(root)
		return exists(root, "commondir"), rebaseRuns(root, "")
	}
	redirected, ran := look()
	return func() {
		redirect, runs := look()
		if redirect && !redirected {
			warn("new in the repository %q: %q, which changes what git reads there", p.Source, "commondir")
		}
		if runs && !ran {
			warn("new in the repository %q: %q, a rebase whose commands `git rebase --continue` runs", p.Source, rebaseTodo)
		}
	}
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
	if !before.runs && rebaseRuns(root, ".git") {
		warn("new in the workspace: %q, a rebase whose commands `git rebase --continue` runs", ".git/"+rebaseTodo)
	}
	found, whole := newRepositories(root, before.started, time.Now().Add(walkTime(time.Since(before.started))))
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

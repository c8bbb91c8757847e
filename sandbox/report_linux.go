package sandbox

import (
	"io/fs"
	"os"
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

// walkTime bounds the look for new repositories at the end of a run.
const walkTime = 200 * time.Millisecond

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
	found, whole := newRepositories(workspace, before.started)
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

// newRepositories finds every .git below dir that was made since; whole is false when time ran out.
func newRepositories(dir string, since time.Time) (found []string, whole bool) {
	deadline := time.Now().Add(walkTime)
	whole = true
	_ = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case time.Now().After(deadline):
			whole = false
			return fs.SkipAll
		case e.Name() != ".git" || name == dir:
			return nil
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, dir), "/")
		if madeSince(name, since) {
			found = append(found, rel)
		}
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return found, whole
}

// madeSince asks for the birth time (statx(2)); where a file system has none, the change time has to do.
func madeSince(name string, since time.Time) bool {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_CTIME, &st); err != nil {
		return !os.IsNotExist(err)
	}
	at := st.Ctime
	if st.Mask&unix.STATX_BTIME != 0 {
		at = st.Btime
	}
	// Of what was made in the tick that it began in, it is not known on which side: that is told.
	return !time.Unix(at.Sec, int64(at.Nsec)).Before(since)
}

// fileTime is the time that a file made now gets at least: the clock's last tick (clock_gettime(2), CLOCK_REALTIME_COARSE).
func fileTime() time.Time {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &at); err != nil {
		return time.Now().Add(-10 * time.Millisecond) // the longest tick that there is
	}
	return time.Unix(at.Unix())
}

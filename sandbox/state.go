package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Info is a running sandbox as `ps` lists it.
type Info struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Image   string    `json:"image"`
	Command []string  `json:"command"`
	Project spec.Path `json:"project,omitempty"`
	Review  bool      `json:"review,omitempty"` // the project is a copy-on-write view
	Shell   bool      `json:"shell,omitempty"`  // of `cove shell`: others join it
	PID     int       `json:"pid"`              // of the parent
	Started time.Time `json:"started"`
	Profile string    `json:"profile,omitempty"` // hash of the profile it was started with
	Digest  string    `json:"digest,omitempty"`  // of the image's manifest, where there is one
}

// record is what lies in a sandbox's state directory, for coves of other versions too.
type record struct {
	Info
	Parts   []part       `json:"parts,omitempty"` // of a shell's sandbox
	Process spec.Process `json:"process"`         // the sandbox's own, of which exec's take what they do not change
}

// state is the directory of one running sandbox, RuntimeDir/sandboxes/ID: locked (flock(2)) as long
// as the parent lives, it holds the record, and the socket that exec and stop connect to. What has
// no holder of its lock is a leftover, and whoever finds it removes it.
type state struct {
	dir  string
	lock *os.File // the directory itself
	name string   // the sandbox's, once it is published
}

func sandboxesDir(runtimeDir string) string { return filepath.Join(runtimeDir, "sandboxes") }

// runtimeDirOf is the runtime directory that a sandbox's directory is in.
func runtimeDirOf(dir string) string { return filepath.Dir(filepath.Dir(dir)) }

// newState makes the directory and takes its lock. The record comes later: until then nobody sees the sandbox.
func newState(runtimeDir, id string) (*state, error) {
	dir := filepath.Join(sandboxesDir(runtimeDir), id)
	for {
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(sandboxesDir(runtimeDir), 0o700); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
		lock, err := os.Open(dir)
		if err == nil {
			if err = flock(lock, unix.LOCK_EX); err == nil && sameFile(lock, dir) {
				return &state{dir: dir, lock: lock}, nil
			}
			lock.Close()
		}
		// Before it was locked another cove took it for a leftover.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lock state directory: %w", err)
		}
	}
}

// sameFile reports whether f is still what lies at name.
func sameFile(f *os.File, name string) bool {
	was, err := f.Stat()
	if err != nil {
		return false
	}
	is, err := os.Lstat(name)
	return err == nil && os.SameFile(was, is)
}

// lockFile opens and locks (flock(2)) a file, and makes it when it is missing. The lock ends with
// the last process that has the file open: it is close-on-exec.
func lockFile(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: name, Err: err}
	}
	return f, nil
}

func flock(f *os.File, how int) error { return flockFD(int(f.Fd()), how) }

func flockFD(fd, how int) error {
	for {
		err := unix.Flock(fd, how)
		if err != unix.EINTR {
			return err
		}
	}
}

// held reports whether somebody has the lock of what is at name. Every start asks that of all that runs beside it: on a plain
// descriptor it takes three system calls, on an os.File eight.
func held(name string) bool {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return flockFD(fd, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// publish makes the sandbox visible to others.
func (s *state) publish(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// Nobody reads it by halves: what is no whole JSON is passed over until it is.
	if err := os.WriteFile(filepath.Join(s.dir, "record.json"), b, 0o600); err != nil {
		return err
	}
	s.name = r.Name
	linkName(runtimeDirOf(s.dir), s.name, filepath.Base(s.dir))
	return nil
}

// close makes the sandbox unknown to others: who waits for its end takes that for it, so it is the last to be undone.
func (s *state) close() error {
	unlinkName(runtimeDirOf(s.dir), s.name, filepath.Base(s.dir))
	err := os.RemoveAll(s.dir)
	return errors.Join(err, s.lock.Close())
}

// each calls f with every sandbox that runs, and removes the directories of those that do not.
func each(runtimeDir string, f func(dir string, r *record) error) error {
	entries, err := os.ReadDir(sandboxesDir(runtimeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(sandboxesDir(runtimeDir), e.Name())
		if alive, err := alive(dir); err != nil || !alive {
			continue
		}
		r, err := readRecord(dir)
		if err != nil {
			continue
		}
		if err := f(dir, r); err != nil {
			return err
		}
	}
	return nil
}

// alive reports whether the sandbox whose directory it is still has its parent. A leftover is removed.
func alive(dir string) (bool, error) {
	if held(dir) {
		return true, nil
	}
	for {
		f, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		is, err := removeUnlocked(f, dir)
		f.Close()
		if err != errReplaced {
			return is, err
		}
	}
}

// errReplaced says that a directory is not the one any more that was opened.
var errReplaced = errors.New("another directory is there now")

// removeUnlocked removes the directory dir, open as f, when nobody holds its lock.
func removeUnlocked(f *os.File, dir string) (locked bool, err error) {
	switch err := flock(f, unix.LOCK_EX|unix.LOCK_NB); {
	case err == unix.EWOULDBLOCK:
		return true, nil
	case err != nil:
		return false, err
	case !sameFile(f, dir): // another sweep removed it meanwhile, and its maker has made it anew
		return false, errReplaced
	}
	if r, err := readRecord(dir); err == nil {
		unlinkName(runtimeDirOf(dir), r.Name, r.ID)
	}
	// With its lock in hand: one that is only being made finds that it is gone, and makes another.
	return false, os.RemoveAll(dir)
}

func readRecord(dir string) (*record, error) {
	b, err := os.ReadFile(filepath.Join(dir, "record.json"))
	if err != nil {
		return nil, err
	}
	r := &record{}
	return r, json.Unmarshal(b, r)
}

// List returns the sandboxes that run, oldest first.
func List(runtimeDir string) ([]Info, error) {
	var out []Info
	err := each(runtimeDir, func(_ string, r *record) error {
		out = append(out, r.Info)
		return nil
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Started.Before(out[j].Started) })
	return out, err
}

// ErrNoSandbox says that no sandbox of that name runs.
var ErrNoSandbox = errors.New("no such sandbox is running")

// find returns the sandbox with that name, ID, or beginning of an ID.
func find(runtimeDir, name string) (string, *record, error) {
	if dir, r := byID(runtimeDir, name); r != nil {
		return dir, r, nil
	}
	if dir, r := byName(runtimeDir, name); r != nil {
		return dir, r, nil
	}
	var dirs []string
	var found []*record
	err := each(runtimeDir, func(dir string, r *record) error {
		if r.Name == name || r.ID == name {
			dirs, found = []string{dir}, []*record{r}
			return fs.SkipAll
		}
		if len(name) >= 4 && len(r.ID) >= len(name) && r.ID[:len(name)] == name {
			dirs, found = append(dirs, dir), append(found, r)
		}
		return nil
	})
	switch {
	case err != nil && err != fs.SkipAll:
		return "", nil, err
	case len(found) == 0:
		return "", nil, fmt.Errorf("%q: %w", name, ErrNoSandbox)
	case len(found) > 1:
		return "", nil, fmt.Errorf("%q is the beginning of %d sandboxes' ids", name, len(found))
	}
	return dirs[0], found[0], nil
}

// byID is find of a whole ID, by which the directory is called: no other sandbox is looked at. nil where there is none.
func byID(runtimeDir, id string) (string, *record) {
	if id == "" || id[0] == '.' || strings.Contains(id, "/") {
		return "", nil
	}
	dir := filepath.Join(sandboxesDir(runtimeDir), id)
	if is, err := alive(dir); err != nil || !is {
		return "", nil
	}
	r, err := readRecord(dir)
	if err != nil || r.ID != id {
		return "", nil
	}
	return dir, r
}

// sweep removes the directories of sandboxes whose parent was killed.
func sweep(runtimeDir string) {
	entries, err := os.ReadDir(sandboxesDir(runtimeDir))
	if err != nil {
		return // there are none
	}
	for _, e := range entries {
		_, _ = alive(filepath.Join(sandboxesDir(runtimeDir), e.Name()))
	}
	sweepLinks(runtimeDir, len(entries))
}

// Sweep removes what sandboxes left behind that were killed: their state, and the placeholders in
// their workspaces. Every start does so too.
func Sweep(runtimeDir string) {
	sweep(runtimeDir)
	sweepPlaceholders(runtimeDir)
}

// checkName refuses a name that another running sandbox has. One that Plan made of the ID is nobody else's.
func checkName(runtimeDir, id, name string) error {
	if strings.HasSuffix(name, idSuffix(id)) {
		return nil
	}
	return each(runtimeDir, func(_ string, r *record) error {
		if r.Name == name {
			return fmt.Errorf("a sandbox named %q is running already", name)
		}
		return nil
	})
}

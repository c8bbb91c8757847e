package review

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cove/userns"

	"golang.org/x/sys/unix"
)

// Session is a project's view that is locked: nobody else reads or changes it until Close.
type Session struct {
	dir    string
	lock   *os.File // the directory
	record Record
	fresh  bool
}

// Open locks the view of a project. The store's folder and the project's are absolute, without links in their paths.
func Open(store, project string) (*Session, error) {
	dir := Dir(store, project)
	lock, err := lockDir(dir)
	if err == nil && lock == nil {
		err = &InUseError{usedBy(dir)}
		if _, rerr := readRecord(dir); errors.Is(rerr, ErrNone) {
			err = &InUseError{} // one that is only being made or removed has no name in it yet
		}
	}
	if err != nil {
		return nil, fmt.Errorf("review %q: %w", project, err)
	}
	s := &Session{dir: dir, lock: lock}
	if s.record, err = readRecord(dir); err != nil {
		lock.Close()
		return nil, fmt.Errorf("review %q: %w", project, err)
	}
	return s, nil
}

// soon is how long a sandbox takes at most to end whose last command has ended: a shell does not wait for its keeper.
const soon = time.Second

// OpenSoon is Open that waits a moment for a sandbox that may just be ending.
func OpenSoon(ctx context.Context, store, project string) (*Session, error) {
	for deadline := time.Now().Add(soon); ; {
		s, err := Open(store, project)
		var inUse *InUseError
		if !errors.As(err, &inUse) || !again(ctx, deadline) {
			return s, err
		}
	}
}

// again waits a little before another attempt, as long as there is time for one.
func again(ctx context.Context, deadline time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(20 * time.Millisecond):
		return time.Now().Before(deadline)
	}
}

// Look reads what the view of a project is of, and locks nothing.
func Look(store, project string) (Record, error) {
	r, err := readRecord(Dir(store, project))
	if err != nil {
		err = fmt.Errorf("review %q: %w", project, err)
	}
	return r, err
}

// Record is what the view is of.
func (s *Session) Record() Record { return s.record }

// Dir is the view's folder in the store, for who keeps something beside it.
func (s *Session) Dir() string { return s.dir }

// Discard removes the view with all that was changed in it, but what Keep names. Close must still follow.
func (s *Session) Discard(ctx context.Context) error {
	// First what makes it one: what a kill leaves of it then is a leftover, and never half a view.
	err := os.Remove(filepath.Join(s.dir, "record.json"))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = s.clear(ctx, s.record.IDMap)
	}
	if err != nil {
		return fmt.Errorf("discard the view of %q: %w", s.record.Project, err)
	}
	return nil
}

// settledName is the file beside a view that says that all in it was applied.
const settledName = "settled"

// SetSettled says that nothing in the view is a change any more, though it holds what was applied: until somebody works in
// it again that can be taken back, and then be applied once more. Or it says that this is not so.
func (s *Session) SetSettled(settled bool) error {
	name := filepath.Join(s.dir, settledName)
	if settled {
		return os.WriteFile(name, nil, 0o600)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Session) settled() bool {
	_, err := os.Lstat(filepath.Join(s.dir, settledName))
	return err == nil
}

// OpenKept is Open where there need be no view any more, but what Keep names. Record is empty then.
func OpenKept(store, project string) (*Session, error) {
	s, err := Open(store, project)
	if !errors.Is(err, ErrNone) {
		return s, err
	}
	dir := Dir(store, project)
	if _, err := os.Lstat(filepath.Join(dir, Keep)); err != nil {
		return nil, fmt.Errorf("review %q: %w", project, ErrNone)
	}
	lock, err := lockDir(dir)
	if err == nil && lock == nil {
		err = &InUseError{}
	}
	if err != nil {
		return nil, fmt.Errorf("review %q: %w", project, err)
	}
	return &Session{dir: dir, lock: lock}, nil
}

// Keep is the folder beside a view that outlives it: what was applied of it can still be taken back.
const Keep = "apply"

// clear removes what there is of a view, or of one that was never finished, and the folder where nothing is kept in it.
func (s *Session) clear(ctx context.Context, m userns.IDMap) error {
	if err := s.removeLeftovers(ctx, m); err != nil {
		return err
	}
	if err := os.Remove(s.dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// Close lets others have the view.
func (s *Session) Close() error { return s.lock.Close() }

// lockDir takes the lock of a view's folder. Both results are nil when somebody else has it.
func lockDir(dir string) (*os.File, error) {
	for {
		f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNone
		}
		if err != nil {
			return nil, err
		}
		for {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
				break
			}
		}
		if err == unix.EWOULDBLOCK {
			return nil, f.Close()
		}
		if err == nil && still(f, dir) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
		}
	}
}

// still reports whether f is what lies at name: whoever held the lock before may have removed it.
func still(f *os.File, name string) bool {
	was, err := f.Stat()
	if err != nil {
		return false
	}
	is, err := os.Lstat(name)
	return err == nil && os.SameFile(was, is)
}

// maxName bounds what is read of a file that holds a sandbox's name.
const maxName = 256

// usedBy is the name of the sandbox that uses the view, or did.
func usedBy(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "user"))
	if err != nil || len(b) > maxName {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}

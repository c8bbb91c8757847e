package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// StageName is the argv[0] under which main hands over to the stage.
const StageName = "cove-review"

// Tree is a running stage. Its methods may be called at the same time; one is carried out after the other.
type Tree struct {
	child *userns.Child
	mu    sync.Mutex
	stop  func() bool
}

// Start starts a stage that may work in the folders uppers, which were written with the ids of m. It ends with ctx.
func Start(ctx context.Context, m userns.IDMap, kind spec.RootKind, uppers ...string) (*Tree, error) {
	child, err := userns.Start(ctx, userns.Config{
		Stage: StageName, IDMap: m,
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", StageName, err)
	}
	child.Conn.Same()
	t := &Tree{child: child}
	t.stop = context.AfterFunc(ctx, child.Kill)
	err = child.Conn.Send(Hello{Uppers: uppers, IDMap: m, Kind: kind})
	if err == nil {
		var r Reply
		if r, _, err = t.recv(); err == nil && !r.Ready {
			err = errors.New("unexpected answer")
		}
	}
	if err != nil {
		_ = t.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("start %s: %w", StageName, err)
	}
	return t, nil
}

// Close ends the stage.
func (t *Tree) Close() error {
	t.stop()
	t.child.Kill()
	_, err := t.child.Wait()
	return errors.Join(err, t.child.Conn.Close())
}

// stageError is what went wrong in the stage.
type stageError struct {
	text  string
	errno unix.Errno
}

func (e *stageError) Error() string { return e.text }
func (e *stageError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

func (t *Tree) recv() (Reply, []*os.File, error) {
	var r Reply
	files, err := t.child.Conn.Recv(&r)
	if err != nil {
		return r, nil, fmt.Errorf("%s ended early: %w", StageName, err)
	}
	if r.Err != "" {
		closeAll(files)
		return r, nil, &stageError{r.Err, unix.Errno(r.Errno)}
	}
	return r, files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (t *Tree) call(req Request, files ...*os.File) (Reply, []*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.child.Conn.Send(req, files...); err != nil {
		return Reply{}, nil, fmt.Errorf("%s: %w", StageName, err)
	}
	return t.recv()
}

// Folder is one folder of a view with some of what is in it.
type Folder struct {
	Dir     Entry // the view's own has the path ""
	Entries []Entry
	Last    bool // otherwise the next has more of the same
}

// Walk calls f with every folder of a view, parents first, but for those in skip. f must not call t.
func (t *Tree) Walk(view int, skip []string, f func(Folder) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.child.Conn.Send(Request{Op: OpWalk, View: view, Skip: skip}); err != nil {
		return fmt.Errorf("%s: %w", StageName, err)
	}
	var failed error
	for {
		r, files, err := t.recv()
		closeAll(files)
		if err != nil {
			return errors.Join(failed, err)
		}
		if r.Done {
			return failed
		}
		if failed == nil { // the rest is waited for, so that the next request finds its own answer
			failed = f(Folder{r.Dir, r.Entries, r.Last})
		}
	}
}

// Stat tells what is at a path; nil when there is nothing.
func (t *Tree) Stat(view int, path string) (*Entry, error) {
	r, files, err := t.call(Request{Op: OpStat, View: view, Path: path})
	closeAll(files)
	if err != nil || !r.Found {
		return nil, err
	}
	return &r.Entry, nil
}

// Open is Stat with the extended attributes and, of a regular file, a descriptor of its content, which is the caller's to
// close. What comes is checked: who wrote the folder may have fooled the stage.
func (t *Tree) Open(view int, path string) (*Entry, *os.File, error) {
	r, files, err := t.call(Request{Op: OpOpen, View: view, Path: path})
	if err != nil {
		return nil, nil, err
	}
	if !r.Found {
		closeAll(files)
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	if !r.Entry.IsFile() {
		closeAll(files)
		return &r.Entry, nil, nil
	}
	if len(files) == 1 {
		var st unix.Stat_t
		if err = unix.Fstat(int(files[0].Fd()), &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			return &r.Entry, files[0], nil
		}
	}
	closeAll(files)
	return nil, nil, errors.Join(err, fmt.Errorf("%s sent no regular file", StageName))
}

// Remove removes what is at a path, and everything below it.
func (t *Tree) Remove(view int, path string) error {
	return t.do(Request{Op: OpRemove, View: view, Path: path})
}

// Merge makes a folder that hides everything below it hide only the names of lower that it has not itself.
func (t *Tree) Merge(view int, path string, lower []LowerName) error {
	return t.do(Request{Op: OpMerge, View: view, Path: path, Lower: lower})
}

// Put makes a path what at says. content is a regular file's, and nil for anything else.
func (t *Tree) Put(view int, at Entry, content *os.File) error {
	req := Request{Op: OpPut, View: view, Path: at.Path, At: at}
	if content == nil {
		return t.do(req)
	}
	return t.do(req, content)
}

// Sync writes everything to the disk.
func (t *Tree) Sync(view int) error { return t.do(Request{Op: OpSync, View: view}) }

func (t *Tree) do(req Request, files ...*os.File) error {
	_, got, err := t.call(req, files...)
	closeAll(got)
	return err
}

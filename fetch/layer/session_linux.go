package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"cove/userns"

	"golang.org/x/sys/unix"
)

// StageName is the argv[0] under which main hands over to the stage.
const StageName = "cove-unpack"

// Session is a running stage. Its methods may be called at the same time.
type Session struct {
	child  *userns.Child
	mu     sync.Mutex
	next   uint64
	calls  map[uint64]chan Reply
	failed error // why no further reply will come
	done   chan struct{}
	watch  watch
}

// Start starts a stage that may work in dirs, absolute paths, with the ids of m. The directories
// must be reachable for the caller; what lies in them must be owned by ids that m maps.
func Start(ctx context.Context, m userns.IDMap, dirs ...string) (*Session, error) {
	return start(ctx, Hello{Dirs: paths(dirs), IDMap: m})
}

// paths are names as JSON leaves them: it has no place for bytes that are no UTF-8.
func paths(names []string) (out [][]byte) {
	for _, name := range names {
		out = append(out, []byte(name))
	}
	return out
}

func start(ctx context.Context, h Hello) (*Session, error) {
	child, err := userns.Start(ctx, userns.Config{
		Stage: StageName, IDMap: h.IDMap,
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", StageName, err)
	}
	s := &Session{child: child, calls: map[uint64]chan Reply{}, done: make(chan struct{})}
	var first Reply
	err = child.Conn.Send(h)
	if err == nil {
		_, err = child.Conn.Recv(&first)
	}
	if err == nil && first.Err != nil {
		err = first.Err
	}
	if err == nil && !first.Ready {
		err = errors.New("unexpected answer")
	}
	if err != nil {
		s.end()
		return nil, fmt.Errorf("start %s: %w", StageName, err)
	}
	go s.receive()
	s.watch.pid, s.watch.stuck, s.watch.every = child.Pid(), stuckAfter, watchEvery
	go s.watch.run(s.done, s.giveUp)
	return s, nil
}

// giveUp ends the stage, and says why to those who wait for it.
func (s *Session) giveUp(why error) {
	s.mu.Lock()
	if s.failed == nil {
		s.failed = fmt.Errorf("%s: %w", StageName, why)
	}
	s.mu.Unlock()
	s.child.Kill()
}

// receive hands every reply to the call that waits for it.
func (s *Session) receive() {
	defer close(s.done)
	for {
		var r Reply
		_, err := s.child.Conn.Recv(&r)
		s.mu.Lock()
		if err != nil {
			if s.failed == nil {
				s.failed = fmt.Errorf("%s ended early: %w", StageName, err)
			}
			for id, c := range s.calls {
				close(c)
				delete(s.calls, id)
			}
			s.mu.Unlock()
			return
		}
		c := s.calls[r.ID]
		if !r.NeedsBelow {
			delete(s.calls, r.ID)
		}
		s.mu.Unlock()
		if c != nil {
			c <- r
		}
	}
}

// send numbers a request, registers for its replies, and sends it.
func (s *Session) send(req *Request, files ...*os.File) (chan Reply, error) {
	c := make(chan Reply, 2) // one NeedsBelow, one result: receive never blocks
	s.mu.Lock()
	if s.failed != nil {
		s.mu.Unlock()
		return nil, s.failed
	}
	s.next++
	req.ID = s.next
	s.calls[req.ID] = c
	s.mu.Unlock()
	if err := s.child.Conn.Send(req, files...); err != nil {
		s.mu.Lock()
		delete(s.calls, req.ID)
		s.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", StageName, err)
	}
	return c, nil
}

// call sends a request that has one reply and waits for it.
func (s *Session) call(req *Request, files ...*os.File) (Result, error) {
	s.watch.turns.Add(1)
	defer s.watch.turns.Add(-1)
	c, err := s.send(req, files...)
	if err != nil {
		return Result{}, err
	}
	return s.result(c)
}

func (s *Session) result(c chan Reply) (Result, error) {
	r, ok := <-c
	if !ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		return Result{}, s.failed
	}
	if r.Err != nil {
		return r.Result, r.Err
	}
	return r.Result, nil
}

// UnpackRequest says where a layer goes.
type UnpackRequest struct {
	At     Place
	Limits Limits
	Digest string // the algorithm of the result's DiffID: "sha256" (or ""), "sha512"
	// Below is called at most once, when the layer's result depends on the layers below it. It
	// waits until those are unpacked and returns them, lowest first. nil: it is the lowest.
	Below func() ([]Place, error)
	// List, unless nil, gets the layer's listing, with Label in it (package list).
	List  *os.File
	Label string
}

// Unpack unpacks the tar stream r, compressed with gzip, zstd or not at all, into a directory,
// which must be empty. When r fails, that is the error. On error the directory is left to Remove.
func (s *Session) Unpack(req UnpackRequest, r io.Reader) (Result, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return Result{}, err
	}
	// Where the user's pipe pages are used up (pipe(7)), the default size serves, more slowly.
	_, _ = unix.FcntlInt(pw.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	m := &Request{Op: OpUnpack, At: req.At, Lowest: req.Below == nil, Limits: req.Limits.WithDefaults(), Digest: req.Digest, Label: req.Label}
	files := []*os.File{pr}
	if req.List != nil {
		files = append(files, req.List)
	}
	c, err := s.send(m, files...)
	pr.Close()
	if err != nil {
		pw.Close()
		return Result{}, err
	}
	defer s.watch.unpacking(time.Duration(m.Limits.CPUSeconds) * time.Second)()
	t := &turn{w: &s.watch}
	copied := make(chan error, 1)
	go func() { copied <- feed(pw, r, t) }()
	res, err := s.await(m.ID, c, req.Below, t)
	// The stage has closed its end: when it failed, the feeder finds the pipe broken; when it
	// is done, it has seen the end of r.
	ferr := <-copied
	t.offer(false)
	if ferr != nil && !errors.Is(ferr, unix.EPIPE) {
		return Result{}, ferr
	}
	return res, err
}

// feed copies r into the pipe. When r fails the tar may look whole: the caller asks feed first.
func feed(pw *os.File, r io.Reader, t *turn) error {
	buf := make([]byte, 256<<10)
	for {
		t.offer(false)
		n, rerr := r.Read(buf)
		t.offer(true)
		if n > 0 {
			if _, err := pw.Write(buf[:n]); err != nil {
				return errors.Join(err, pw.Close())
			}
		}
		if rerr == io.EOF {
			return pw.Close()
		}
		if rerr != nil {
			pw.Close()
			return rerr
		}
	}
}

// await waits for the result and serves the stage's question for what lies below.
func (s *Session) await(id uint64, c chan Reply, below func() ([]Place, error), t *turn) (Result, error) {
	for {
		r, ok := <-c
		if !ok {
			s.mu.Lock()
			defer s.mu.Unlock()
			return Result{}, s.failed
		}
		if !r.NeedsBelow {
			if r.Err != nil {
				return r.Result, r.Err
			}
			return r.Result, nil
		}
		answer := &Request{ID: id, Op: OpBelow}
		t.asked(true)
		places, err := below()
		t.asked(false)
		answer.Fail = err != nil
		answer.From = places
		if serr := s.child.Conn.Send(answer); err == nil {
			err = serr
		}
		if err != nil {
			go func() { <-c }() // the stage's own complaint about it says less
			return Result{}, err
		}
	}
}

// Remove removes a directory and everything in it. That it is not there is no error.
func (s *Session) Remove(at Place) error {
	_, err := s.call(&Request{Op: OpRemove, At: at})
	return err
}

// Copy copies a layer made under the mapping was into the empty directory at, each file's owner
// the same id inside as before.
func (s *Session) Copy(from, at Place, was userns.IDMap) (Result, error) {
	return s.call(&Request{Op: OpCopy, At: at, From: []Place{from}, Was: was})
}

// Flatten merges layers, lowest first, into the empty directory at.
func (s *Session) Flatten(from []Place, at Place) (Result, error) {
	return s.call(&Request{Op: OpFlatten, At: at, From: from})
}

// List writes the listing of a layer that is there into f, having read all of it.
func (s *Session) List(at Place, f *os.File, label string) (Result, error) {
	return s.call(&Request{Op: OpList, At: at, Label: label}, f)
}

// Check compares a layer with its listing. What differs is in the result; an error means that it could not be told.
func (s *Session) Check(at Place, listing *os.File, label string) (Result, error) {
	return s.call(&Request{Op: OpCheck, At: at, Label: label}, listing)
}

// Disk tells how much disk a tree takes.
func (s *Session) Disk(at Place) (int64, error) {
	res, err := s.call(&Request{Op: OpDisk, At: at})
	return res.Disk, err
}

// Pid is the stage's process id out here.
func (s *Session) Pid() int { return s.child.Pid() }

// Interrupt ends the stage at once; calls that wait for it fail. Close must still follow.
func (s *Session) Interrupt() { s.child.Kill() }

// Close ends the stage. Whatever it was doing is cut short.
func (s *Session) Close() error {
	err := s.end()
	<-s.done
	return err
}

func (s *Session) end() error {
	s.child.Kill()
	_, err := s.child.Wait()
	return errors.Join(err, s.child.Conn.Close())
}

// Flatten merges the layer directories, lowest first, into the empty directory dest, in a stage
// of its own: whiteouts and opaque directories applied, none left. For root file systems without overlayfs.
func Flatten(ctx context.Context, m userns.IDMap, layers []string, dest string) error {
	s, err := Start(ctx, m, append([]string{dest}, layers...)...)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, s.child.Kill)
	defer stop()
	from := make([]Place, len(layers))
	for i := range layers {
		from[i] = Place{Dir: i + 1}
	}
	_, err = s.Flatten(from, Place{})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("copy layers into %s: %w", dest, err)
	}
	return nil
}

// CopyTree copies a folder of the caller's into the empty directory dest, in a stage of its own: owners, modes, times and
// attributes too, its blocks shared where the file system can. Of the folders in skip, relative to it, nothing but they
// themselves is copied; sockets and devices are left out.
func CopyTree(ctx context.Context, m userns.IDMap, from, dest string, skip []string) error {
	s, err := start(ctx, Hello{IDMap: m, Dirs: paths([]string{dest, from}), Submounts: true, NoLinks: true})
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, s.child.Kill)
	defer stop()
	req := &Request{Op: OpTree, From: []Place{{Dir: 1}}}
	req.Skip = paths(skip)
	_, err = s.call(req)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

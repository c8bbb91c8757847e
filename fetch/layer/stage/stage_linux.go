package stage

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"cove/fetch/layer"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// Main is the whole life of a cove-unpack stage. It never returns.
func Main() {
	// PR_SET_PDEATHSIG belongs to the thread that asks for it.
	runtime.LockOSThread()
	conn, err := fdpass.FromFD(userns.ConnFD)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cove: %s is started by cove itself: %v\n", layer.StageName, err)
		os.Exit(2)
	}
	var h layer.Hello
	if _, err := conn.Recv(&h); err != nil {
		os.Exit(1) // the parent is gone
	}
	adjust(h)
	st := &stage{conn: conn, idmap: h.IDMap, below: map[uint64]chan layer.Request{}}
	st.room.Store(bounds.tables)
	if err := st.enter(h); err != nil {
		_ = conn.Send(layer.Reply{Err: layer.ToWire(err)})
		os.Exit(1)
	}
	if conn.Send(layer.Reply{Ready: true}) != nil {
		os.Exit(1)
	}
	// What is kept is buffers that are used again and again; what is garbage is little, and need not be half of the memory.
	debug.SetGCPercent(50)
	for {
		var req layer.Request
		files, err := conn.Recv(&req)
		if err != nil {
			os.Exit(0) // PID 1: everything else in here ends too
		}
		st.dispatch(req, files)
	}
}

type stage struct {
	conn  *fdpass.Conn
	idmap userns.IDMap
	dirs  []int // descriptors of Hello.Dirs
	*filters

	room atomic.Int64 // entries that tables may still have in memory

	mu    sync.Mutex
	below map[uint64]chan layer.Request // unpackings that may ask for what lies below
}

// enter opens the directories and then becomes the mapping's root.
func (st *stage) enter(h layer.Hello) error {
	// Before any credential changes: the caller's own home (0700) cannot be walked through by
	// a subordinate id, and a descriptor from the parent would lie on the parent's mounts,
	// which this mount namespace may not clone (open_tree(2)).
	for i, dir := range h.Dirs {
		how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC}
		if h.NoLinks && i == len(h.Dirs)-1 {
			how.Resolve = unix.RESOLVE_NO_SYMLINKS
		}
		fd, err := unix.Openat2(unix.AT_FDCWD, string(dir), &how)
		if err != nil {
			return fmt.Errorf("open %q: %w", dir, err)
		}
		st.dirs = append(st.dirs, fd)
	}
	// Nothing made in here is to be seen outside, nor the other way.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := userns.BecomeRoot(h.IDMap); err != nil {
		return err
	}
	if err := st.leaveHost(h.Submounts); err != nil {
		return err
	}
	unix.Umask(0)
	// This thread's, which loading the filter makes every thread's (SECCOMP_FILTER_FLAG_TSYNC).
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl NO_NEW_PRIVS: %w", err)
	}
	if err := fewerCaps(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PDEATHSIG: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl DUMPABLE: %w", err)
	}
	if err := limitMemory(); err != nil {
		return err
	}
	var err error
	if st.filters, err = newFilters(); err != nil {
		return err
	}
	return st.loadProcess()
}

const (
	// softMemory is when Go's collector begins to work harder: most of what it has then is not in use. What is comes to half
	// of it with six layers at once, whatever is in them.
	softMemory = 64 << 20
	// hardMemory is beyond what names, windows and buffers come to within Limits. It bounds all private writable memory
	// (RLIMIT_DATA, Linux 4.7); address space Go reserves by the gigabyte. Where something has no other bound the stage ends
	// here, and not the machine.
	hardMemory = 2 << 30
)

func limitMemory() error {
	debug.SetMemoryLimit(softMemory)
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &lim); err != nil {
		return fmt.Errorf("getrlimit DATA: %w", err)
	}
	lim.Cur = min(lim.Cur, hardMemory)
	lim.Max = lim.Cur
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &lim); err != nil {
		return fmt.Errorf("setrlimit DATA: %w", err)
	}
	return nil
}

// dispatch starts a request on a goroutine of its own.
func (st *stage) dispatch(req layer.Request, files []*os.File) {
	if req.Op == layer.OpBelow {
		st.mu.Lock()
		c := st.below[req.ID]
		delete(st.below, req.ID)
		st.mu.Unlock()
		if c != nil {
			c <- req
		}
		return
	}
	if req.Op == layer.OpUnpack {
		st.mu.Lock()
		st.below[req.ID] = make(chan layer.Request, 1)
		st.mu.Unlock()
	}
	go func() {
		res, err := st.serve(req, files)
		for _, f := range files {
			f.Close() // the parent's feeder sees a broken pipe, if it still writes
		}
		if st.conn.Send(layer.Reply{ID: req.ID, Result: res, Err: layer.ToWire(err)}) != nil {
			os.Exit(1)
		}
	}()
}

func (st *stage) serve(req layer.Request, files []*os.File) (layer.Result, error) {
	switch req.Op {
	case layer.OpUnpack:
		defer func() {
			st.mu.Lock()
			delete(st.below, req.ID)
			st.mu.Unlock()
		}()
		switch len(files) {
		case 1:
			return st.unpack(req, files[0], nil)
		case 2:
			return st.unpack(req, files[0], files[1])
		}
		return layer.Result{}, fmt.Errorf("unpack came with %d descriptors", len(files))
	case layer.OpRemove:
		return layer.Result{}, st.remove(req.At)
	case layer.OpCopy:
		return st.copyLayer(req)
	case layer.OpTree:
		return st.copyTree(req)
	case layer.OpFlatten:
		return st.flatten(req)
	case layer.OpPack:
		if len(files) != 1 {
			return layer.Result{}, fmt.Errorf("pack came with %d descriptors", len(files))
		}
		return st.pack(req, files[0])
	case layer.OpDisk:
		return st.disk(req.At)
	case layer.OpList, layer.OpCheck:
		if len(files) != 1 {
			return layer.Result{}, fmt.Errorf("%s came with %d descriptors", req.Op, len(files))
		}
		if req.Op == layer.OpList {
			return st.list(req, files[0])
		}
		return st.check(req, files[0])
	}
	return layer.Result{}, fmt.Errorf("unknown request %q", req.Op)
}

// open opens the directory that p names. Name is one component, so that it cannot lead elsewhere.
func (st *stage) open(p layer.Place) (int, error) {
	dir, err := st.dir(p)
	if err != nil {
		return -1, err
	}
	name := p.Name
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: p.Name, Err: err}
	}
	return fd, nil
}

func (st *stage) dir(p layer.Place) (int, error) {
	if p.Dir < 0 || p.Dir >= len(st.dirs) || strings.Contains(p.Name, "/") || p.Name == "." || p.Name == ".." {
		return -1, fmt.Errorf("no such place: %d %q", p.Dir, p.Name)
	}
	return st.dirs[p.Dir], nil
}

func (st *stage) openAll(ps []layer.Place) ([]int, error) {
	fds := make([]int, 0, len(ps))
	for _, p := range ps {
		fd, err := st.open(p)
		if err != nil {
			closeFDs(fds)
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// unpack runs one unpacking on a thread of its own, which ends with it: a thread that has been
// confined is of no use to anything else.
func (st *stage) unpack(req layer.Request, pipe, listing *os.File) (layer.Result, error) {
	at, err := st.open(req.At)
	if err != nil {
		return layer.Result{}, err
	}
	defer unix.Close(at)
	u := newUnpacker(st.idmap, req.Limits, st.newSpill(at))
	if listing != nil {
		u.sums = newSums(u.marks.s)
	}
	if !req.Lowest {
		u.askBelow = func() ([]int, error) { return st.askBelow(req.ID) }
	}
	src, err := pollable(pipe)
	if err != nil {
		return layer.Result{}, err
	}
	defer src.Close()
	stream := newStream(src, req.Limits, req.Digest, func() (*os.File, error) { return nameless(at) })
	err = st.confined(at, func() error {
		if err := u.run(stream); err != nil {
			return err
		}
		if listing != nil {
			l := &lister{sums: u.sums, xattrs: u.xattrsSet, spill: u.marks.s}
			if err := l.writeListing(listing, req.Label, &u.res); err != nil {
				return err
			}
		}
		return u.setDirTimes() // after all that reads directories, and so changes when they were read
	})
	if err != nil {
		stream.abandon()
	} else {
		u.res.DiffID, err = stream.drain()
	}
	u.close()
	return u.res, err
}

func (st *stage) newSpill(at int) *spill {
	return &spill{file: func() (*os.File, error) { return nameless(at) }, room: &st.room}
}

// nameless makes a file in the directory dir that has no name there.
func nameless(dir int) (*os.File, error) {
	const name = whiteoutMeta + "spilled" // no entry can be called so
	fd, err := openRetry(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err == unix.EOPNOTSUPP || err == unix.EISDIR {
		fd, err = openRetry(dir, name, unix.O_CREAT|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = unix.Unlinkat(dir, name, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a file without a name: %w", err)
	}
	return os.NewFile(uintptr(fd), "spilled"), nil
}

// pollable returns f as a file whose Close interrupts a Read.
func pollable(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "layer"), nil
}

// askBelow asks the parent for the layers below and waits.
func (st *stage) askBelow(id uint64) ([]int, error) {
	st.mu.Lock()
	c := st.below[id]
	st.mu.Unlock()
	if err := st.conn.Send(layer.Reply{ID: id, NeedsBelow: true}); err != nil {
		return nil, err
	}
	req := <-c
	if req.Fail {
		return nil, fmt.Errorf("the layers below did not come")
	}
	return st.openAll(req.From)
}

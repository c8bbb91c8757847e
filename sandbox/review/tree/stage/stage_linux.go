package stage

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// Main is the whole life of a cove-review stage. It never returns.
func Main() {
	// PR_SET_PDEATHSIG belongs to the thread that asks for it, and so do the working directory and the capabilities here.
	runtime.LockOSThread()
	conn, err := fdpass.FromFD(userns.ConnFD)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cove: %s is started by cove itself: %v\n", tree.StageName, err)
		os.Exit(2)
	}
	conn.Same()
	var h tree.Hello
	if _, err := conn.Recv(&h); err != nil {
		os.Exit(1) // the parent is gone
	}
	st := &stage{conn: conn, kind: h.Kind}
	if err := st.enter(h); err != nil {
		_ = conn.Send(failed(err))
		os.Exit(1)
	}
	if conn.Send(tree.Reply{Ready: true}) != nil {
		os.Exit(1)
	}
	for {
		var req tree.Request
		files, err := conn.Recv(&req)
		if err != nil {
			os.Exit(0)
		}
		st.serve(req, files)
		for _, f := range files {
			f.Close()
		}
	}
}

type stage struct {
	conn   *fdpass.Conn
	kind   spec.RootKind
	uppers []int // descriptors of Hello.Uppers
}

func failed(err error) tree.Reply {
	r := tree.Reply{Err: err.Error()}
	var errno unix.Errno
	if errors.As(err, &errno) {
		r.Errno = uint32(errno)
	}
	return r
}

// softMemory is when Go's collector begins to work harder; hardMemory is where the stage ends, and not the machine: what
// it holds at a time is the names of one folder, which a stranger chose.
const (
	softMemory = 512 << 20
	hardMemory = 2 << 30
)

// enter opens the folders, becomes the mapping's root, and gives up everything else.
func (st *stage) enter(h tree.Hello) error {
	// Before any credential changes: the caller's own folders (0700) cannot be walked through by a subordinate id.
	for _, dir := range h.Uppers {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: dir, Err: err}
		}
		st.uppers = append(st.uppers, fd)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := userns.BecomeRoot(h.IDMap); err != nil {
		return err
	}
	if err := st.leaveHost(); err != nil {
		return err
	}
	unix.Umask(0)
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
	return loadFilter()
}

func (st *stage) serve(req tree.Request, files []*os.File) {
	reply, file, err := st.answer(req, files)
	if err != nil {
		reply = failed(err)
	}
	var send []*os.File
	if file != nil {
		defer file.Close()
		send = append(send, file)
	}
	if st.conn.Send(reply, send...) != nil {
		os.Exit(1)
	}
}

func (st *stage) answer(req tree.Request, files []*os.File) (r tree.Reply, file *os.File, err error) {
	if req.View < 0 || req.View >= len(st.uppers) || !proper(req.Path) {
		return r, nil, fmt.Errorf("no such place: view %d, %q", req.View, req.Path)
	}
	root := st.uppers[req.View]
	switch req.Op {
	case tree.OpWalk:
		return tree.Reply{Done: true}, nil, st.walk(root, req.Skip)
	case tree.OpStat, tree.OpOpen:
		r.Entry, file, err = st.look(root, req.Path, req.Op == tree.OpOpen)
		r.Found = err == nil
		if err == unix.ENOENT || err == unix.ENOTDIR {
			err = nil
		}
		return r, file, err
	case tree.OpRemove:
		return r, nil, removeTree(root, req.Path)
	case tree.OpMerge:
		return r, nil, st.merge(root, req.Path, req.Lower)
	case tree.OpPut:
		var content *os.File
		if len(files) == 1 {
			content = files[0]
		}
		return r, nil, put(root, req.At, content)
	case tree.OpSync:
		return r, nil, unix.Syncfs(root)
	}
	return r, nil, fmt.Errorf("unknown request %q", req.Op)
}

// proper tells a path that stays below where it begins. The parent sends no other.
func proper(path string) bool {
	if path == "" {
		return true
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// openAt opens a path below root, through no link.
func openAt(root int, path string, flags int) (int, error) {
	if path == "" {
		path = "."
	}
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := unix.Openat2(root, path, how)
		if err != unix.EINTR && err != unix.EAGAIN {
			if err == unix.ELOOP {
				err = unix.ENOTDIR // a link on the way
			}
			return fd, err
		}
	}
}

// openParent opens the folder that path is in.
func openParent(root int, path string) (dir int, name string, err error) {
	up, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		up, name = path[:i], path[i+1:]
	}
	dir, err = openAt(root, up, unix.O_RDONLY|unix.O_DIRECTORY)
	return dir, name, err
}

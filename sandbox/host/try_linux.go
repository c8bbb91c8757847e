package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"cove/userns"

	"golang.org/x/sys/unix"
)

// request is what the stage is asked to try.
type request struct {
	Dir  string `json:"dir"`            // an empty folder on the store's file system; "": there is none
	Deep bool   `json:"deep,omitempty"` // try what Deep holds as well
	Fuse string `json:"fuse,omitempty"` // fuse-overlayfs's path, for that
	// Lower is a folder of the user's: try whether an overlay can lie on it, and nothing else.
	Lower string `json:"lower,omitempty"`
}

// answer is what the stage found out.
type answer struct {
	Tried
	Deep *Deep `json:"deep,omitempty"`
}

// try starts the stage, with a range of ids if that works, otherwise with one.
func try(ctx context.Context, h *Host, opts Options) (answer, error) {
	idmap, mapErr := h.idmap()
	c, err := start(ctx, idmap)
	var refused *userns.NamespaceError
	if err != nil && !errors.As(err, &refused) && !idmap.Single() && ctx.Err() == nil {
		mapErr = err
		idmap = userns.Single(h.UID, h.GID, 0, 0)
		c, err = start(ctx, idmap)
	}
	if err != nil {
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		return answer{Tried: allFailed(err), Deep: deepFailed()}, nil
	}
	t, err := ask(c, idmap, opts.StoreDir, request{Deep: opts.Deep, Fuse: h.Helpers.FuseOverlayfs})
	if err != nil {
		return answer{}, fmt.Errorf("try what this machine allows: %w", err)
	}
	if t.Deep == nil {
		t.Deep = deepFailed()
	}
	t.MapRange = Fact{OK: true}
	if mapErr != nil {
		t.MapRange = fact(mapErr)
	}
	return t, nil
}

// TryLower tries whether overlayfs can have a folder, in which nothing is mounted, as its lower directory and the store's
// file system above it: it cannot on file systems that know no case, on others that have names of their own mind, and on too
// many other overlays.
func (h *Host) TryLower(ctx context.Context, storeDir, lower string) (Fact, error) {
	if h.NativeOverlay.OK && likeStore(storeDir, lower) {
		return h.NativeOverlay, nil
	}
	idmap, _ := h.idmap()
	c, err := start(ctx, idmap)
	if err != nil {
		return Fact{}, fmt.Errorf("try an overlay on %q: %w", lower, err)
	}
	t, err := ask(c, idmap, storeDir, request{Lower: lower})
	if err != nil {
		return Fact{}, fmt.Errorf("try an overlay on %q: %w", lower, err)
	}
	return t.NativeOverlay, nil
}

// likeStore reports whether a folder is one that an overlay can lie on just as on the store's own, where that was tried: of
// the same file system, and not one of those that know no case, which ext4 and f2fs have folder by folder (ioctl_iflags(2)).
func likeStore(storeDir, folder string) bool {
	var a, b unix.Stat_t
	if unix.Stat(storeDir, &a) != nil || unix.Stat(folder, &b) != nil || a.Dev != b.Dev {
		return false
	}
	fd, err := unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	const noCase = 0x40000000 // FS_CASEFOLD_FL
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	return err == unix.ENOTTY || err == unix.EOPNOTSUPP || err == nil && flags&noCase == 0
}

// idmap is the widest mapping that the machine grants; the error says why it is a single id.
func (h *Host) idmap() (userns.IDMap, error) {
	if h.UID == 0 {
		m, err := userns.AllocateRoot(h.SubIDs)
		if err != nil {
			m = userns.Single(0, 0, 0, 0)
		}
		return m, err
	}
	m, err := userns.Allocate(h.SubIDs, h.UID, h.GID, 0, 0)
	if err == nil && !h.MayMap {
		_, _, err = userns.Helpers()
	}
	if err != nil {
		return userns.Single(h.UID, h.GID, 0, 0), err
	}
	return m, nil
}

func start(ctx context.Context, m userns.IDMap) (*userns.Child, error) {
	return userns.Start(ctx, userns.Config{
		Stage: StageName,
		IDMap: m,
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
			unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
	})
}

// ask has the stage try everything in a folder that is gone afterwards.
func ask(c *userns.Child, m userns.IDMap, storeDir string, req request) (answer, error) {
	defer c.Conn.Close()
	dir, remove, dirErr := scratch(storeDir, m)
	if dirErr == nil {
		defer remove()
	}
	var t answer
	req.Dir = dir
	err := c.Conn.Send(req)
	if err == nil {
		_, err = c.Conn.Recv(&t)
	}
	if err != nil {
		c.Kill()
	}
	status, werr := c.Wait() // before the folder goes: what is mounted there goes with the stage
	if err != nil {
		return answer{}, errors.Join(fmt.Errorf("stage %s (%s): %w", StageName, describe(status), err), werr)
	}
	if dirErr != nil {
		t.NativeOverlay = fact(dirErr)
		if t.Deep != nil {
			t.Deep.FuseOverlayfs, t.Deep.Exec, t.Deep.Owners = t.NativeOverlay, t.NativeOverlay, t.NativeOverlay
		}
	}
	return t, nil
}

func describe(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "ended by " + s.Signal().String()
	}
	return fmt.Sprintf("exit code %d", s.ExitStatus())
}

const scratchPrefix = ".probe-"

// scratch makes a folder on the store's file system, owned by the mapping's root. A lock on it says that it is in use; what
// a killed probe left is removed on the way.
func scratch(storeDir string, m userns.IDMap) (dir string, remove func(), err error) {
	if storeDir == "" {
		return "", nil, errors.New("no store")
	}
	if err := os.MkdirAll(storeDir, 0o700); err != nil {
		return "", nil, err
	}
	sweep(storeDir)
	dir, lock, err := lockedTemp(storeDir)
	if err != nil {
		return "", nil, err
	}
	remove = func() { removeTree(dir); lock.Close() }
	if os.Geteuid() == 0 {
		uid, _ := m.HostUID(0)
		gid, _ := m.HostGID(0)
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			remove()
			return "", nil, err
		}
	}
	return dir, remove, nil
}

// lockedTemp makes a scratch folder and locks it, and another one when a sweep took it for a leftover in between.
func lockedTemp(storeDir string) (dir string, lock *os.File, err error) {
	for {
		if dir, err = os.MkdirTemp(storeDir, scratchPrefix); err != nil {
			return "", nil, err
		}
		if lock, err = os.Open(dir); err == nil {
			if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX); err == nil {
				if _, err = os.Lstat(dir); err == nil { // no other gets its random name
					return dir, lock, nil
				}
			}
			lock.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && err != unix.EINTR {
			removeTree(dir)
			return "", nil, err
		}
	}
}

func sweep(storeDir string) {
	left, _ := filepath.Glob(filepath.Join(quoteGlob(storeDir), scratchPrefix+"*"))
	for _, dir := range left {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			removeTree(dir)
		}
		f.Close()
	}
}

func quoteGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// removeTree removes a scratch folder, in which overlayfs leaves a folder of mode 0.
func removeTree(dir string) {
	for _, work := range []string{"work/work", "fwork/work"} {
		_ = os.Chmod(filepath.Join(dir, work), 0o700)
	}
	_ = os.RemoveAll(dir)
}

func allFailed(err error) Tried {
	no, rest := fact(err), Fact{Why: "needs a user namespace"}
	return Tried{UserNS: no, MapRange: rest, NativeOverlay: rest, FuseMount: rest, DevNetTun: rest, MountSetattr: rest, ProcMount: rest, Hostname: rest}
}

// fact turns an error into a Fact; nil is one that holds.
func fact(err error) Fact {
	if err == nil {
		return Fact{OK: true}
	}
	f := Fact{Why: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno = int(errno)
	}
	return f
}

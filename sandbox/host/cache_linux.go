package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"cove/userns/fdpass/wire"

	"golang.org/x/sys/unix"
)

// cacheVersion is raised when a fact is added or tried in another way.
const cacheVersion = 3

// cached is what the file host holds, in package wire's bytes: Key is everything that the facts depend on, as text, and
// this program's own file with that.
type cached struct {
	Key   string
	Tried Tried
}

// newKey names everything that can make a tried fact another one.
func newKey(h *Host, opts Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "v%d uid %d gid %d kernel %s\n", cacheVersion, h.UID, h.GID, h.Kernel)
	fmt.Fprintf(&b, "boot %s\n", h.Boot)
	fmt.Fprintf(&b, "sysctls %+v\n", h.Sysctls)
	// A container with the same boot id, or a shell under no_new_privs, is another place.
	ns, _ := os.Readlink("/proc/self/ns/user")
	nnp, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	fmt.Fprintf(&b, "userns %s nnp %d\n", ns, nnp)
	fmt.Fprintf(&b, "subids %v\n", h.SubIDs)
	fmt.Fprintf(&b, "label %s\n", h.Label)
	exe, _ := os.Executable()
	for _, path := range []string{h.Helpers.NewUIDMap, h.Helpers.NewGIDMap, "/etc/subuid", "/etc/subgid", "/dev/fuse", "/dev/net/tun", exe} {
		fmt.Fprintf(&b, "%s %s\n", path, fileKey(path))
	}
	fmt.Fprintf(&b, "store %s %d %s\n", opts.StoreDir, h.Store.dev, h.Store.FSType)
	return b.String()
}

func fileKey(path string) string {
	var st unix.Stat_t
	if path == "" || unix.Stat(path, &st) != nil {
		return "-"
	}
	return fmt.Sprintf("%d:%d %d.%d %o", st.Dev, st.Ino, st.Mtim.Sec, st.Mtim.Nsec, st.Mode)
}

// readCache believes a file only when nobody but us can have written it.
func readCache(dir, key string) (Tried, bool) {
	if dir == "" || !ours(dir, unix.S_IFDIR, 0o077) {
		return Tried{}, false
	}
	path := filepath.Join(dir, "host")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Tried{}, false
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || !oursStat(&st, unix.S_IFREG, 0o077) || st.Size > 1<<16 {
		return Tried{}, false
	}
	buf := make([]byte, st.Size)
	if n, err := f.Read(buf); err != nil || n != len(buf) {
		return Tried{}, false
	}
	var c cached
	if wire.Decode(buf, &c) != nil || c.Key != key {
		return Tried{}, false
	}
	return c.Tried, true
}

// writeCache keeps the facts if it can; that it cannot costs the next start a few milliseconds.
func writeCache(dir, key string, t Tried) {
	if dir == "" || os.MkdirAll(dir, 0o700) != nil || !ours(dir, unix.S_IFDIR, 0o077) {
		return
	}
	b := wire.Append(nil, cached{Key: key, Tried: t})
	f, err := os.CreateTemp(dir, ".host-*") // made with 0600
	if err != nil {
		return
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, "host"))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
}

func ours(path string, kind, without uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && oursStat(&st, kind, without)
}

func oursStat(st *unix.Stat_t, kind, without uint32) bool {
	return st.Mode&unix.S_IFMT == kind && st.Mode&without == 0 && st.Uid == uint32(os.Geteuid())
}

// lasting reports whether the facts can be believed until something in the key changes. That user
// namespaces are refused can be mended without a trace (an AppArmor profile gets loaded), and a
// full disk is emptied: such an answer is asked for again.
func (t *Tried) lasting(h *Host) bool {
	if !t.UserNS.OK {
		return false
	}
	// With all that it takes at hand a range is mapped: that it was not has a reason of the moment, such as a limit on
	// descriptors, and to believe it until the next boot would take the ids from every image.
	able := h.Helpers.NewUIDMap != "" && h.Helpers.NewGIDMap != "" && h.Helpers.Weak == "" && len(h.SubIDs.UIDs) > 0 && len(h.SubIDs.GIDs) > 0
	if able && !t.MapRange.OK {
		return false
	}
	for _, f := range []Fact{t.MapRange, t.NativeOverlay, t.FuseMount, t.DevNetTun, t.MountSetattr, t.ProcMount} {
		switch syscall.Errno(f.Errno) {
		case unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.EBADF, unix.EAGAIN, unix.EINTR:
			return false
		}
	}
	return true
}

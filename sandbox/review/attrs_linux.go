package review

import (
	"bytes"
	"fmt"
	"maps"
	"strings"

	"golang.org/x/sys/unix"
)

// attrs is what a folder has besides its entries.
type attrs struct {
	st     unix.Stat_t
	xattrs map[string][]byte
}

func readAttrs(dir string) (a attrs, err error) {
	if err := unix.Lstat(dir, &a.st); err != nil {
		return a, fmt.Errorf("stat %q: %w", dir, err)
	}
	a.xattrs = map[string][]byte{}
	n, err := unix.Llistxattr(dir, nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return a, nil
	}
	list := make([]byte, max(n, 0))
	if err == nil {
		n, err = unix.Llistxattr(dir, list)
	}
	if err != nil {
		return a, fmt.Errorf("list extended attributes of %q: %w", dir, err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !kept(name) {
			continue
		}
		value := make([]byte, 64<<10) // the kernel's most, XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(dir, name, value)
		if err != nil {
			return a, fmt.Errorf("extended attribute %q of %q: %w", name, dir, err)
		}
		a.xattrs[name] = bytes.Clone(value[:n])
	}
	return a, nil
}

// kept tells the attributes that are part of a folder from those that overlay file systems keep for themselves there, and
// those that the system gives to every file.
func kept(name string) bool {
	if strings.HasPrefix(name, "user.overlay.") || strings.HasPrefix(name, "user.fuseoverlayfs.") {
		return false
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_")
}

// copyAttrs gives the folder to, which is ours, what the folder from has, as far as we may.
func copyAttrs(from, to string) error {
	a, err := readAttrs(from)
	if err != nil {
		return err
	}
	// Of another's folder, which this user may only read, it is this user's own instead, as is all that is copied up.
	_ = unix.Lchown(to, int(a.st.Uid), -1)
	_ = unix.Lchown(to, -1, int(a.st.Gid))
	if err := unix.Chmod(to, a.st.Mode&0o7777); err != nil {
		return fmt.Errorf("chmod %q: %w", to, err)
	}
	for name, value := range a.xattrs {
		if err := unix.Lsetxattr(to, name, value, 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("extended attribute %q of %q: %w", name, to, err)
		}
	}
	times := []unix.Timespec{a.st.Atim, a.st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the times of %q: %w", to, err)
	}
	return nil
}

// sameAttrs compares what copyAttrs makes alike, but for the owner, who may be another from the beginning.
func sameAttrs(one, other string) bool {
	a, err1 := readAttrs(one)
	b, err2 := readAttrs(other)
	return err1 == nil && err2 == nil && a.st.Mode == b.st.Mode &&
		maps.EqualFunc(a.xattrs, b.xattrs, bytes.Equal)
}

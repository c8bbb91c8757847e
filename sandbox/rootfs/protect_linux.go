package rootfs

import (
	"fmt"
	"path"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// protect makes paths of the workspace read-only, wherever the workspace can be reached.
func (r *Root) protect() error {
	for _, v := range r.spec.Protect.Views() {
		if err := r.protectBelow(v); err != nil {
			return err
		}
	}
	return nil
}

// protectBelow makes paths below one mount read-only. A read-only bind alone can be walked around by
// moving a folder above it away, and putting another in its place; so every folder between the
// mount and a protected path becomes a mount point, which cannot be renamed or removed.
func (r *Root) protectBelow(v spec.ProtectedMount) error {
	top, err := r.open(string(v.Target), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", v.Target, err)
	}
	defer unix.Close(top)
	pinned := map[string]bool{}
	for _, name := range v.Paths {
		clean := path.Clean(string(name))
		for i, c := range clean {
			if c != '/' || pinned[clean[:i]] {
				continue
			}
			pinned[clean[:i]] = true
			if err := pin(top, clean[:i], 0); err != nil {
				return fmt.Errorf("%q: %w", clean[:i], err)
			}
		}
		if err := pin(top, clean, unix.MOUNT_ATTR_RDONLY); err != nil {
			return fmt.Errorf("%q: %w", clean, err)
		}
	}
	return nil
}

// pin binds name, below a mount's folder, onto itself. A link in the way is refused: what it points
// to would be protected in its place, and it could be replaced.
func pin(top int, name string, attrs uint64) error {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	target, err := unix.Openat2(top, name, how)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(target)
	mount, err := clone(target, "")
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if attrs != 0 {
		if err := restrict(mount, attrs, true); err != nil {
			return err
		}
	}
	return attach(mount, target)
}

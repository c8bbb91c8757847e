package rootfs

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// protect makes paths of the workspace read-only. A read-only bind alone can be walked around by
// moving a folder above it away, and putting another in its place; so every folder between the
// workspace and a protected path becomes a mount point, which cannot be renamed or removed.
func (r *Root) protect() error {
	p := r.spec.Protect
	if p == nil {
		return nil
	}
	workspace, err := r.open(string(p.Workspace), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open workspace %q: %w", p.Workspace, err)
	}
	defer unix.Close(workspace)
	pinned := map[string]bool{}
	for _, name := range p.Paths {
		clean := path.Clean(string(name))
		for i, c := range clean {
			if c != '/' || pinned[clean[:i]] {
				continue
			}
			pinned[clean[:i]] = true
			if err := pin(workspace, clean[:i], 0); err != nil {
				return fmt.Errorf("%q: %w", clean[:i], err)
			}
		}
		if err := pin(workspace, clean, unix.MOUNT_ATTR_RDONLY); err != nil {
			return fmt.Errorf("%q: %w", clean, err)
		}
	}
	return nil
}

// pin binds name, below the workspace, onto itself. A link in the way is refused: what it points
// to would be protected in its place, and it could be replaced.
func pin(workspace int, name string, attrs uint64) error {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	target, err := unix.Openat2(workspace, name, how)
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

package rootfs

import (
	"fmt"
	"path"
	"slices"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// protect makes paths of the workspace, and cove's own file, read-only, wherever they can be reached.
func (r *Root) protect() error {
	for _, v := range slices.Concat(r.spec.Protect.Views(), r.spec.Repository.Views(), r.spec.Reviewed, r.spec.Program) {
		err := r.pinned(v, func(top int, name string) error { return pin(top, name, unix.MOUNT_ATTR_RDONLY) })
		if err != nil {
			return err
		}
	}
	return nil
}

// hide covers folders that a mount of a folder above them would show with an empty one.
func (r *Root) hide() error {
	for _, v := range r.spec.Hidden {
		err := r.pinned(v, func(top int, name string) error {
			target, err := openPlain(top, name)
			if err != nil {
				return err
			}
			defer unix.Close(target)
			cover, err := tmpfs(safe|unix.MOUNT_ATTR_RDONLY, 0o555, 4096)
			if err != nil {
				return err
			}
			defer unix.Close(cover)
			return attach(cover, target)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pinned calls do for paths below a mount that are to stay where they are. A mount on one of them alone
// can be walked around by moving a folder above it away, and putting another in its place; so every
// folder between becomes a mount point, which cannot be renamed or removed.
func (r *Root) pinned(v spec.Below, do func(top int, name string) error) error {
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
		if err := do(top, clean); err != nil {
			return fmt.Errorf("%q: %w", clean, err)
		}
	}
	return nil
}

// openPlain opens name below top, with no link on the way nor at its end followed.
func openPlain(top int, name string) (int, error) {
	fd, err := unix.Openat2(top, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return -1, fmt.Errorf("open: %w", err)
	}
	return fd, nil
}

// pin binds name, below a mount's folder, onto itself. A link in the way is refused: what it points
// to would be protected in its place, and it could be replaced.
func pin(top int, name string, attrs uint64) error {
	target, err := openPlain(top, name)
	if err != nil {
		return err
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

package rootfs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Enter makes r the root of the mount namespace and drops the old root. Before that every mount
// of the old one becomes read-only: the file of this very program lies there, and /proc/1/exe
// leads to it from inside.
func (r *Root) Enter() error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	if err := unix.Fchdir(r.fd); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	// With both arguments the same the old root is stacked on top of the new one (pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return fmt.Errorf("enter old root: %w", err)
	}
	if err := restrict(old, unix.MOUNT_ATTR_RDONLY, true); err != nil {
		return fmt.Errorf("make the host's mounts read-only: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter /: %w", err)
	}
	r.src.close()
	_ = unix.Close(r.fd)
	return nil
}

// close closes what lies on the host: nothing of it may stay open in a process inside.
func (src *Sources) close() {
	for _, fd := range append(append([]int{}, src.layers...), src.upper, src.work, src.stack, src.prepare, src.copied) {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	for _, fd := range src.devices {
		_ = unix.Close(fd)
	}
	for _, e := range src.host {
		if e.link == "" {
			_ = unix.Close(e.mount)
		}
	}
}

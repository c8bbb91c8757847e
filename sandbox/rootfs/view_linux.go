package rootfs

import (
	"fmt"
	"os"
	"strconv"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// view is what a copy-on-write view of a folder is mounted from.
type view struct {
	lower, upper, work int // directories of an overlay
	fuse               int // /dev/fuse
	copied             int // a detached mount of the copy
	noexec             bool
}

func openView(m spec.Mount) (v view, err error) {
	dir := string(m.View.Dir)
	if v.lower, err = openLinkless(string(m.Source), unix.O_DIRECTORY); err != nil {
		return v, fmt.Errorf("open %q: %w", m.Source, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(v.lower, &fs); err != nil {
		return v, fmt.Errorf("look at the file system of %q: %w", m.Source, err)
	}
	// An overlay has flags of its own, so that those of what it lies on would be lost.
	v.noexec = fs.Flags&unix.ST_NOEXEC != 0
	if m.View.Kind != spec.RootOverlay {
		_ = unix.Close(v.lower)
	}
	switch m.View.Kind {
	case spec.RootOverlay:
		if v.upper, err = openDir(dir + "/upper"); err != nil {
			return v, err
		}
		v.work, err = openDir(dir + "/work")
		return v, err
	case spec.RootFuse:
		if v.fuse, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return v, fmt.Errorf("open /dev/fuse: %w", err)
		}
		return v, nil
	case spec.RootCopy:
		if v.copied, err = clone(unix.AT_FDCWD, dir+"/tree"); err != nil {
			return v, fmt.Errorf("open %q: %w", dir+"/tree", err)
		}
		return v, nil
	}
	return v, fmt.Errorf("unknown kind of view %q", m.View.Kind)
}

// mountView puts the i-th of the Spec's mounts, a view, on its target.
func (r *Root) mountView(i int, m spec.Mount) error {
	v := r.src.views[i]
	target, err := r.dir(string(m.Target))
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := refuseKernelFS(target); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if v.noexec {
		flags |= unix.MS_NOEXEC
		attrs |= unix.MOUNT_ATTR_NOEXEC
	}
	at := "/proc/self/fd/" + strconv.Itoa(target)
	switch m.View.Kind {
	case spec.RootOverlay:
		return v.mountOverlay(at, flags)
	case spec.RootFuse:
		return mountFuse(at, v.fuse, flags, func(fuse *os.File) error { return r.serveFuse(fuse, i+1) })
	}
	defer unix.Close(v.copied)
	if err := restrict(v.copied, attrs, true); err != nil {
		return err
	}
	return attach(v.copied, target)
}

// mountOverlay is not volatile, unlike that of the root: what is written is to be kept, even if the machine goes down.
func (v view) mountOverlay(at string, flags uintptr) error {
	defer func() {
		for _, fd := range []int{v.lower, v.upper, v.work} {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return fmt.Errorf("mount overlay: chdir /proc/self/fd: %w", err)
	}
	data := fmt.Sprintf("lowerdir=%d,upperdir=%d,workdir=%d,userxattr", v.lower, v.upper, v.work)
	err := unix.Mount("overlay", at, "overlay", flags, data)
	if cd := unix.Chdir("/"); err == nil {
		err = cd
	}
	if err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

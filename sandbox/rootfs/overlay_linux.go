package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// manyLayers are more than get a descriptor each. The table of a process's descriptors has room for 64 at first, and where threads
// share it, it is enlarged only when none can be looking at the old one (expand_fdtable in the kernel's fs/file.c): on an
// idle machine ten milliseconds and more, each time that it doubles.
const manyLayers = 16

// errNoStack says that an overlay cannot be given its layers one by one here.
var errNoStack = errors.New("no lowerdir+ in this kernel")

func (src *Sources) openLayers(root *spec.Root) error {
	open := openDir
	if root.Digest == "" { // a folder that somebody has named, not one of the store's
		open = func(name string) (int, error) { return openLinkless(name, unix.O_DIRECTORY) }
	}
	names := append([]spec.Path{}, root.Layers...)
	if root.Prepared != "" {
		names = append(names, root.Prepared)
	}
	err := errNoStack
	if len(names) > manyLayers && root.Digest != "" {
		err = src.stackLayers(names)
	}
	if errors.Is(err, errNoStack) {
		err = src.holdLayers(names, open)
	}
	if err != nil {
		return err
	}
	if root.Prepare != "" {
		if src.prepare, err = openDir(string(root.Prepare)); err != nil {
			return fmt.Errorf("prepared layer: %w", err)
		}
	}
	if src.upper, err = openDir(string(root.RunDir) + "/upper"); err != nil {
		return err
	}
	src.work, err = openDir(string(root.RunDir) + "/work")
	return err
}

// holdLayers opens them, lowest first.
func (src *Sources) holdLayers(names []spec.Path, open func(string) (int, error)) error {
	for _, name := range names {
		fd, err := open(string(name))
		if err != nil {
			return fmt.Errorf("layer %q: %w", name, err)
		}
		src.layers = append(src.layers, fd)
	}
	return nil
}

// stackLayers gives them to an overlay that is to be mounted later, uppermost first.
func (src *Sources) stackLayers(names []spec.Path) error {
	// Before Linux 6.5 overlayfs took whatever it was given until it was mounted, and before 6.8 it did not know this.
	var u unix.Utsname
	var major, minor int
	if err := unix.Uname(&u); err != nil {
		return errNoStack
	}
	_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	if major < 6 || major == 6 && minor < 8 {
		return errNoStack
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return errNoStack // a filter around us, say
	}
	err = addLayers(fs, names)
	if cd := unix.Chdir("/"); err == nil {
		err = cd
	}
	if err != nil {
		_ = unix.Close(fs)
		return err
	}
	src.stack, src.stacked = fs, len(names)
	return nil
}

// addLayers gives them by their names in the folder that they are in, which is the working directory meanwhile: a third of the system calls
// that it takes by descriptors, and the names, which mountinfo shows inside, say nothing of the host.
func addLayers(fs int, names []spec.Path) error {
	folder := ""
	for i := len(names) - 1; i >= 0; i-- {
		dir, name := path.Split(string(names[i]))
		if dir != folder {
			if err := unix.Chdir(dir); err != nil {
				return fmt.Errorf("layer %q: %w", names[i], err)
			}
			folder = dir
		}
		if err := unix.FsconfigSetString(fs, "lowerdir+", name); err != nil {
			return fmt.Errorf("layer %q: %w", names[i], withReason(fs, err))
		}
	}
	return nil
}

// inDescriptors runs f in /proc/self/fd, where layers go by their descriptors' numbers: a path may hold colons and commas, may be out of reach
// of the ids inside, would be shown by mountinfo inside, and 150 of them would not fit the page that mount(2) takes.
func inDescriptors(f func() error) error {
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return fmt.Errorf("chdir /proc/self/fd: %w", err)
	}
	err := f()
	if cd := unix.Chdir("/"); err == nil {
		err = cd
	}
	return err
}

// mountOverlay mounts the layers, with upper and work, as the root. The options are of both ways:
// userxattr: the markers are user.overlay.*, the only ones an unprivileged mount may use (Linux 5.11). volatile (5.10): no sync,
// where the upper directory is thrown away. One that was mounted so the kernel refuses to mount again.
func (src *Sources) mountOverlay(flags uintptr, persist bool) error {
	if src.stack >= 0 {
		return src.mountStack(flags, persist)
	}
	var lower []string
	for i := len(src.layers) - 1; i >= 0; i-- {
		lower = append(lower, strconv.Itoa(src.layers[i]))
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%d,workdir=%d,userxattr", strings.Join(lower, ":"), src.upper, src.work)
	if !persist {
		data += ",volatile"
	}
	if err := inDescriptors(func() error { return unix.Mount("overlay", base+"/root", "overlay", flags, data) }); err != nil {
		return fmt.Errorf("mount overlay of %d layers: %w", len(src.layers), err)
	}
	return nil
}

// mountStack is mountOverlay by what stackLayers has begun (fsopen(2)).
func (src *Sources) mountStack(flags uintptr, persist bool) error {
	attrs := unix.MOUNT_ATTR_NODEV
	if flags&unix.MS_NOSUID != 0 {
		attrs |= unix.MOUNT_ATTR_NOSUID
	}
	flagged := []string{"userxattr"}
	if !persist {
		flagged = append(flagged, "volatile")
	}
	var mount int
	err := inDescriptors(func() (err error) {
		for _, o := range [][2]string{{"source", "overlay"}, {"upperdir", strconv.Itoa(src.upper)}, {"workdir", strconv.Itoa(src.work)}} {
			if err := unix.FsconfigSetString(src.stack, o[0], o[1]); err != nil {
				return fmt.Errorf("%s: %w", o[0], err)
			}
		}
		for _, name := range flagged {
			if err := unix.FsconfigSetFlag(src.stack, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := unix.FsconfigCreate(src.stack); err != nil {
			return err
		}
		mount, err = unix.Fsmount(src.stack, unix.FSMOUNT_CLOEXEC, attrs)
		return err
	})
	if err != nil {
		return fmt.Errorf("mount overlay of %d layers: %w", src.stacked, withReason(src.stack, err))
	}
	defer unix.Close(mount)
	target, err := openDir(base + "/root")
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return attach(mount, target)
}

// withReason adds what the kernel says of an error of fsconfig(2), where it says something: "e overlay: ..." (fsopen(2)).
func withReason(fs int, err error) error {
	buf := make([]byte, 1024)
	n, rerr := unix.Read(fs, buf)
	if rerr != nil || n == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, bytes.TrimSpace(buf[:n]))
}

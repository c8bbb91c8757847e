package rootfs

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// attach puts the detached mount fd on the directory or file target.
func attach(mount, target int) error {
	err := unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// clone makes a detached copy of the mounts at and below path (relative to dirfd). The copy is
// recursive: in a user namespace the kernel refuses to uncover what lies below a mount.
func clone(dirfd int, path string) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(dirfd, path, flags)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	return fd, nil
}

// restrict sets mount attributes (MOUNT_ATTR_*) on fd's mount and, when recursive, on all below it.
func restrict(fd int, attrs uint64, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: attrs}); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return nil
}

// BindReadOnly puts the folder source, read-only, on the directory that target is open on.
func BindReadOnly(source string, target int) error {
	mount, err := clone(unix.AT_FDCWD, source)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	attrs := uint64(unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if err := restrict(mount, attrs, true); err != nil {
		return err
	}
	return attach(mount, target)
}

// option is a parameter of a file system: a flag when value is empty.
type option struct{ key, value string }

// create makes a detached mount of a new file system.
func create(fstype string, attrs int, opts ...option) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount %s: fsopen: %w", fstype, err)
	}
	defer unix.Close(fs)
	for _, o := range append([]option{{"source", fstype}}, opts...) {
		if o.value == "" {
			err = unix.FsconfigSetFlag(fs, o.key)
		} else {
			err = unix.FsconfigSetString(fs, o.key, o.value)
		}
		if err != nil {
			return -1, fmt.Errorf("mount %s: option %s=%s: %w", fstype, o.key, o.value, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("mount %s: %w", fstype, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return -1, fmt.Errorf("mount %s: fsmount: %w", fstype, err)
	}
	return fd, nil
}

// tmpfs makes a detached tmpfs; sizeBytes 0 leaves the kernel's default (half of memory).
func tmpfs(attrs int, mode uint32, sizeBytes int64) (int, error) {
	opts := []option{{"mode", strconv.FormatUint(uint64(mode), 8)}}
	if sizeBytes > 0 {
		opts = append(opts, option{"size", strconv.FormatInt(sizeBytes, 10)})
	}
	return create("tmpfs", attrs, opts...)
}

// procFD names an open descriptor as a path, for the calls that only take paths. It needs the
// host's /proc, so it is for before the pivot. Following it asks for no permission on the way.
func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

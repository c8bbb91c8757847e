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

// A Stand is a set of folders put where a program that only takes paths can name them: short, without
// an odd character, and within reach whatever ids it runs with.
type Stand struct {
	mounts []int
	names  []string
}

// Add opens a folder, with the ids of now, to lie at name below the stand.
func (s *Stand) Add(folder, name string) error { return s.add(cloneAt, folder, name, 0) }

// AddReadOnly is Add of what the program is only to read.
func (s *Stand) AddReadOnly(folder, name string) error {
	return s.add(cloneAt, folder, name, unix.MOUNT_ATTR_RDONLY)
}

// AddProject is AddReadOnly of a folder that other sandboxes may have made a path to: the links on it were followed before.
func (s *Stand) AddProject(folder, name string) error {
	return s.add(cloneLinkless, folder, name, unix.MOUNT_ATTR_RDONLY)
}

func cloneAt(path string) (int, error) { return clone(unix.AT_FDCWD, path) }

func (s *Stand) add(clone func(path string) (int, error), folder, name string, attrs uint64) error {
	fd, err := clone(folder)
	if err == nil && attrs != 0 {
		err = restrict(fd, attrs, true)
	}
	if err != nil {
		return fmt.Errorf("open %q: %w", folder, err)
	}
	s.mounts, s.names = append(s.mounts, fd), append(s.names, name)
	return nil
}

// Mount puts the folders up below base, in this mount namespace, which must be its caller's own.
// It returns where that is.
func (s *Stand) Mount() (string, error) {
	if err := Detach(); err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=1m"); err != nil {
		return "", fmt.Errorf("mount tmpfs on %s: %w", base, err)
	}
	for i, name := range s.names {
		if err := unix.Mkdir(base+"/"+name, 0o755); err != nil {
			return "", err
		}
		target, err := openDir(base + "/" + name)
		if err != nil {
			return "", err
		}
		err = attach(s.mounts[i], target)
		_ = unix.Close(target)
		_ = unix.Close(s.mounts[i])
		if err != nil {
			return "", err
		}
	}
	return base, nil
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

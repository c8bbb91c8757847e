package stage

import (
	"errors"
	"fmt"
	"io"
	"os"

	"cove/sandbox/review/tree"

	"golang.org/x/sys/unix"
)

// removeTree removes a path and everything below it, following no link.
func removeTree(root int, path string) error {
	if path == "" {
		return errors.New("remove of no name")
	}
	dir, name, err := openParent(root, path)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := (&removal{top: -1}).remove(dir, name, 0); err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// maxOpen is how many folders a removal has open at once. A tree may be any number deep, and a process may have no more
// than 1024 descriptors.
const maxOpen = 200

type removal struct {
	top   int // of the tree; -1 before it is open
	moved int
}

func (r *removal) remove(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if depth == 0 {
		r.top = fd
	}
	if depth == maxOpen {
		return r.lift(dir, name)
	}
	for {
		names, err := readNames(fd)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := r.remove(fd, n, depth+1); err != nil {
				return err
			}
		}
		if depth > 0 || r.moved == 0 {
			break
		}
		r.moved = 0 // once more, for what has been lifted
		if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

// lift moves a folder up into the tree's own, to be removed from there.
func (r *removal) lift(dir int, name string) error {
	for {
		r.moved++
		err := unix.Renameat2(dir, name, r.top, fmt.Sprintf(".lifted-%d", r.moved), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return err
		}
	}
}

// opaques are the attributes that say that a folder hides what is below.
var opaques = []string{"user.overlay.opaque", "user.fuseoverlayfs.opaque"}

// merge makes a folder that hides everything below it hide only what it must. The order is such that a kill in between
// leaves it hiding more than it need, and never less.
func (st *stage) merge(root int, path string, lower []tree.LowerName) error {
	fd, err := openAt(root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, l := range lower {
		if !proper(l.Name) || l.Name == "" {
			return fmt.Errorf("no name: %q", l.Name)
		}
		var s unix.Stat_t
		err := unix.Fstatat(fd, l.Name, &s, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			err = unix.Mknodat(fd, l.Name, unix.S_IFCHR, 0)
		} else if err == nil && l.Dir && s.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = makeOpaque(fd, l.Name)
		}
		if err != nil {
			return &os.PathError{Op: "hide", Path: join(path, l.Name), Err: err}
		}
	}
	for _, m := range opaqueMarkers {
		if err := unix.Unlinkat(fd, m, 0); err != nil && err != unix.ENOENT {
			return err
		}
	}
	for _, a := range opaques {
		if err := unix.Fremovexattr(fd, a); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return err
		}
	}
	return nil
}

func makeOpaque(dir int, name string) error {
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, a := range opaques {
		if err := unix.Fsetxattr(fd, a, []byte("y"), 0); err != nil {
			return err
		}
	}
	return nil
}

// newName is what a file is called until it is complete. A name of the view's that is the same is gone then: it begins as
// no name does that fuse-overlayfs would show.
const newName = ".wh.cove-new"

// put makes a path what e says, in place of what is there.
func put(root int, e tree.Entry, content *os.File) error {
	dir, name, err := openParent(root, e.Path)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if name == "" {
		fd, err := openAt(root, "", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return dress(fd, e)
	}
	if e.IsDir() {
		return putDir(dir, name, e)
	}
	if err := (&removal{top: -1}).remove(dir, newName, 0); err != nil {
		return err
	}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = putFile(dir, e, content)
	case unix.S_IFLNK:
		err = unix.Symlinkat(e.Target, dir, newName)
	case unix.S_IFIFO:
		err = unix.Mknodat(dir, newName, unix.S_IFIFO|e.Mode&0o777, 0)
	default:
		err = fmt.Errorf("%q is of no kind that can be made", e.Path)
	}
	if err == nil {
		err = unix.Fchownat(dir, newName, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && e.IsFile() {
		err = unix.Fchmodat(dir, newName, e.Mode&0o7777, 0) // after chown(2), which takes setuid bits away
	}
	if err == nil {
		err = unix.UtimesNanoAt(dir, newName, []unix.Timespec{e.Mtime.Spec(), e.Mtime.Spec()}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, newName, 0)
		return err
	}
	err = unix.Renameat2(dir, newName, dir, name, 0)
	if err == unix.EISDIR {
		if err = (&removal{top: -1}).remove(dir, name, 0); err == nil {
			err = unix.Renameat2(dir, newName, dir, name, 0)
		}
	}
	return err
}

func putDir(dir int, name string, e tree.Entry) error {
	err := unix.Mkdirat(dir, name, 0o700)
	if err == unix.EEXIST {
		var s unix.Stat_t
		if err = unix.Fstatat(dir, name, &s, unix.AT_SYMLINK_NOFOLLOW); err == nil && s.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err = unix.Unlinkat(dir, name, 0); err == nil {
				err = unix.Mkdirat(dir, name, 0o700)
			}
		}
	} else if err == nil {
		err = unix.Fchownat(dir, name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return err
	}
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return dress(fd, e)
}

// dress gives a folder a mode and attributes, and takes off others.
func dress(fd int, e tree.Entry) error {
	have, err := tree.ReadXattrs(
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
	if err != nil {
		return err
	}
	for name := range have {
		if _, ok := e.Xattrs[name]; !ok {
			if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA {
				return err
			}
		}
	}
	if err := setXattrs(fd, e.Xattrs); err != nil {
		return err
	}
	return unix.Fchmod(fd, e.Mode&0o7777)
}

func setXattrs(fd int, xattrs map[string]string) error {
	for name, value := range xattrs {
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	return nil
}

func putFile(dir int, e tree.Entry, content *os.File) error {
	if content == nil {
		return fmt.Errorf("%q came without its content", e.Path)
	}
	fd, err := unix.Openat(dir, newName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := tree.CopyContent(fd, int(content.Fd())); err != nil {
		return err
	}
	return setXattrs(fd, e.Xattrs)
}

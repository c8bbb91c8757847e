package stage

import (
	"fmt"
	"os"
	"slices"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// batch is how many entries go into one message, and batchBytes about how long it may become.
const (
	batch      = 2000
	batchBytes = 4 << 20
)

// walk sends a whole view, folder by folder.
func (st *stage) walk(root int, skip []string) error {
	top, _, err := st.look(root, "", false)
	if err != nil {
		return fmt.Errorf("look at the view: %w", err)
	}
	todo := []tree.Entry{top}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		subdirs, err := st.folder(root, dir, skip)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue // of a view that is in use: gone meanwhile
		}
		if err != nil {
			return &os.PathError{Op: "look at", Path: dir.Path, Err: err}
		}
		slices.Reverse(subdirs)
		todo = append(todo, subdirs...)
	}
	return nil
}

// folder sends what is in one folder and returns the folders in it.
func (st *stage) folder(root int, dir tree.Entry, skip []string) (subdirs []tree.Entry, err error) {
	// By its whole path each time: a tree may be deeper than a process may have descriptors.
	fd, err := openAt(root, dir.Path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	names, err := readNames(fd)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	// Attributes of links are asked for by name: there is no descriptor of a link that fgetxattr(2) takes.
	if err := unix.Fchdir(fd); err != nil {
		return nil, err
	}
	reply := tree.Reply{Dir: dir}
	bytes := 0
	for _, name := range names {
		path := join(dir.Path, name)
		if slices.Contains(skip, path) || st.marker(name) {
			continue
		}
		e, err := st.entry(fd, name, path)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(path) >= unix.PathMax {
			e.Deep = true
		} else if e.IsDir() {
			subdirs = append(subdirs, e)
		}
		reply.Entries = append(reply.Entries, e)
		if bytes += len(e.Path) + len(e.Target) + 100; len(reply.Entries) == batch || bytes > batchBytes {
			if err := st.conn.Send(reply); err != nil {
				os.Exit(1)
			}
			reply.Entries, bytes = nil, 0
		}
	}
	reply.Last = true
	if err := st.conn.Send(reply); err != nil {
		os.Exit(1)
	}
	return subdirs, nil
}

// marker tells what fuse-overlayfs keeps beside the files, in folders that hide what is below. The kernel's overlay needs
// no such files.
func (st *stage) marker(name string) bool {
	return st.kind == spec.RootFuse && slices.Contains(opaqueMarkers, name)
}

const whiteoutPrefix = ".wh."

var opaqueMarkers = []string{".wh..wh..opq", ".wh..opq"}

// entry describes name in the folder fd, which is also the working directory.
func (st *stage) entry(fd int, name, path string) (tree.Entry, error) {
	var s unix.Stat_t
	if err := unix.Fstatat(fd, name, &s, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return tree.Entry{}, err
	}
	e := tree.FromStat(path, &s)
	if st.kind != spec.RootCopy && s.Mode&unix.S_IFMT == unix.S_IFCHR && s.Rdev == 0 {
		e.Gone = true
		if st.kind == spec.RootFuse && len(name) > len(whiteoutPrefix) && name[:len(whiteoutPrefix)] == whiteoutPrefix {
			e.Path = join(parentOf(path), name[len(whiteoutPrefix):]) // its older way to say so
		}
		return e, nil
	}
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := readlink(fd, name)
		e.Target = target
		return e, err
	case unix.S_IFDIR, unix.S_IFREG:
		return e, st.attributes(&e, name, fd)
	}
	return e, nil
}

// attributes fills in what extended attributes say. name is in the working directory.
func (st *stage) attributes(e *tree.Entry, name string, dir int) error {
	if n, err := unix.Llistxattr(name, nil); err == unix.ENOTSUP || err == nil && n == 0 {
		return nil
	}
	xattrs, err := readXattrs(e, name)
	if err != nil {
		return fmt.Errorf("extended attributes of %q: %w", e.Path, err)
	}
	e.Sum = tree.Sum(xattrs)
	if st.kind == spec.RootCopy {
		return nil
	}
	prefix := "user.overlay."
	if st.kind == spec.RootFuse {
		prefix = "user.fuseoverlayfs."
	}
	for _, a := range []string{"redirect", "metacopy"} {
		if has(name, prefix+a) {
			return fmt.Errorf("%q stands for something else (%s): the view was not made by this cove", e.Path, prefix+a)
		}
	}
	e.Origin = has(name, prefix+"origin")
	if e.IsDir() {
		e.Opaque = is(name, prefix+"opaque", "y") || is(name, "user.overlay.opaque", "y")
		if st.kind == spec.RootFuse && !e.Opaque {
			e.Opaque = slices.ContainsFunc(opaqueMarkers, func(m string) bool {
				var s unix.Stat_t
				return unix.Fstatat(dir, name+"/"+m, &s, unix.AT_SYMLINK_NOFOLLOW) == nil
			})
		}
	}
	return nil
}

// readXattrs reads those that count of name in the working directory. More than are looked at, or than the kernel lists
// (XATTR_LIST_MAX), are what somebody has made of this one file, and no reason not to look at the others.
func readXattrs(e *tree.Entry, name string) (map[string]string, error) {
	xattrs, err := tree.ReadXattrs(
		func(b []byte) (int, error) { return unix.Llistxattr(name, b) },
		func(attr string, b []byte) (int, error) { return unix.Lgetxattr(name, attr, b) })
	if e.Laden = err == unix.E2BIG; e.Laden {
		return nil, nil
	}
	return xattrs, err
}

func has(name, attr string) bool {
	var b [1]byte
	_, err := unix.Lgetxattr(name, attr, b[:])
	return err == nil || err == unix.ERANGE
}

func is(name, attr, want string) bool {
	var b [8]byte
	n, err := unix.Lgetxattr(name, attr, b[:])
	return err == nil && string(b[:n]) == want
}

// look describes what is at a path and, with content, opens it where it is a regular file.
func (st *stage) look(root int, path string, content bool) (e tree.Entry, file *os.File, err error) {
	dir, name, err := openParent(root, path)
	if err != nil {
		return e, nil, err
	}
	defer unix.Close(dir)
	if err := unix.Fchdir(dir); err != nil {
		return e, nil, err
	}
	if name == "" {
		name = "."
	}
	if e, err = st.entry(dir, name, path); err != nil || !content || !e.IsFile() && !e.IsDir() {
		return e, nil, err
	}
	e.Xattrs, err = readXattrs(&e, name)
	if err != nil || !e.IsFile() {
		return e, nil, err
	}
	// Non-blocking: in a view that is in use it may be a fifo by now.
	fd, err := openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return e, nil, err
	}
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil || now.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return e, nil, unix.ENOENT
	}
	return e, os.NewFile(uintptr(fd), "content"), nil
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	return string(buf[:max(n, 0)]), err
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func parentOf(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return ""
}

// readNames lists the folder fd.
func readNames(fd int) ([]string, error) {
	buf := make([]byte, 64<<10)
	var names []string
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

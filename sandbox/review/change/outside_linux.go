package change

import (
	"errors"
	"fmt"
	"os"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// outside is the folder of the project, or of what is mounted inside it, that a view is of. Nothing is reached through a link,
// nor on another mount: a link could have been put there a moment ago.
type outside struct {
	root string
	fd   int

	// The folder that was asked for last: a walk asks for what is in one folder after another.
	dirPath string
	dirFD   int // -1: it is not there; -2: none was asked for
}

func openOutside(root string) (*outside, error) {
	// The path had no link when the view was made. One that is there now, which whoever may write to a folder above could
	// have put there, leads to another folder.
	fd, err := unix.Openat2(unix.AT_FDCWD, root, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == unix.ELOOP {
		return nil, fmt.Errorf("open %q: a link was put on its way since the view was made", root)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	return &outside{root: root, fd: fd, dirFD: -2}, nil
}

func (o *outside) close() {
	o.forget()
	_ = unix.Close(o.fd)
}

// forget has the next look at a folder be a fresh one.
func (o *outside) forget() {
	if o.dirFD >= 0 {
		_ = unix.Close(o.dirFD)
	}
	o.dirFD = -2
}

// openIn opens a path below dir.
func openIn(dir int, path string, flags int) (int, error) {
	if path == "" {
		path = "."
	}
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV}
	for {
		fd, err := unix.Openat2(dir, path, how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// missing tells errors that say that there is no such path: a link on the way is no folder.
func missing(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
}

// dir opens the folder path; -1 when there is none. It stays open until the next call.
func (o *outside) dir(path string) (int, error) {
	if o.dirFD != -2 && o.dirPath == path {
		return o.dirFD, nil
	}
	o.forget()
	fd, err := openIn(o.fd, path, unix.O_PATH|unix.O_DIRECTORY)
	if missing(err) {
		fd, err = -1, nil
	}
	if err == unix.EXDEV {
		err = errors.New("something is mounted there that was not when the view was made")
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: join(o.root, path), Err: err}
	}
	o.dirPath, o.dirFD = path, fd
	return fd, nil
}

// lstat tells what is at a path; nil when there is nothing. The attributes are left for what needs them.
func (o *outside) lstat(path string) (*Meta, error) {
	if path == "" {
		return lstatAt(o.fd, ".")
	}
	dir, err := o.dir(parentOf(path))
	if err != nil || dir < 0 {
		return nil, err
	}
	m, err := lstatAt(dir, baseOf(path))
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: join(o.root, path), Err: err}
	}
	return m, nil
}

func lstatAt(dir int, name string) (*Meta, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if missing(err) {
			err = nil
		}
		return nil, err
	}
	e := tree.FromStat("", &st)
	m := metaOf(&e)
	if m.IsLink() {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dir, name, buf)
		if err != nil {
			return nil, err
		}
		m.Target = spec.Path(buf[:n])
	}
	return m, nil
}

// open opens a regular file to be read.
func (o *outside) open(path string) (*os.File, error) {
	dir, err := o.dir(parentOf(path))
	if err != nil {
		return nil, err
	}
	fd := -1
	if err = unix.ENOENT; dir >= 0 {
		fd, err = openIn(dir, baseOf(path), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	}
	var st unix.Stat_t
	if err == nil {
		if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
			err = unix.ESTALE
		}
		if err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: join(o.root, path), Err: err}
	}
	return os.NewFile(uintptr(fd), join(o.root, path)), nil
}

// xattrs reads the attributes that count of a folder or a file.
func (o *outside) xattrs(path string) (map[string]string, error) {
	fd, err := openIn(o.fd, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: join(o.root, path), Err: err}
	}
	defer unix.Close(fd)
	return xattrsOf(fd)
}

func xattrsOf(fd int) (map[string]string, error) {
	xattrs, err := tree.ReadXattrs(
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
	if err != nil {
		return nil, fmt.Errorf("read extended attributes: %w", err)
	}
	return xattrs, nil
}

// names lists a folder; what is no folder has none.
func (o *outside) names(path string) ([]string, error) {
	fd, err := openIn(o.fd, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: join(o.root, path), Err: err}
	}
	f := os.NewFile(uintptr(fd), join(o.root, path))
	defer f.Close()
	return f.Readdirnames(-1)
}

package rootfs

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// tree is a root file system being built: names are resolved as if it were `/` already, and a
// link in it, absolute or climbing, cannot lead out (openat2(2), Linux 5.6).
type tree struct {
	fd     int
	placed *[]spec.Placed // gets what is made in it; may be nil
	// astray is set when something was made where a link led; may be nil
	astray *bool
	// likeParent gives what is made to whom the folder above belongs, and not to the sandbox's root.
	likeParent bool
}

// maxLinks bounds how many dangling links are followed to make a mount's target; the kernel's own bound is 40.
const maxLinks = 40

// open opens name inside the tree. name is absolute as seen from inside.
func (t tree) open(name string, flags int, mode uint32) (int, error) {
	return t.openHow(name, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Mode:    uint64(mode),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

func (t tree) openHow(name string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(t.fd, name, how)
		// EAGAIN: something was renamed meanwhile; nothing here does for long.
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		return fd, err
	}
}

// dir opens the directory name, and makes it and what is missing above it.
func (t tree) dir(name string) (int, error) { return t.ensure(name, true) }

// file opens name for use as the target of a file's bind, and makes an empty file when it is missing.
func (t tree) file(name string) (int, error) { return t.ensure(name, false) }

// ensure opens name, and makes what is missing of it. A link that dangles is followed, inside the
// tree, and what it points to is made.
func (t tree) ensure(name string, dir bool) (int, error) {
	name = path.Clean("/" + name)
	flags := unix.O_PATH
	if dir {
		flags |= unix.O_DIRECTORY
	}
	fd, err := t.open(name, flags, 0)
	if err != unix.ENOENT {
		return fd, err
	}
	// Component by component, as the kernel does it: at is where the walk stands, without a link
	// on the way, so that a relative link is followed from where it lies, and not from what it was reached by.
	at, links := "/", 0
	todo := strings.Split(name[1:], "/")
	for len(todo) > 0 {
		base := todo[0]
		todo = todo[1:]
		switch base {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		target, err := t.step(at, base, dir || len(todo) > 0)
		if err != nil {
			return -1, err
		}
		if target == "" {
			at = path.Join(at, base)
			continue
		}
		if links++; links > maxLinks {
			return -1, unix.ELOOP
		}
		if t.astray != nil {
			*t.astray = true
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return t.open(at, flags, 0)
}

// step makes sure that base is in the directory at. It returns what base links to when it is a link.
func (t tree) step(at, base string, dir bool) (link string, err error) {
	// No link is on the way to at, and none that somebody else puts there meanwhile, who can write to the same home, is followed.
	parent, err := t.openHow(at, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", err
	}
	defer unix.Close(parent)
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT && dir:
		err := unix.Mkdirat(parent, base, 0o755)
		return "", t.note(at, base, spec.PlacedDir, t.give(parent, base, err))
	case err == unix.ENOENT:
		err := unix.Mknodat(parent, base, unix.S_IFREG|0o644, 0)
		return "", t.note(at, base, spec.PlacedFile, t.give(parent, base, err))
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		link, err = readlinkat(parent, base)
		if err == nil && link == "" {
			err = unix.ENOENT // as the kernel has it for an empty link
		}
		return link, err
	}
	return "", nil
}

// ensurePlain opens name below top, and makes what is missing of it, for top's owner. What lies there may be from an
// earlier command: a link on the way could lead to where nothing must be made, and is refused.
func ensurePlain(top int, name string, dir bool) (int, error) {
	var owner unix.Stat_t
	if err := unix.Fstat(top, &owner); err != nil {
		return -1, err
	}
	at, err := unix.FcntlInt(uintptr(top), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, err
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		last := i == len(parts)-1
		fd, err := openPlain(at, part)
		if errors.Is(err, unix.ENOENT) {
			if last && !dir {
				err = unix.Mknodat(at, part, unix.S_IFREG|0o644, 0)
			} else {
				err = unix.Mkdirat(at, part, 0o755)
			}
			if err == nil {
				err = unix.Fchownat(at, part, int(owner.Uid), int(owner.Gid), unix.AT_SYMLINK_NOFOLLOW)
			}
			if err == nil {
				fd, err = openPlain(at, part)
			}
		}
		_ = unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = fd
		// O_PATH with O_NOFOLLOW opens the link itself.
		var st unix.Stat_t
		if err = unix.Fstat(at, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			err = fmt.Errorf("%q is a link in the home inside, which is not followed", strings.Join(parts[:i+1], "/"))
		}
		if err != nil {
			_ = unix.Close(at)
			return -1, err
		}
	}
	return at, nil
}

// give gives what was made, unless that failed, to its owner.
func (t tree) give(parent int, base string, err error) error {
	var st unix.Stat_t
	if err != nil || !t.likeParent {
		return err
	}
	if err := unix.Fstat(parent, &st); err != nil {
		return err
	}
	if err := unix.Fchownat(parent, base, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.EPERM {
		return err // EINVAL: nobody's in here
	}
	return nil
}

// note remembers what was made, unless that failed.
func (t tree) note(at, base string, kind spec.PlacedKind, err error) error {
	if err == nil && t.placed != nil {
		*t.placed = append(*t.placed, spec.Placed{Path: spec.Path(path.Join(at, base)[1:]), Kind: kind})
	}
	return err
}

func readlinkat(dirfd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// maxFile bounds what is read of a file that an image holds.
const maxFile = 1 << 20

// read returns a regular file's content. A missing file is empty. A fifo, a device or a file
// larger than a mebibyte is an error: an image may hold anything under any name.
func (t tree) read(name string) ([]byte, error) {
	fd, err := t.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	defer unix.Close(fd)
	return readRegular(fd, name)
}

func readRegular(fd int, name string) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat %q: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%q is no regular file", name)
	}
	if st.Size > maxFile {
		return nil, fmt.Errorf("%q has %d bytes, more than %d", name, st.Size, maxFile)
	}
	buf := make([]byte, 0, st.Size+512)
	for len(buf) <= maxFile {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, 4096)...)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
	return nil, fmt.Errorf("%q has more than %d bytes", name, maxFile)
}

// write puts a regular file with that content at name. A link is followed inside the tree; a
// fifo, a device or anything else that is no regular file is replaced, never opened.
func (t tree) write(name string, content []byte) error {
	fd, err := t.file(name)
	if err != nil {
		return fmt.Errorf("make %q: %w", name, err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	unix.Close(fd)
	if err != nil {
		return fmt.Errorf("stat %q: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		if err := t.replace(name); err != nil {
			return fmt.Errorf("replace %q: %w", name, err)
		}
	}
	fd, err = t.open(name, unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", name, err)
	}
	defer unix.Close(fd)
	if err := writeAll(fd, content); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// replace removes the last component of name, whatever it is but a directory, and makes an empty file.
func (t tree) replace(name string) error {
	parentName, base := path.Split(path.Clean("/" + name))
	parent, err := t.open(parentName, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if err := unix.Unlinkat(parent, base, 0); err != nil {
		return err
	}
	return unix.Mknodat(parent, base, unix.S_IFREG|0o644, 0)
}

// isMissing reports whether err means that a name is not there.
func isMissing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}

// ReadFile reads a file of the root file system that the caller is in: bounded, regular, and not
// by way of /proc's magic links.
func ReadFile(name string) ([]byte, error) {
	root, err := openDir("/")
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	return tree{fd: root}.read(name)
}

// CheckDir makes sure that name is a directory inside, reached without /proc's magic links (a
// WORKDIR of /proc/self/fd/N), and makes it, for uid and gid, when it is missing and it may.
func CheckDir(name string, create bool, uid, gid uint32) error {
	root, err := openDir("/")
	if err != nil {
		return err
	}
	defer unix.Close(root)
	t := tree{fd: root}
	fd, err := t.open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == unix.ENOENT && create {
		if fd, err = t.dir(name); err == nil {
			err = unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
		}
	}
	if fd >= 0 {
		_ = unix.Close(fd)
	}
	return err
}

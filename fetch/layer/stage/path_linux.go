package stage

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const maxLinks = 40 // as the kernel's own path walk has it (path_resolution(7))

// enter finds the directory that comps lead to, through whatever links lie on the way, makes
// what is missing, and opens it as parentFD. It returns its real path.
//
// The kernel could follow the links itself, this root being the layer's. But a component that
// this layer lacks may be a directory or a link below, and only a walk sees which one is missing.
func (u *unpacker) enter(comps []string) (string, error) {
	// What has been entered before is a directory all the way; a walk would take its depth squared.
	if dir := strings.Join(comps, "/"); len(u.borrowed) == 0 || u.borrowing {
		if _, ok := u.dirs[dir]; ok {
			return u.enterReal(dir)
		}
	}
	cur, links := "", 0
	rest := comps
	for len(rest) > 0 {
		c := rest[0]
		rest = rest[1:]
		switch c { // the last two come from links only
		case "", ".":
			continue
		case "..":
			cur = parentOf(cur)
			continue
		}
		next := join(cur, c)
		if len(next) >= unix.PathMax {
			return "", unix.ENAMETOOLONG
		}
		if _, ok := u.dirs[next]; ok {
			cur = next
			continue
		}
		target, err := u.step(next)
		if err != nil {
			return "", err
		}
		if target == "" {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			cur = ""
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	// What the walk made on its way to a link has nothing in it and stays borrowed.
	if !u.borrowing {
		for p := cur; p != "" && len(u.borrowed) > 0; p = parentOf(p) {
			u.unborrow(p)
		}
	}
	return u.enterReal(cur)
}

// unborrow says that the directory path is in the layer for its own sake, or its contents'.
func (u *unpacker) unborrow(path string) {
	if _, ok := u.borrowed[path]; ok {
		delete(u.borrowed, path)
		u.dropBytes(path)
	}
}

// step makes sure that path, whose parent is real, is a directory, or returns the target of the
// link that is there.
func (u *unpacker) step(path string) (link string, err error) {
	var st unix.Stat_t
	err = unix.Lstat(path, &st)
	if err == unix.ENOENT {
		return u.implicit(path)
	}
	if err != nil {
		return "", err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return "", u.keepDir(path, times{}) // made by a copy of what lies below
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return readlink(unix.AT_FDCWD, path)
	case isWhiteout(&st):
		// Removed below, and then something put in it: a new directory that hides the old.
		if err := unix.Unlink(path); err != nil {
			return "", err
		}
		u.forget(path)
		if err := u.bareDir(path); err != nil {
			return "", err
		}
		if err := u.keepName(u.borrowed, path); err != nil {
			return "", err
		}
		return "", u.makeOpaque(path)
	}
	return "", notDir(path)
}

func notDir(path string) error { return fmt.Errorf("%q is not a directory", path) }

// bareDir makes a directory that no one has described: root's, or in a setgid directory that one's group's, as mkdir(2) has it.
func (u *unpacker) bareDir(path string) error {
	if err := unix.Mkdir(path, 0o755); err != nil {
		return err
	}
	return u.keepDir(path, times{})
}

func (u *unpacker) keepDir(path string, t times) error {
	if _, ok := u.dirs[path]; !ok {
		if err := u.keepBytes(path); err != nil {
			return err
		}
	}
	u.dirs[path] = t
	return nil
}

// forget drops what is known of one path that is gone.
func (u *unpacker) forget(path string) {
	u.sums.drop(path)
	if u.parentPath == path {
		u.dropParent()
	}
	if _, ok := u.dirs[path]; ok {
		delete(u.dirs, path)
		u.dropBytes(path)
	}
	for _, set := range []map[string]struct{}{u.copied, u.borrowed, u.opaque, u.emptied, u.whiteouts} {
		if _, ok := set[path]; ok {
			delete(set, path)
			u.dropBytes(path)
		}
	}
}

// enterReal opens the directory path, which goes through no link, as parentFD.
func (u *unpacker) enterReal(path string) (string, error) {
	if u.parentFD >= 0 && u.parentPath == path {
		return path, nil
	}
	fd, err := openRetry(unix.AT_FDCWD, orDot(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return "", err
	}
	u.dropParent()
	u.parentFD, u.parentPath, u.parentSetgid = fd, path, st.Mode&unix.S_ISGID != 0
	return path, nil
}

func (u *unpacker) dropParent() {
	if u.parentFD >= 0 {
		_ = unix.Close(u.parentFD)
	}
	u.parentFD, u.parentPath = -1, ""
}

func parentOf(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ""
	}
	return path[:i]
}

func readlink(dirfd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return "", err
	}
	if n == 0 || n == len(buf) {
		return "", errors.New("symbolic link of a length that cannot be")
	}
	return string(buf[:n]), nil
}

package stage

import (
	"errors"
	"fmt"
	"strings"

	"cove/fetch/layer"

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
	if dir := strings.Join(comps, "/"); (u.borrowing || !u.marks.any(markBorrowed)) && u.marks.has(dir, markDir) {
		return u.enterReal(dir)
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
		if u.marks.has(next, markDir) {
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
		for p := cur; p != "" && u.marks.any(markBorrowed); p = parentOf(p) {
			u.marks.drop(p, markBorrowed)
		}
	}
	return u.enterReal(cur)
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
		return "", u.marks.add(path, markDir) // made by a copy of what lies below
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
		if err := u.marks.add(path, markBorrowed); err != nil {
			return "", err
		}
		return "", u.makeOpaque(path)
	}
	return "", notDir(path)
}

func notDir(path string) error { return fmt.Errorf("%q is not a directory", path) }

// bareDir makes a directory that no one has described: root's, or in a setgid directory that one's group's, as mkdir(2) has it.
func (u *unpacker) bareDir(path string) error {
	if err := u.countImplicit(); err != nil {
		return err
	}
	if err := unix.Mkdir(path, 0o755); err != nil {
		return err
	}
	return u.marks.add(path, markDir)
}

// countImplicit counts a directory that no entry has described as if one had: one name may have 2000 of them.
func (u *unpacker) countImplicit() error {
	if u.bare++; u.bare > u.lim.Entries-u.res.Entries {
		return &layer.LimitError{What: "entries", Max: u.lim.Entries}
	}
	return nil
}

// forget drops what is known of one path that is gone.
func (u *unpacker) forget(path string) {
	u.sums.drop(path)
	if u.parentPath == path {
		u.dropParent()
	}
	u.marks.forget(path)
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

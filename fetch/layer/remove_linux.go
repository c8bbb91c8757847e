package layer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// remove removes what p names and everything in it.
func (st *stage) remove(p place) error {
	dir, err := st.dir(p)
	if err != nil {
		return err
	}
	if p.Name == "" {
		return fmt.Errorf("remove of no name")
	}
	if err := removeTree(dir, p.Name, "", nil); err != nil {
		return fmt.Errorf("remove %q: %w", p.Name, err)
	}
	return nil
}

// removeTree removes name in dirfd, following no link. A tree is no deeper than PATH_MAX allows,
// by the unpacker's care, so neither is the recursion. gone, unless nil, is told of each path, path being name's.
func removeTree(dirfd int, name, path string, gone func(string)) error {
	err := unix.Unlinkat(dirfd, name, 0)
	switch err {
	case nil, unix.ENOENT:
		if gone != nil {
			gone(path)
		}
		return nil
	case unix.EISDIR, unix.EPERM:
	default:
		return err
	}
	fd, err := openRetry(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, n := range names {
		below := ""
		if gone != nil {
			below = join(path, n)
		}
		if err := removeTree(fd, n, below, gone); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return err
	}
	if gone != nil {
		gone(path)
	}
	return nil
}

// readNames lists the directory fd, without "." and "..".
func readNames(fd int) ([]string, error) {
	buf := make([]byte, 32<<10)
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

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
	if err := removeTree(dir, p.Name); err != nil {
		return fmt.Errorf("remove %q: %w", p.Name, err)
	}
	return nil
}

// removeTree removes name in dirfd, following no link. A tree is no deeper than PATH_MAX allows,
// by the unpacker's care, so neither is the recursion.
func removeTree(dirfd int, name string) error {
	err := unix.Unlinkat(dirfd, name, 0)
	switch err {
	case nil, unix.ENOENT:
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
		if err := removeTree(fd, n); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return err
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

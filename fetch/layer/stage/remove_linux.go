package stage

import (
	"fmt"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// remove removes what p names and everything in it.
func (st *stage) remove(p layer.Place) error {
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

// maxOpen is how many directories a removal has open at once. A tree may be 2000 deep, and a
// process may have no more than 1024 descriptors.
const maxOpen = 200

// removeTree removes name in dirfd, following no link. gone, unless nil, is told of each path, path being name's.
func removeTree(dirfd int, name, path string, gone func(string)) error {
	return (&removal{gone: gone, root: -1}).remove(dirfd, name, path, 0)
}

type removal struct {
	gone  func(string)
	root  int // of the tree; -1 before it is open
	moved int
}

func (r *removal) remove(dirfd int, name, path string, depth int) error {
	gone := r.gone
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
	if depth == 0 {
		r.root = fd
	}
	if depth == maxOpen && gone == nil {
		return r.lift(dirfd, name)
	}
	for {
		found := false
		err := eachName(fd, func(n string) error {
			found = true
			below := ""
			if gone != nil {
				below = join(path, n)
			}
			return r.remove(fd, n, below, depth+1)
		})
		if err != nil {
			return err
		}
		err = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
		if err == nil || err == unix.ENOENT {
			break
		}
		if err != unix.ENOTEMPTY && err != unix.EEXIST || !found {
			return err
		}
		// Once more, for what has been lifted, and what was left out because others went: a directory may have too many
		// names to know them all first.
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
	if gone != nil {
		gone(path)
	}
	return nil
}

// lift moves a directory up into the tree's root, to be removed from there.
func (r *removal) lift(dirfd int, name string) error {
	for {
		r.moved++
		err := unix.Renameat2(dirfd, name, r.root, fmt.Sprintf(".lifted-%d", r.moved), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return err
		}
	}
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

package stage

import (
	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// disk is OpDisk: the blocks that the tree at p takes, those of a file with several names once.
func (st *stage) disk(p layer.Place) (res layer.Result, err error) {
	at, err := st.open(p)
	if err != nil {
		return res, err
	}
	defer unix.Close(at)
	err = st.confined(at, func() error {
		var root unix.Stat_t
		if err := unix.Lstat(".", &root); err != nil {
			return err
		}
		res.Disk = root.Blocks * 512
		return addDisk("", map[uint64]bool{}, &res)
	})
	return res, err
}

// addDisk adds what is in the directory path. What goes meanwhile takes nothing: a sandbox may run in the tree.
func addDisk(path string, seen map[uint64]bool, res *layer.Result) error {
	fd, err := openRetry(unix.AT_FDCWD, orDot(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	var names []string
	if err == nil {
		names, err = readNames(fd)
	}
	if err != nil {
		return entryError(path, err)
	}
	var subdirs []string
	for _, name := range names {
		var s unix.Stat_t
		if unix.Fstatat(fd, name, &s, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		res.Entries++
		if s.Mode&unix.S_IFMT == unix.S_IFDIR {
			subdirs = append(subdirs, name)
		} else if s.Nlink > 1 {
			if seen[s.Ino] {
				continue
			}
			seen[s.Ino] = true
		}
		res.Disk += s.Blocks * 512
	}
	unix.Close(fd)
	for _, name := range subdirs {
		if err := addDisk(join(path, name), seen, res); err != nil {
			return err
		}
	}
	return nil
}

package change

import (
	"errors"
	"fmt"
	"os"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// errConflict says that what is at a path is not what it was a moment ago.
var errConflict = errors.New("it changed outside in this moment")

// errNotEmpty says that there is more in a folder than is to go with it.
var errNotEmpty = errors.New("there is something in the folder outside that the view does not know of")

// source is what is to be put at a path.
type source struct {
	mode   uint32 // st_mode, with the type
	mtime  tree.Time
	target spec.Path
	xattrs map[string]string
	acl    lists // nil: as it comes
	gid    int   // -1: as it comes
	uid    int
	// open returns the content of a regular file.
	open func() (*os.File, error)
	// link makes the temporary file another name of one that is there already; false when that cannot be.
	link func(dir int, tmp string) bool
}

// make makes what is to be put somewhere, under the name tmp in the folder dir, and returns its inode.
func (c *source) make(dir int, tmp string, sync bool) (ino uint64, err error) {
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(dir, tmp, 0)
		}
	}()
	if c.link != nil && c.link(dir, tmp) {
		return inodeAt(dir, tmp)
	}
	switch c.mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = c.makeFile(dir, tmp, sync)
	case unix.S_IFLNK:
		err = unix.Symlinkat(string(c.target), dir, tmp)
	case unix.S_IFIFO:
		if err = unix.Mknodat(dir, tmp, unix.S_IFIFO|0o600, 0); err == nil {
			err = chmodAt(dir, tmp, c.mode&0o7777)
		}
	default:
		err = errors.New("of a kind that cannot be made")
	}
	if err != nil {
		return 0, err
	}
	if c.mode&unix.S_IFMT != unix.S_IFREG {
		if err := c.own(func(uid, gid int) error { return unix.Fchownat(dir, tmp, uid, gid, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
			return 0, err
		}
		ts := []unix.Timespec{c.mtime.Spec(), c.mtime.Spec()}
		if err := unix.UtimesNanoAt(dir, tmp, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, err
		}
	}
	return inodeAt(dir, tmp)
}

// own gives a file to whom it belonged, as far as the caller may: for root always, for others that is a matter of groups.
func (c *source) own(chown func(uid, gid int) error) error {
	if c.uid < 0 && c.gid < 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		_ = chown(-1, c.gid)
		return nil
	}
	return chown(c.uid, c.gid)
}

func (c *source) makeFile(dir int, tmp string, sync bool) error {
	from, err := c.open()
	if err != nil {
		return err
	}
	defer from.Close()
	fd, err := unix.Openat(dir, tmp, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := tree.CopyContent(fd, int(from.Fd())); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if err := c.own(func(uid, gid int) error { return unix.Fchown(fd, uid, gid) }); err != nil {
		return err
	}
	for name, value := range c.xattrs {
		if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	if err := c.acl.give(fd); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, c.mode&0o7777); err != nil {
		return err
	}
	if err := futimens(fd, c.mtime); err != nil {
		return err
	}
	if sync {
		return unix.Fsync(fd)
	}
	return nil
}

func futimens(fd int, t tree.Time) error {
	ts := []unix.Timespec{t.Spec(), t.Spec()}
	return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
}

// chmodAt is fchmodat(2) of something that is no link: of what has been made a moment ago in a folder of the caller's.
func chmodAt(dir int, name string, mode uint32) error {
	fd, err := openIn(dir, name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

func inodeAt(dir int, name string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st.Ino, err
}

func identAt(dir int, name string) (*ident, error) {
	m, err := lstatAt(dir, name)
	return identOf(m), err
}

// place gives what is called tmp its name, when there is what is expected there; nil: nothing. In one rename, which shows what
// was there: if that is something else it goes back. What was there is moved to the path keep; "": removed.
func place(dir int, tmp, name string, expect *ident, keep string) error {
	if expect == nil {
		err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_NOREPLACE)
		if err == unix.EEXIST {
			return errConflict
		}
		if err == unix.EINVAL { // of a file system that cannot
			if now, err := identAt(dir, name); err != nil || now != nil {
				return errors.Join(errConflict, err)
			}
			err = unix.Renameat(dir, tmp, dir, name)
		}
		return err
	}
	err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_EXCHANGE)
	if err == unix.EINVAL {
		now, err := identAt(dir, name)
		if err != nil || !expect.moved(now) {
			return errors.Join(errConflict, err)
		}
		if expect.Mode&typeMask == typeDir {
			return errors.New("this file system cannot exchange a folder for something else")
		}
		if keep != "" {
			if err := unix.Renameat2(dir, name, unix.AT_FDCWD, keep, unix.RENAME_NOREPLACE); err != nil {
				return err
			}
		}
		return unix.Renameat(dir, tmp, dir, name)
	}
	if err == unix.ENOENT {
		return errConflict
	}
	if err != nil {
		return err
	}
	now, err := identAt(dir, tmp)
	if err == nil && !expect.moved(now) {
		err = errConflict
	}
	if err == nil {
		if err = putAway(dir, tmp, now, keep); err == nil {
			return nil
		}
		if err == unix.ENOTEMPTY || err == unix.EEXIST {
			err = errNotEmpty
		}
	}
	return errors.Join(err, putBack(dir, tmp, name, unix.RENAME_EXCHANGE))
}

// putBack gives what was taken out of its place for nothing that place again.
func putBack(dir int, tmp, name string, flags uint) error {
	if err := unix.Renameat2(dir, tmp, dir, name, flags); err != nil {
		return fmt.Errorf("what was there is left beside it as %q: %w", tmp, err)
	}
	return nil
}

// putAway moves what has lost its place to where it is kept, or removes it.
func putAway(dir int, name string, is *ident, keep string) error {
	if keep == "" || is.Mode&typeMask == typeDir {
		return removeAt(dir, name, is)
	}
	return unix.Renameat2(dir, name, unix.AT_FDCWD, keep, unix.RENAME_NOREPLACE)
}

func removeAt(dir int, name string, is *ident) error {
	flags := 0
	if is != nil && is.Mode&typeMask == typeDir {
		flags = unix.AT_REMOVEDIR
	}
	return unix.Unlinkat(dir, name, flags)
}

// takeAway removes what is at a name, or moves it to the path keep, when it is what is expected.
func takeAway(dir int, tmp, name string, expect *ident, keep string) error {
	if expect.Mode&typeMask == typeDir {
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		switch err {
		case unix.ENOTEMPTY, unix.EEXIST:
			return errNotEmpty
		case unix.ENOENT:
			return nil
		case unix.ENOTDIR:
			return errConflict
		}
		return err
	}
	err := unix.Renameat2(dir, name, dir, tmp, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL {
		err = unix.Renameat(dir, name, dir, tmp)
	}
	if err == unix.ENOENT {
		return nil // somebody else was there first, for the same
	}
	if err != nil {
		return err
	}
	now, err := identAt(dir, tmp)
	if err == nil && !expect.moved(now) {
		err = errConflict
	}
	if err == nil {
		if err = putAway(dir, tmp, now, keep); err == nil {
			return nil
		}
	}
	return errors.Join(err, putBack(dir, tmp, name, unix.RENAME_NOREPLACE))
}

package change

import (
	"errors"
	"fmt"
	"maps"
	"os"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// What a program inside set that gives whoever runs a file another's rights.
const setIDs = unix.S_ISUID | unix.S_ISGID

// source is what a step puts at its path.
func (w *work) source(st *step) (*source, error) {
	switch {
	case w.undo:
		return w.savedSource(st), nil
	case st.content != nil:
		acl, err := w.aclOf(st)
		st.content.acl = acl
		return st.content, err
	}
	e, f, err := w.s.tree.Open(st.View, string(st.Rel))
	if err != nil {
		return nil, err
	}
	if now := identOf(metaOf(e)); !now.moved(st.New) {
		if f != nil {
			f.Close()
		}
		return nil, errors.New("it changed in the view while it was applied")
	}
	c := &source{mode: e.Mode, mtime: e.Mtime, target: spec.Path(e.Target), xattrs: e.Xattrs, uid: -1, gid: -1}
	if e.IsFile() && !w.force {
		c.mode &^= setIDs
	}
	w.ownerOf(c, st)
	if f == nil {
		return c, nil
	}
	if c.acl, err = w.aclOf(st); err != nil {
		f.Close()
		return nil, err
	}
	c.open = func() (*os.File, error) { return f, nil }
	if l, ok := w.linkOf(st); ok {
		c.link = func(dir int, tmp string) bool {
			if !w.linkTo(l, dir, tmp) {
				return false
			}
			f.Close()
			return true
		}
	}
	return c, nil
}

// ownerOf says whose a file is to be: as what it takes the place of. What is new is the caller's, whoever owned it inside.
func (w *work) ownerOf(c *source, st *step) {
	if st.Old != nil {
		c.uid, c.gid = int(st.Old.UID), int(st.Old.GID)
	}
}

// aclOf reads the access control lists of the file that another takes the place of.
func (w *work) aclOf(st *step) (lists, error) {
	if st.Old == nil || st.Old.Mode&typeMask != unix.S_IFREG {
		return nil, nil
	}
	return w.s.outside[st.View].lists(string(st.Rel))
}

// linkOf tells a file that has several names in the view.
func (w *work) linkOf(st *step) (linked, bool) {
	if w.undo || st.Part || st.change == nil || !st.change.New.IsFile() || st.change.New.nlink < 2 {
		return linked{}, false
	}
	return linked{st.View, st.New.Ino}, true
}

// linkTo makes tmp one more name of a file that was made before.
func (w *work) linkTo(l linked, dir int, tmp string) bool {
	n := w.names[l]
	if n.name == "" {
		return false
	}
	from, err := openIn(w.s.outside[n.view].fd, n.rel, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(from)
	if unix.Linkat(from, n.name, dir, tmp, 0) != nil {
		return false
	}
	if ino, err := inodeAt(dir, tmp); err == nil && ino == n.ino {
		return true
	}
	_ = unix.Unlinkat(dir, tmp, 0)
	return false
}

// textSource is a file of the view with another text: some of its hunks.
func (s *Set) textSource(c *Change, text string) (*source, error) {
	// Another mode stays a change, with the other hunks.
	src := &source{mode: c.Old.Mode &^ setIDs, mtime: c.New.Mtime, uid: -1, gid: -1}
	src.uid, src.gid = int(c.Old.uid), int(c.Old.gid)
	e, f, err := s.tree.Open(c.view, c.rel)
	if err != nil {
		return nil, fmt.Errorf("read %q of the view: %w", c.name(), err)
	}
	if f != nil {
		f.Close()
	}
	src.xattrs = e.Xattrs
	src.open = func() (*os.File, error) {
		fd, err := unix.MemfdCreate("hunks", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("memfd_create: %w", err)
		}
		f := os.NewFile(uintptr(fd), "hunks")
		if _, err := f.WriteString(text); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	return src, nil
}

// savedSource is what was at a step's path before.
func (w *work) savedSource(st *step) *source {
	old := st.Old
	c := &source{mode: old.Mode, mtime: old.Mtime, target: old.Target, uid: int(old.UID), gid: int(old.GID)}
	if !old.Moved {
		c.xattrs, c.acl = map[string]string{}, lists{}
		for name, value := range old.Xattrs {
			if name == aclXattr || name == aclDefaultXattr {
				c.acl[name] = value
			} else {
				c.xattrs[name] = string(value)
			}
		}
	}
	if old.Saved == "" {
		return c
	}
	name := w.j.saved(old.Saved)
	c.open = func() (*os.File, error) {
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil || !old.Moved {
			return f, err
		}
		if c.xattrs, err = xattrsOf(int(f.Fd())); err == nil {
			c.acl, err = listsOfFD(int(f.Fd()))
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	if old.Moved { // the very file comes back; where it cannot, a copy with all that it has
		c.link = func(dir int, tmp string) bool { return unix.Linkat(unix.AT_FDCWD, name, dir, tmp, 0) == nil }
	}
	return c
}

// saveFile keeps what is at a step's path. Where it can be moved away when its time has come that costs nothing and keeps
// everything; else it is copied before anything is done to it.
func (w *work) saveFile(st *step) error {
	out, rel := w.s.outside[st.View], string(st.Rel)
	dir, err := out.dir(parentOf(rel))
	if err != nil {
		return err
	}
	if dir < 0 {
		return errConflict
	}
	now, err := lstatAt(dir, baseOf(rel))
	if err != nil {
		return err
	}
	if !st.expect.same(identOf(now)) {
		return errConflict
	}
	st.Old.Saved = fmt.Sprintf("%s-%d", w.j.ID, st.n)
	if w.oneMount(dir) {
		st.Old.Moved = true
		return nil
	}
	to := w.j.saved(st.Old.Saved)
	from, err := out.open(rel)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tree.CopyContent(int(f.Fd()), int(from.Fd())); err != nil {
		return err
	}
	if w.copied = w.copied || !w.sync; w.sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := st.Old.keepXattrs(int(from.Fd())); err != nil {
		return err
	}
	after, err := lstatAt(dir, baseOf(rel))
	if err == nil && !st.expect.same(identOf(after)) {
		err = errConflict
	}
	return err
}

// oneMount tells whether files can be moved from the folder dir to where they are kept: rename(2) leads to no other mount,
// be it of the same file system.
func (w *work) oneMount(dir int) bool {
	var a, b unix.Statx_t
	err1 := unix.Statx(dir, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &a)
	err2 := unix.Statx(unix.AT_FDCWD, w.j.path("old"), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &b)
	return err1 == nil && err2 == nil && a.Mask&b.Mask&unix.STATX_MNT_ID != 0 && a.Mnt_id == b.Mnt_id &&
		a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor
}

func (o *was) keepXattrs(fd int) error {
	xattrs, err := xattrsOf(fd)
	if err != nil {
		return err
	}
	o.Xattrs = map[string][]byte{}
	for name, value := range xattrs {
		o.Xattrs[name] = []byte(value)
	}
	acl, err := listsOfFD(fd)
	if err != nil {
		return err
	}
	maps.Copy(o.Xattrs, acl)
	return nil
}

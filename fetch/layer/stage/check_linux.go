package stage

import (
	"cmp"
	"fmt"
	"os"

	"cove/fetch/layer"
	"cove/fetch/layer/list"
	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// A checker compares the tree that is its thread's root with a listing, in one pass over both. It
// writes nothing, and what the disk cannot give is a finding, not the end.
type checker struct {
	r       *list.Reader
	res     layer.Result
	groups  map[uint64]uint64 // files with several names: the listing's number -> inode
	content summer
}

// check is OpCheck.
func (st *stage) check(req layer.Request, f *os.File) (layer.Result, error) {
	r, err := list.NewReader(f, req.Label)
	if err != nil {
		return layer.Result{}, err
	}
	c := &checker{r: r, groups: map[uint64]uint64{}}
	err = st.inside(req.At, c.tree)
	return c.res, err
}

func (c *checker) found(path string, kind layer.Damage, detail string) {
	if c.res.Found++; c.res.Found <= layer.MaxFindings {
		c.res.Findings = append(c.res.Findings, layer.Finding{Path: []byte(path), Kind: kind, Detail: detail})
	}
}

func (c *checker) unreadable(path string, err error) {
	c.found(path, layer.Unreadable, err.Error())
}

func (c *checker) tree() error {
	var root list.Entry
	if err := c.r.Next(&root); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(".", &st); err != nil {
		return err
	}
	c.res.Entries++
	c.entry(&root, unix.AT_FDCWD, "", ".", &st)
	return c.dir("", true)
}

// subdir is a directory of the listing, whose block comes later.
type subdir struct {
	name  string
	there bool
}

// dir compares the directory path with its block, and those in it. Where it is not there, which has
// been told, the blocks are only read.
func (c *checker) dir(path string, there bool) error {
	fd, names := -1, []string(nil)
	if there {
		var err error
		if fd, names, err = openSorted(path); err != nil {
			c.unreadable(path, err)
			there = false
		}
	}
	subs, err := c.block(path, there, fd, names)
	if fd >= 0 {
		unix.Close(fd)
	}
	if err != nil {
		return err
	}
	for _, s := range subs {
		if err := c.dir(join(path, s.name), s.there); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) block(path string, there bool, fd int, names []string) (subs []subdir, err error) {
	var e list.Entry
	for {
		if err := c.r.Next(&e); err != nil {
			return nil, err
		}
		for len(names) > 0 && (e.Kind == list.End || names[0] < e.Name) {
			c.found(join(path, names[0]), layer.Added, "")
			names = names[1:]
		}
		if e.Kind == list.End {
			return subs, nil
		}
		c.res.Entries++
		is := false // a directory
		if len(names) > 0 && names[0] == e.Name {
			is = c.named(&e, fd, path)
			names = names[1:]
		} else if there {
			c.found(join(path, e.Name), layer.Missing, "")
		}
		if e.Kind == list.Dir {
			subs = append(subs, subdir{e.Name, is})
		}
	}
}

// named compares an entry whose name is there, and tells whether it is a directory.
func (c *checker) named(e *list.Entry, fd int, dir string) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		c.unreadable(join(dir, e.Name), err)
		return false
	}
	c.entry(e, fd, dir, e.Name, &st)
	return st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// entry compares one entry with what is there under its name.
func (c *checker) entry(e *list.Entry, fd int, dir, name string, st *unix.Stat_t) {
	path := join(dir, e.Name)
	if e.Group != 0 && !c.sameFile(e, path, st) {
		return
	}
	var is list.Entry
	if err := fromStat(&is, st); err != nil || is.Kind != e.Kind {
		c.found(path, layer.Type, fmt.Sprintf("mode %o", st.Mode))
		return
	}
	if e.Kind == list.Whiteout {
		return
	}
	c.attributes(e, &is, path)
	switch e.Kind {
	case list.Symlink:
		if target, err := readlink(fd, name); err != nil {
			c.unreadable(path, err)
		} else if target != e.Target {
			c.found(path, layer.Target, fmt.Sprintf("%s, was %s", oci.Short(target), oci.Short(e.Target)))
		}
		return
	case list.File:
		c.file(e, &is, fd, path, name)
	case list.Fifo:
		return
	}
	c.xattrs(e, &is, path, below(dir, name))
}

// sameFile compares one of several names of a file. It returns true for the first, which the listing
// describes: the others are that file, or not.
func (c *checker) sameFile(e *list.Entry, path string, st *unix.Stat_t) bool {
	ino, ok := c.groups[e.Group]
	if !ok {
		c.groups[e.Group] = st.Ino
		return e.Kind != list.Hardlink // where the first is missing, which has been told, this one stands for it
	}
	if ino != st.Ino {
		c.found(path, layer.Link, "")
	}
	return false
}

func (c *checker) attributes(e, is *list.Entry, path string) {
	if is.Mode != e.Mode {
		c.found(path, layer.Mode, fmt.Sprintf("%04o, was %04o", is.Mode, e.Mode))
	}
	if is.UID != e.UID || is.GID != e.GID {
		c.found(path, layer.Owner, fmt.Sprintf("%d:%d, was %d:%d", is.UID, is.GID, e.UID, e.GID))
	}
	if is.Sec != e.Sec || is.Nsec != e.Nsec {
		c.found(path, layer.Time, fmt.Sprintf("%d.%09d, was %d.%09d", is.Sec, is.Nsec, e.Sec, e.Nsec))
	}
}

func (c *checker) file(e, is *list.Entry, fd int, path, name string) {
	c.res.Bytes += is.Size
	if is.Size != e.Size {
		c.found(path, layer.Size, fmt.Sprintf("%d, was %d", is.Size, e.Size))
		return
	}
	if e.Size == 0 {
		return
	}
	sum, err := c.content.read(fd, name)
	if err != nil {
		c.unreadable(path, err)
	} else if sum != e.Sum {
		c.found(path, layer.Content, "")
	}
}

func (c *checker) xattrs(e, is *list.Entry, path, at string) {
	if err := addXattrs(is, at); err != nil {
		c.unreadable(path, err)
		return
	}
	have, want := is.Xattrs, e.Xattrs
	for len(have) > 0 || len(want) > 0 {
		order := 0
		switch {
		case len(want) == 0:
			order = -1
		case len(have) == 0:
			order = 1
		default:
			order = cmp.Compare(have[0].Name, want[0].Name)
		}
		switch {
		case order < 0:
			c.found(path, layer.Attribute, oci.Short(have[0].Name)+" added")
			have = have[1:]
			continue
		case order > 0:
			c.found(path, layer.Attribute, oci.Short(want[0].Name)+" missing")
		case have[0].Sum != want[0].Sum:
			c.found(path, layer.Attribute, oci.Short(want[0].Name)+" changed")
		}
		if order == 0 {
			have = have[1:]
		}
		want = want[1:]
	}
}

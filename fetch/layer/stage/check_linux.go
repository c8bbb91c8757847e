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
	groups  groups // files with several names
	content summer
}

// check is OpCheck.
func (st *stage) check(req layer.Request, f *os.File) (layer.Result, error) {
	r, err := list.NewReader(f, req.Label)
	if err != nil {
		return layer.Result{}, err
	}
	c := &checker{r: r}
	err = st.inside(req.At, func(int) error { return c.tree() })
	return c.res, err
}

// groups are the inodes of files with several names, by the listing's numbers, which count up: a store that is checked may be
// one that cannot be written, so that they are in memory, in pieces of one size.
type groups struct{ inodes [][]uint64 }

const groupPiece = 4096

func (g *groups) of(n uint64) *uint64 {
	for n/groupPiece >= uint64(len(g.inodes)) {
		g.inodes = append(g.inodes, nil)
	}
	piece := &g.inodes[n/groupPiece]
	if *piece == nil {
		*piece = make([]uint64, groupPiece)
	}
	return &(*piece)[n%groupPiece]
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

// dir compares the directory path with its block, and those in it. Where it is not there, which has
// been told, the blocks are only read.
func (c *checker) dir(path string, there bool) error {
	var names *sorter
	if there {
		var err error
		if names, err = openSorted(path); err != nil {
			c.unreadable(path, err)
		}
	}
	at := c.r.Offset()
	subs, err := c.block(path, names)
	if names != nil {
		names.close()
	}
	if err != nil || subs.n == 0 {
		return err
	}
	// The block knows the names of the directories in it; in memory they may be too many.
	n := 0
	return c.r.At(at).Dirs(func(name string) error {
		n++
		return c.dir(join(path, name), subs.there(n-1))
	})
}

// subdirs are the directories in a block: whether each is there.
type subdirs struct {
	n    int
	bits []uint64
}

func (s *subdirs) add(there bool) {
	if s.n%64 == 0 {
		s.bits = append(s.bits, 0)
	}
	if there {
		s.bits[s.n/64] |= 1 << (s.n % 64)
	}
	s.n++
}

func (s *subdirs) there(n int) bool { return s.bits[n/64]>>(n%64)&1 != 0 }

// block compares a block with the names that are there. names is nil when the directory is not there, or cannot be read.
func (c *checker) block(path string, names *sorter) (subs subdirs, err error) {
	var e list.Entry
	for {
		if err := c.r.Next(&e); err != nil {
			return subs, err
		}
		is := false // there
		for names != nil {
			name, err := names.peek()
			if err != nil {
				c.unreadable(path, err)
				names = nil
			}
			if is = e.Kind != list.End && name != nil && string(name) == e.Name; is {
				names.take()
			}
			if is || name == nil || e.Kind != list.End && string(name) > e.Name {
				break
			}
			c.found(join(path, string(name)), layer.Added, "")
			names.take()
		}
		if e.Kind == list.End {
			return subs, nil
		}
		if c.res.Entries++; e.Group > uint64(c.res.Entries) {
			return subs, list.ErrDamaged
		}
		if is {
			is = c.named(&e, names.fd, path) // and a directory
		} else if names != nil {
			c.found(join(path, e.Name), layer.Missing, "")
		}
		if e.Kind == list.Dir {
			subs.add(is)
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
	ino := c.groups.of(e.Group)
	if *ino == 0 {
		*ino = st.Ino
		return e.Kind != list.Hardlink // where the first is missing, which has been told, this one stands for it
	}
	if *ino != st.Ino {
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

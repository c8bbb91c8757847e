package stage

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"strings"

	"cove/fetch/layer"
	"cove/fetch/layer/list"

	"golang.org/x/sys/unix"
)

// A lister writes the listing of the tree that is its thread's root: what is there in the end, seen
// with lstat(2), whatever entries, whiteouts and copies from below made it so.
type lister struct {
	w       *list.Writer
	sums    *sums    // of the contents that are known; the others are read
	f       *os.File // what w writes
	spill   *spill
	xattrs  bool   // there may be extended attributes that a layer keeps
	groups  table  // of files with several names, by a hash of the inode
	last    uint64 // group
	waiting int    // bytes of the names of directories that are still to be listed
	disk    int64

	content summer
}

// writeListing writes the listing of this thread's root into f. It is not synced: the store does
// that once, for all that a pull has written.
func (l *lister) writeListing(f *os.File, label string, res *layer.Result) error {
	l.f, l.w, l.groups = f, list.NewWriter(f, label), table{s: l.spill}
	err := l.tree()
	if err == nil {
		err = l.spill.err
	}
	if err == nil {
		res.Disk = l.disk
		err = l.w.Close(list.Info{Entries: res.Entries, Bytes: res.Bytes, Disk: res.Disk})
	}
	if err != nil {
		return fmt.Errorf("write the listing: %w", err)
	}
	return nil
}

func (l *lister) tree() error {
	var st unix.Stat_t
	if err := unix.Lstat(".", &st); err != nil {
		return err
	}
	root := &list.Entry{}
	if err := l.describe(root, unix.AT_FDCWD, "", ".", &st); err != nil {
		return err
	}
	if err := l.w.Entry(root); err != nil {
		return err
	}
	return l.dir("")
}

// dir writes the block of the directory path, and those of the directories in it.
//
// No directory stays open while those in it are read: a tree may be 2000 deep, and a process may have no more
// than 1024 descriptors. Their names are in memory as far as there is room, and in what has been written.
func (l *lister) dir(path string) error {
	names, rest, err := l.block(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		l.waiting -= len(name)
		if err := l.dir(join(path, name)); err != nil {
			return err
		}
	}
	if rest == 0 {
		return nil
	}
	if err := l.w.Flush(); err != nil {
		return err
	}
	return list.At(l.f, rest).Dirs(func(name string) error { return l.dir(join(path, name)) })
}

// block writes the block of the directory path. names are those of the first directories in it; the others' entries begin
// at rest in the listing, unless that is 0.
func (l *lister) block(path string) (names []string, rest int64, err error) {
	s, err := openSorted(path)
	if err != nil {
		return nil, 0, entryError(path, err)
	}
	defer s.close()
	var e list.Entry
	for ; ; s.take() {
		next, err := s.peek()
		if err != nil {
			return nil, 0, entryError(path, err)
		}
		if next == nil {
			return names, rest, l.w.Entry(&list.Entry{Kind: list.End})
		}
		name := string(next)
		var st unix.Stat_t
		if err := unix.Fstatat(s.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, 0, entryError(join(path, name), err)
		}
		e = list.Entry{Name: name, Xattrs: e.Xattrs[:0]}
		if err := l.describe(&e, s.fd, path, name, &st); err != nil {
			return nil, 0, entryError(join(path, name), err)
		}
		if e.Kind == list.Dir && rest == 0 {
			if l.waiting+len(name) > bounds.subdirs {
				rest = l.w.Offset()
			} else {
				l.waiting += len(name)
				names = append(names, name)
			}
		}
		if err := l.w.Entry(&e); err != nil {
			return nil, 0, err
		}
	}
}

// describe fills in e for name in the directory dirfd, which is dir below the root.
func (l *lister) describe(e *list.Entry, dirfd int, dir, name string, st *unix.Stat_t) error {
	if err := fromStat(e, st); err != nil {
		return err
	}
	// overlayfs makes all whiteouts of an upper directory names of one.
	if st.Nlink > 1 && e.Kind != list.Dir && e.Kind != list.Whiteout {
		key := spread(st.Ino)
		if group := l.groups.get(key); group != 0 {
			e.Kind, e.Group = list.Hardlink, group
			return nil
		}
		l.last++
		e.Group = l.last
		l.groups.set(key, e.Group)
	}
	l.disk += st.Blocks * 512
	switch e.Kind {
	case list.Symlink:
		target, err := readlink(dirfd, name)
		e.Target = target
		return err
	case list.File:
		if st.Size == 0 {
			break
		}
		var ok bool
		if e.Sum, ok = l.sums.find(dir, name); !ok {
			var err error
			if e.Sum, err = l.content.read(dirfd, name); err != nil {
				return err
			}
		}
	}
	if !l.xattrs || e.Kind != list.Dir && e.Kind != list.File {
		return nil
	}
	return addXattrs(e, below(dir, name))
}

// below is the path of name in dir, for system calls; name may be ".", for dir itself.
func below(dir, name string) string {
	if name == "." {
		return orDot(dir)
	}
	return join(dir, name)
}

// spread makes a hash of an inode's number, another one of each (the finalizer of splitmix64).
func spread(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// sums are the sums of files' contents, by a hash of their paths: an inode would take a system call for each file, and
// the path itself memory. Two paths of one hash, one pair in 10^19, would make a listing that is wrong of one file, and so
// a layer that a check finds damaged and a pull replaces.
type sums struct {
	seed maphash.Seed
	t    table
}

func newSums(s *spill) *sums { return &sums{maphash.MakeSeed(), table{s: s}} }

// known is set in what the table has of a sum, which may be 0.
const known = 1 << 32

// keep, drop and find do nothing on nil.
func (s *sums) keep(path string, sum uint32) {
	if s != nil {
		s.t.set(maphash.String(s.seed, path), uint64(sum)|known)
	}
}

func (s *sums) drop(path string) {
	if s != nil {
		s.t.set(maphash.String(s.seed, path), 0)
	}
}

func (s *sums) find(dir, name string) (sum uint32, ok bool) {
	if s == nil {
		return 0, false
	}
	var h maphash.Hash
	h.SetSeed(s.seed)
	if dir != "" {
		_, _ = h.WriteString(dir)
		_ = h.WriteByte('/')
	}
	_, _ = h.WriteString(name)
	v := s.t.get(h.Sum64())
	return uint32(v), v != 0
}

// fromStat fills in what stat(2) tells.
func fromStat(e *list.Entry, st *unix.Stat_t) error {
	e.Mode, e.UID, e.GID = st.Mode&0o7777, st.Uid, st.Gid
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Kind = list.Dir
		return nil
	case unix.S_IFREG:
		e.Kind, e.Size = list.File, st.Size
	case unix.S_IFLNK:
		e.Kind = list.Symlink
	case unix.S_IFIFO:
		e.Kind = list.Fifo
	default:
		if !isWhiteout(st) {
			return fmt.Errorf("of a kind that no layer holds (mode %o)", st.Mode)
		}
		e.Kind = list.Whiteout
		return nil
	}
	e.Sec, e.Nsec = st.Mtim.Sec, uint32(st.Mtim.Nsec)
	return nil
}

// A summer reads files to sum them up.
type summer struct{ buf []byte }

func (s *summer) read(dirfd int, name string) (uint32, error) {
	fd, err := openRetry(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if s.buf == nil {
		s.buf = make([]byte, 256<<10)
	}
	var sum uint32
	for {
		n, err := unix.Read(fd, s.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return sum, nil
		}
		sum = list.Sum(sum, s.buf[:n])
	}
}

// addXattrs adds the attributes that a layer may have: those of an image, and overlayfs's mark of an
// opaque directory.
func addXattrs(e *list.Entry, path string) error {
	names, err := unixList(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !keepXattr(name) && name != xattrOpaque {
			continue
		}
		value, err := lgetXattr(path, name)
		if err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
		if name == xattrCaps {
			value = forThisRoot(value)
		}
		e.Xattrs = append(e.Xattrs, list.Xattr{Name: name, Sum: list.Sum(0, value)})
	}
	slices.SortFunc(e.Xattrs, func(a, b list.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// unixList is listXattrs of a path.
func unixList(path string) ([]string, error) {
	n, err := unix.Llistxattr(path, nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]byte, n)
	if n, err = unix.Llistxattr(path, names); err != nil || n == 0 { // overlayfs leaves its own out only now
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00"), nil
}

func lgetXattr(path, name string) ([]byte, error) {
	n, err := unix.Lgetxattr(path, name, nil)
	if err != nil || n == 0 {
		return nil, err
	}
	value := make([]byte, n)
	n, err = unix.Lgetxattr(path, name, value)
	return value[:max(n, 0)], err
}

// list is OpList: the listing of a layer that is there.
func (st *stage) list(req layer.Request, f *os.File) (res layer.Result, err error) {
	err = st.inside(req.At, func(at int) error {
		l := &lister{xattrs: true, spill: st.newSpill(at)}
		defer l.spill.close()
		return l.writeListing(f, req.Label, &res)
	})
	return res, err
}

// inside runs f on a thread of its own that is confined to the directory p, which at is open on.
func (st *stage) inside(p layer.Place, f func(at int) error) error {
	at, err := st.open(p)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return st.confined(at, func() error { return f(at) })
}

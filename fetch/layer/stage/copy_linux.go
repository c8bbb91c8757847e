package stage

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"cove/fetch/layer"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// copier copies trees that cove has unpacked: nothing hostile writes in them any more, and no
// link is followed all the same.
type copier struct {
	root  int                                // of the copy
	own   func(*unix.Stat_t) (owners, error) // who owns the copy of a file
	raw   bool                               // keep whiteouts and overlay attributes: a layer stays a layer
	tree  bool                               // it is no layer: what none holds is left out
	skip  map[string]bool                    // folders whose entries are not copied
	links links                              // files with several names -> the copy's first
	res   layer.Result
}

type inode struct{ dev, ino uint64 }

type owners struct{ uid, gid uint32 }

// openPair opens the one directory that is copied from, and that which is copied to.
func (st *stage) openPair(req layer.Request) (src, dst int, err error) {
	if len(req.From) != 1 {
		return -1, -1, fmt.Errorf("copy from %d places", len(req.From))
	}
	if src, err = st.open(req.From[0]); err != nil {
		return -1, -1, err
	}
	if dst, err = st.open(req.At); err != nil {
		_ = unix.Close(src)
		return -1, -1, err
	}
	return src, dst, nil
}

// copyLayer is OpCopy: the same layer for another id mapping.
func (st *stage) copyLayer(req layer.Request) (layer.Result, error) {
	src, dst, err := st.openPair(req)
	if err != nil {
		return layer.Result{}, err
	}
	defer closeFDs([]int{src, dst})
	spilled := st.newSpill(dst)
	defer spilled.close()
	c := &copier{root: dst, raw: true, links: newLinks(spilled), own: func(s *unix.Stat_t) (owners, error) {
		return translate(s, req.Was, st.idmap)
	}}
	err = c.dir([]int{src}, dst, "")
	return c.res, err
}

// flatten is OpFlatten.
func (st *stage) flatten(req layer.Request) (layer.Result, error) {
	layers, err := st.openAll(req.From)
	if err != nil {
		return layer.Result{}, err
	}
	defer closeFDs(layers)
	dst, err := st.open(req.At)
	if err != nil {
		return layer.Result{}, err
	}
	defer unix.Close(dst)
	upper := make([]int, 0, len(layers)) // uppermost first
	for i := len(layers) - 1; i >= 0; i-- {
		upper = append(upper, layers[i])
	}
	spilled := st.newSpill(dst)
	defer spilled.close()
	c := &copier{root: dst, links: newLinks(spilled), own: func(s *unix.Stat_t) (owners, error) {
		return owners{s.Uid, s.Gid}, nil
	}}
	err = c.dir(upper, dst, "")
	return c.res, err
}

// copyTree is OpTree.
func (st *stage) copyTree(req layer.Request) (layer.Result, error) {
	src, dst, err := st.openPair(req)
	if err != nil {
		return layer.Result{}, err
	}
	defer closeFDs([]int{src, dst})
	spilled := st.newSpill(dst)
	defer spilled.close()
	c := &copier{root: dst, tree: true, links: newLinks(spilled), skip: map[string]bool{}}
	for _, path := range req.Skip {
		c.skip[string(path)] = true
	}
	// What another owns is nobody's in here (/proc/sys/kernel/overflowuid), and becomes the caller's own, as is what he writes.
	var caller unix.Stat_t
	if err := unix.Fstat(dst, &caller); err != nil {
		return layer.Result{}, err
	}
	const nobody = 65534
	c.own = func(s *unix.Stat_t) (owners, error) {
		own := owners{s.Uid, s.Gid}
		if own.uid == nobody {
			own.uid = caller.Uid
		}
		if own.gid == nobody {
			own.gid = caller.Gid
		}
		return own, nil
	}
	err = c.dir([]int{src}, dst, "")
	return c.res, err
}

// translate finds the owners that s had inside, under the mapping was. What stat shows are ids
// inside this stage, so they go out through now and in again through was.
func translate(s *unix.Stat_t, was, now userns.IDMap) (owners, error) {
	uid, ok1 := now.HostUID(s.Uid)
	gid, ok2 := now.HostGID(s.Gid)
	if ok1 && ok2 {
		uid, ok1 = was.ContainerUID(uid)
		gid, ok2 = was.ContainerGID(gid)
	}
	if !ok1 || !ok2 {
		return owners{}, fmt.Errorf("owner %d:%d is outside the layer's own mapping", s.Uid, s.Gid)
	}
	if _, ok := now.HostUID(uid); !ok {
		return owners{}, &layer.UnmappedIDError{ID: int64(uid)}
	}
	if _, ok := now.HostGID(gid); !ok {
		return owners{}, &layer.UnmappedIDError{ID: int64(gid), GID: true}
	}
	return owners{uid, gid}, nil
}

// dir copies the directories srcs, uppermost first, merged, into dst, which is new and empty.
// path is dst's own below the root.
func (c *copier) dir(srcs []int, dst int, path string) error {
	if len(srcs) == 0 {
		return nil
	}
	seen := map[string]bool{}
	for i, src := range srcs {
		err := eachName(src, func(name string) error {
			if seen[name] {
				return nil
			}
			if i < len(srcs)-1 { // else nothing comes after it
				seen[name] = true
			}
			return entryError(join(path, name), c.entry(srcs[i:], dst, path, name))
		})
		if err != nil {
			return err
		}
	}
	return c.attrs(srcs[0], dst)
}

// attrs gives the directory dst what src has. It comes after the contents, for the times.
func (c *copier) attrs(src, dst int) error {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	own, err := c.own(&st)
	if err != nil {
		return err
	}
	if err := unix.Fchown(dst, int(own.uid), int(own.gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(src, dst, c.raw); err != nil {
		return err
	}
	return futimes(dst, statTimes(&st))
}

// entry copies name, as the first of srcs has it.
func (c *copier) entry(srcs []int, dst int, path, name string) error {
	c.res.Entries++
	var st unix.Stat_t
	if err := unix.Fstatat(srcs[0], name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.subdir(srcs, dst, path, name)
	}
	if isWhiteout(&st) && !c.raw {
		return nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		if c.tree {
			return nil
		}
	}
	own, err := c.own(&st)
	if err != nil {
		return err
	}
	if st.Nlink > 1 {
		first := c.links.first(&st, join(path, name))
		if err := c.links.t.s.err; err != nil {
			return err
		}
		if first != "" {
			return unix.Linkat(c.root, first, dst, name, 0)
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		c.res.Bytes += st.Size
	}
	return copyNode(srcs[0], name, &st, dst, name, own)
}

// subdir copies a directory, merged with those below that show through.
func (c *copier) subdir(srcs []int, dst int, path, name string) error {
	var subs []int
	defer func() { closeFDs(subs) }()
	for _, src := range srcs {
		var st unix.Stat_t
		err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			break
		}
		fd, err := openRetry(src, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		subs = append(subs, fd)
		if isOpaque(fd) {
			break
		}
	}
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		return err
	}
	fd, err := openRetry(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if c.skip[join(path, name)] {
		return c.attrs(subs[0], fd)
	}
	return c.dir(subs, fd, join(path, name))
}

// copyNode copies one thing that is no directory.
func copyNode(srcdir int, name string, st *unix.Stat_t, dstdir int, dst string, own owners) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return copyFile(srcdir, name, st, dstdir, dst, own)
	case unix.S_IFLNK:
		target, err := readlink(srcdir, name)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(target, dstdir, dst); err != nil {
			return err
		}
	case unix.S_IFIFO:
		if err := unix.Mknodat(dstdir, dst, unix.S_IFIFO|st.Mode&0o777, 0); err != nil {
			return err
		}
	case unix.S_IFCHR:
		if st.Rdev != 0 {
			return fmt.Errorf("a device node")
		}
		if err := unix.Mknodat(dstdir, dst, unix.S_IFCHR|st.Mode&0o777, 0); err != nil {
			return err
		}
	default:
		return fmt.Errorf("of a kind that no layer holds (mode %o)", st.Mode)
	}
	if err := unix.Fchownat(dstdir, dst, int(own.uid), int(own.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	// After the owner, for the bits that mknod(2) does not take and chown(2) takes away.
	if st.Mode&unix.S_IFMT == unix.S_IFIFO && st.Mode&0o7000 != 0 {
		if err := unix.Fchmodat(dstdir, dst, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return setTimes(dstdir, dst, statTimes(st))
}

func copyFile(srcdir int, name string, st *unix.Stat_t, dstdir int, dst string, own owners) error {
	src, err := openRetry(srcdir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	fd, err := openRetry(dstdir, dst, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	err = copyContent(src, fd, st.Size)
	if err == nil {
		err = unix.Fchown(fd, int(own.uid), int(own.gid))
	}
	if err == nil {
		err = unix.Fchmod(fd, st.Mode&0o7777)
	}
	if err == nil {
		err = copyXattrs(src, fd, true)
	}
	if err == nil {
		err = futimes(fd, statTimes(st))
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}

// copyContent shares the blocks where the file system can (FICLONE), or else copies within the
// kernel what is data and leaves the holes.
func copyContent(src, dst int, size int64) error {
	if size == 0 || unix.IoctlFileClone(dst, src) == nil {
		return nil
	}
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		start, err := unix.Seek(src, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil // holes from here on
		}
		end := size
		if err != nil {
			start = off // no SEEK_DATA here: all is data
		} else if e, err := unix.Seek(src, start, unix.SEEK_HOLE); err == nil {
			end = min(e, size)
		}
		if err := copyRange(src, dst, start, end); err != nil {
			return err
		}
		off = end
	}
	return nil
}

func copyRange(src, dst int, off, end int64) error {
	for off < end {
		in, out := off, off
		n, err := unix.CopyFileRange(src, &in, dst, &out, int(min(end-off, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.EINVAL:
			return copyBytes(src, dst, off, end)
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		off += int64(n)
	}
	return nil
}

func copyBytes(src, dst int, off, end int64) error {
	buf := make([]byte, 256<<10)
	for off < end {
		n, err := unix.Pread(src, buf[:min(int64(len(buf)), end-off)], off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if err := writeAt(dst, buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

func statTimes(st *unix.Stat_t) times {
	return times{time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix())}
}

// copyXattrs copies the attributes that a layer may have; with raw, overlayfs's too.
func copyXattrs(src, dst int, raw bool) error {
	names, err := listXattrs(src)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !keepXattr(name) && !(raw && name == xattrOpaque) {
			continue
		}
		value, err := getXattr(src, name)
		if err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
		if name == xattrCaps {
			value = forThisRoot(value)
		}
		if err := unix.Fsetxattr(dst, name, value, 0); err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	return nil
}

func listXattrs(fd int) ([]string, error) {
	n, err := unix.Flistxattr(fd, nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, n)
	if n, err = unix.Flistxattr(fd, list); err != nil || n == 0 { // overlayfs leaves its own out only now
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00"), nil
}

func getXattr(fd int, name string) ([]byte, error) {
	n, err := unix.Fgetxattr(fd, name, nil)
	if err != nil || n == 0 {
		return nil, err
	}
	value := make([]byte, n)
	n, err = unix.Fgetxattr(fd, name, value)
	return value[:max(n, 0)], err
}

// forThisRoot turns file capabilities for the root of another user namespace (revision 3, with
// its id) into the plain ones (revision 2), which the kernel makes this namespace's own when they
// are set (capabilities(7), "Namespaced file capabilities").
func forThisRoot(v []byte) []byte {
	const revMask, rev2, rev3 = 0xff000000, 0x02000000, 0x03000000
	if len(v) != 24 {
		return v
	}
	magic := binary.LittleEndian.Uint32(v)
	if magic&revMask != rev3 {
		return v
	}
	binary.LittleEndian.PutUint32(v, magic&^uint32(revMask)|rev2)
	return v[:20]
}

package stage

import (
	"archive/tar"
	"bufio"
	"io"
	"os"
	"slices"
	"strings"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// A packer turns its thread's root directory, which is confined to it, into a tar stream: every path is relative to
// that root. What runs in a sandbox may change the tree meanwhile, and can lead it no further than that.
type packer struct {
	w    *tar.Writer
	tree layer.Tree
	res  layer.Packed
	buf  []byte

	low     *lower // what lies below; nil without
	placed  map[string]layer.Placed
	touched map[string]bool // directories above what was placed
	links   map[inode]string
	// pending are the headers of directories around here that are written only when something in them is.
	pending []*tar.Header
}

// pack is OpPack, on a thread that ends with it, as unpack.
func (st *stage) pack(req layer.Request, pipe *os.File) (layer.Result, error) {
	at, err := st.open(req.At)
	if err != nil {
		return layer.Result{}, err
	}
	defer unix.Close(at)
	below, err := st.openAll(req.From)
	if err != nil {
		return layer.Result{}, err
	}
	defer closeFDs(below)
	out := bufio.NewWriterSize(pipe, 256<<10)
	p := newPacker(out, req)
	if req.Tree != layer.TreeLayer {
		p.low = &lower{dirs: map[string][]int{}}
		for i := len(below) - 1; i >= 0; i-- {
			p.low.fds = append(p.low.fds, below[i])
		}
	}
	if err := st.confined(at, p.run); err != nil {
		return layer.Result{}, err
	}
	return layer.Result{Packed: &p.res}, out.Flush()
}

func newPacker(out io.Writer, req layer.Request) *packer {
	p := &packer{w: tar.NewWriter(out), tree: req.Tree, buf: make([]byte, 256<<10), links: map[inode]string{},
		placed: map[string]layer.Placed{}, touched: map[string]bool{}}
	for _, one := range req.Placed {
		p.placed[one.Path] = one
		for dir := one.Path; dir != ""; {
			dir = parentOf(dir)
			p.touched[dir] = true
		}
	}
	return p
}

func (p *packer) run() error {
	var st unix.Stat_t
	if err := unix.Lstat(".", &st); err != nil {
		return err
	}
	if err := p.directory("", &st); err != nil {
		return err
	}
	return p.w.Close()
}

// directory packs a directory and what is in it.
func (p *packer) directory(path string, st *unix.Stat_t) error {
	h, opaque, err := p.dirHeader(path, st)
	if err != nil {
		return p.unless(vanished(err) && path != "", err)
	}
	if opaque {
		if opaque, err = p.hides(path); err != nil {
			return err
		}
	}
	lazy := p.low != nil && (path == "" || p.touched[path] || p.placed[path].Kind == layer.PlacedDir || p.tree == layer.TreeCopy)
	depth := len(p.pending)
	if lazy {
		p.pending = append(p.pending, h)
	} else if err := p.header(h); err != nil {
		return err
	}
	if opaque {
		if err := p.marker(join(path, whiteoutOpaque), h); err != nil {
			return err
		}
	}
	if err := p.contents(path, h, opaque); err != nil {
		return err
	}
	if len(p.pending) <= depth {
		return nil // written
	}
	if p.placed[path].Kind != layer.PlacedDir {
		same, err := p.asBelow(path, st)
		if err != nil && !isOther(path, st) {
			return err
		}
		if !same {
			return p.flush()
		}
	}
	p.pending = p.pending[:depth]
	return nil
}

// hides tells whether there is anything below that an opaque directory could hide. fuse-overlayfs makes every new
// directory opaque.
func (p *packer) hides(path string) (bool, error) {
	if p.low == nil {
		return true, nil
	}
	f, err := p.low.find(path)
	return f != nil && f.st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// dirHeader is a directory's header, and whether it hides what is below it.
func (p *packer) dirHeader(path string, st *unix.Stat_t) (*tar.Header, bool, error) {
	fd, err := openIn(orDot(path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	h, err := p.newHeader(path+"/", fd, st)
	if err != nil {
		return nil, false, err
	}
	if path == "" {
		h.Name = "./"
	}
	h.Typeflag = tar.TypeDir
	return h, path != "" && p.isOpaque(fd), nil
}

// contents packs what is in a directory, in the order of the names' bytes.
func (p *packer) contents(path string, dir *tar.Header, opaque bool) error {
	fd, err := openIn(orDot(path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return p.unless(vanished(err) && path != "", err)
	}
	names, err := readNames(fd)
	unix.Close(fd) // a tree may be deeper than there are descriptors
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	if p.tree == layer.TreeCopy {
		lower, err := p.low.names(path)
		if err != nil {
			return err
		}
		for _, name := range lower {
			gone[name] = true
		}
		for _, name := range names {
			delete(gone, name)
		}
		for name := range gone {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		full := join(path, name)
		switch {
		case len(full) >= unix.PathMax:
			err = unix.ENAMETOOLONG
		case gone[name]:
			err = p.whiteout(full, dir)
		default:
			err = p.entry(full, name, dir, opaque)
		}
		if err != nil {
			return entryError(full, err)
		}
	}
	return nil
}

// entry packs one thing.
func (p *packer) entry(path, name string, dir *tar.Header, opaque bool) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return p.unless(vanished(err), err)
	}
	if done, err := p.ours(path, &st, dir); done || err != nil {
		return err
	}
	if p.tree == layer.TreeFuse && isWhiteout(&st) && strings.HasPrefix(name, whiteoutPrefix) {
		return nil // ".wh..opq", which fuse-overlayfs 1.10 leaves in every new directory
	}
	gone, err := p.isGone(path, &st)
	if err != nil {
		return err
	}
	if gone {
		return p.whiteout(path, dir)
	}
	if strings.HasPrefix(name, whiteoutPrefix) {
		return p.whiteoutFile(path, name, dir, opaque)
	}
	if p.tree == layer.TreeCopy && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if same, err := p.asBelow(path, &st); same || err != nil {
			return p.unless(err != nil && (noLink(&st, err) || isOther(path, &st)), err)
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(path, &st)
	case unix.S_IFREG:
		return p.file(path, &st)
	case unix.S_IFLNK, unix.S_IFIFO:
		return p.node(path, &st)
	case unix.S_IFSOCK:
		p.res.Sockets++ // nobody listens on a copy of one
	default:
		p.res.Devices++
	}
	return nil
}

// vanished tells that what was just seen is not there any more: whoever works in the tree goes on meanwhile.
func vanished(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP
}

// noLink tells that what was seen to be a symbolic link was none when it was read: EINVAL is readlink(2)'s word for that. By
// the next look it may be a link again. Of anything else EINVAL is an error like others.
func noLink(seen *unix.Stat_t, err error) bool {
	return seen.Mode&unix.S_IFMT == unix.S_IFLNK && (err == unix.EINVAL || vanished(err))
}

// openSeen opens the regular file that was seen at path. What has taken its place since is as good as gone: ENOENT.
func openSeen(path string, seen *unix.Stat_t) (fd int, st *unix.Stat_t, err error) {
	if fd, err = openIn(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY); err != nil {
		return -1, nil, err
	}
	st = &unix.Stat_t{}
	if err = unix.Fstat(fd, st); err == nil && (st.Ino != seen.Ino || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = unix.ENOENT
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, st, nil
}

// isOther tells whether what was seen at path is not there any more.
func isOther(path string, seen *unix.Stat_t) bool {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return vanished(err) || err == nil && (st.Ino != seen.Ino || st.Mode != seen.Mode)
}

// unless is err, or a count of what changes while it is read.
func (p *packer) unless(changing bool, err error) error {
	if changing {
		p.res.Changing++
		return nil
	}
	return err
}

// whiteoutFile is a file whose name a tar reader would take for an order to delete another. fuse-overlayfs means
// just that by it; elsewhere it cannot be packed under its name.
func (p *packer) whiteoutFile(path, name string, dir *tar.Header, opaque bool) error {
	switch {
	case p.tree != layer.TreeFuse:
		p.res.Names++
		return nil
	case name == whiteoutOpaque:
		if opaque {
			return nil // said already, by the attribute
		}
		hides, err := p.hides(parentOf(path))
		if !hides || err != nil {
			return err
		}
		return p.marker(path, dir)
	case !strings.HasPrefix(name, whiteoutMeta):
		return p.marker(path, dir)
	}
	return nil
}

// whiteout says that what lies below at path is gone.
func (p *packer) whiteout(path string, dir *tar.Header) error {
	base := path[len(parentOf(path)):]
	return p.marker(join(parentOf(path), whiteoutPrefix+strings.TrimPrefix(base, "/")), dir)
}

// marker writes an empty file that says something. Its time is the directory's, so that it is always the same.
func (p *packer) marker(path string, dir *tar.Header) error {
	return p.header(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o600, Uid: dir.Uid, Gid: dir.Gid, ModTime: dir.ModTime, Format: tar.FormatPAX})
}

// node packs a symbolic link or a fifo.
func (p *packer) node(path string, st *unix.Stat_t) error {
	h, err := p.newHeader(path, -1, st)
	if err != nil {
		return err
	}
	h.Typeflag = tar.TypeFifo
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = readlink(unix.AT_FDCWD, path); err != nil {
			return p.unless(noLink(st, err) || isOther(path, st), err)
		}
	}
	p.linked(h, st)
	return p.header(h)
}

// file packs a regular file. As many bytes as its header says are written, whatever becomes of it meanwhile.
func (p *packer) file(path string, seen *unix.Stat_t) error {
	fd, st, err := openSeen(path, seen)
	if err != nil {
		return p.unless(vanished(err), err)
	}
	defer unix.Close(fd)
	h, err := p.newHeader(path, fd, st)
	if err != nil {
		return err
	}
	if p.linked(h, st) {
		h.PAXRecords = nil
		return p.header(h)
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if err := p.header(h); err != nil {
		return err
	}
	changed, err := p.content(fd, st.Size)
	if err != nil {
		return err
	}
	var after unix.Stat_t
	if err := unix.Fstat(fd, &after); err != nil {
		return err
	}
	if changed || after.Size != st.Size || after.Mtim != st.Mtim {
		p.res.Changing++
	}
	return nil
}

// content writes size bytes of fd: zeros for what is no longer there. archive/tar writes no sparse files; the
// unpacker finds the holes again.
func (p *packer) content(fd int, size int64) (short bool, err error) {
	for size > 0 {
		b := p.buf[:min(size, int64(len(p.buf)))]
		n := 0
		if !short {
			if n, err = unix.Read(fd, b); err == unix.EINTR {
				continue
			}
			if err != nil {
				return false, err
			}
		}
		if n == 0 {
			short = true
			clear(b)
			n = len(b)
		}
		if _, err := p.w.Write(b[:n]); err != nil {
			return short, err
		}
		size -= int64(n)
	}
	return short, nil
}

// openIn opens path below this thread's root, through no link.
func openIn(path string, flags int) (int, error) {
	return openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
}

package stage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// What an upper directory holds beside what was written into it: markers, and what cove itself has put there.

// The attributes by which overlayfs and fuse-overlayfs say in an upper directory that the truth lies elsewhere.
// Those of copied-up files (origin, impure, nlink, uppername) say nothing about the contents.
var (
	opaqueXattrs   = []string{xattrOpaque, "user.fuseoverlayfs.opaque"}
	whiteoutXattr  = "user.overlay.whiteout" // on an empty file (Linux 6.7)
	awayXattrs     = []string{"user.overlay.redirect", "user.overlay.metacopy", "user.fuseoverlayfs.redirect"}
	errOnlyPartial = errors.New("only part of it lies in this directory")
)

// isOpaque tells whether the directory fd hides what is below.
func (p *packer) isOpaque(fd int) bool {
	for _, name := range opaqueXattrs {
		if v, err := getXattr(fd, name); err == nil && string(v) == "y" {
			return true
		}
		if p.tree != layer.TreeFuse {
			break
		}
	}
	return false
}

// isGone tells a whiteout. What the mount itself would not have made is refused: a file without its data, a directory
// that stands for another.
func (p *packer) isGone(path string, st *unix.Stat_t) (bool, error) {
	if p.tree == layer.TreeCopy {
		return false, nil
	}
	if isWhiteout(st) {
		return true, nil
	}
	kind := st.Mode & unix.S_IFMT
	if p.tree == layer.TreeLayer || kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return false, nil
	}
	var b [1]byte
	for _, name := range awayXattrs {
		if _, err := unix.Lgetxattr(path, name, b[:]); err == nil || err == unix.ERANGE {
			return false, fmt.Errorf("%w (%s)", errOnlyPartial, name)
		}
	}
	if kind == unix.S_IFREG && st.Size == 0 {
		_, err := unix.Lgetxattr(path, whiteoutXattr, b[:])
		return err == nil || err == unix.ERANGE, nil
	}
	return false, nil
}

// ours deals with what cove has put there, and says whether that was all.
func (p *packer) ours(path string, st *unix.Stat_t, dir *tar.Header) (done bool, err error) {
	one, ok := p.placed[path]
	if !ok {
		return false, nil
	}
	file := st.Mode&unix.S_IFMT == unix.S_IFREG
	switch one.Kind {
	case layer.PlacedText:
		return file || isWhiteout(st), nil
	case layer.PlacedFile:
		return file && st.Size == 0 || isWhiteout(st), nil
	case layer.PlacedLine:
		if file {
			return p.withoutLine(path, st, one.Line)
		}
	}
	return false, nil
}

// maxLined bounds a file that a line is taken out of; cove adds none to a larger one.
const maxLined = 2 << 20

// withoutLine packs a file without the line that cove has added, unless there is no other difference.
func (p *packer) withoutLine(path string, seen *unix.Stat_t, line []byte) (done bool, err error) {
	if seen.Size > maxLined {
		return false, nil
	}
	fd, st, err := openSeen(path, seen)
	if err != nil {
		return true, p.unless(vanished(err), err)
	}
	defer unix.Close(fd)
	text, err := readUpTo(fd, maxLined+1)
	if err != nil || len(text) > maxLined {
		return false, err
	}
	text = cutLine(text, line)
	if f, err := p.low.find(path); err != nil {
		return false, err
	} else if f == nil && len(text) == 0 {
		return true, nil // there was none
	} else if f != nil {
		same, err := p.sameText(f, path, fd, st, text)
		if same || err != nil {
			return true, err
		}
	}
	h, err := p.newHeader(path, fd, st)
	if err != nil {
		return true, err
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(text))
	if err := p.header(h); err != nil {
		return true, err
	}
	_, err = p.w.Write(text)
	return true, err
}

// cutLine takes the first line that is this one out of text.
func cutLine(text, line []byte) []byte {
	at := 0
	for l := range bytes.Lines(text) {
		if bytes.Equal(bytes.TrimSuffix(l, []byte("\n")), line) {
			return append(bytes.Clone(text[:at]), text[at+len(l):]...)
		}
		at += len(l)
	}
	return text
}

func readUpTo(fd int, most int64) ([]byte, error) {
	buf := make([]byte, most)
	have := 0
	for have < len(buf) {
		n, err := unix.Read(fd, buf[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		have += n
	}
	return buf[:have], nil
}

// sameText tells whether the file below has that text and the attributes of fd.
func (p *packer) sameText(f *found, path string, fd int, st *unix.Stat_t, text []byte) (bool, error) {
	if !sameAttrs(&f.st, st) || f.st.Size != int64(len(text)) {
		return false, nil
	}
	below, err := openat2(f.layer, path, howBelow(unix.O_RDONLY))
	if err != nil {
		return false, err
	}
	defer unix.Close(below)
	old, err := readUpTo(below, int64(len(text))+1)
	if err != nil || !bytes.Equal(old, text) {
		return false, err
	}
	return sameXattrs(below, fd)
}

// asBelow tells whether what is at path is no different below. Of a directory it is the attributes that count, and
// not its times, which every change of what is in it moves.
func (p *packer) asBelow(path string, st *unix.Stat_t) (bool, error) {
	if path == "" {
		return p.rootAsBelow(st)
	}
	f, err := p.low.find(path)
	if err != nil || f == nil || !sameAttrs(&f.st, st) {
		return false, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		old, err := readlinkBelow(f.layer, path)
		if err != nil {
			return false, err
		}
		now, err := readlink(unix.AT_FDCWD, path)
		return old == now && f.st.Mtim == st.Mtim, err
	case unix.S_IFDIR, unix.S_IFREG:
		return p.sameOpened(f, path, st)
	}
	return f.st.Mtim == st.Mtim && f.st.Rdev == st.Rdev, nil
}

func (p *packer) sameOpened(f *found, path string, st *unix.Stat_t) (bool, error) {
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	if regular && (f.st.Size != st.Size || f.st.Mtim != st.Mtim) {
		return false, nil
	}
	below, err := openat2(f.layer, path, howBelow(unix.O_RDONLY|unix.O_NONBLOCK))
	if err != nil {
		return false, err
	}
	defer unix.Close(below)
	fd, err := openIn(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	same, err := sameXattrs(below, fd)
	if !same || err != nil || !regular {
		return same, err
	}
	return sameContent(below, fd, min(st.Size+1, 128<<10))
}

// rootAsBelow compares the root with the topmost layer's, whose attributes a sandbox's root has.
func (p *packer) rootAsBelow(st *unix.Stat_t) (bool, error) {
	if len(p.low.fds) == 0 {
		return false, nil
	}
	var old unix.Stat_t
	if err := unix.Fstat(p.low.fds[0], &old); err != nil {
		return false, err
	}
	return sameAttrs(&old, st), nil
}

func sameAttrs(a, b *unix.Stat_t) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid
}

func sameXattrs(a, b int) (bool, error) {
	x, err := keptXattrs(a)
	if err != nil {
		return false, err
	}
	y, err := keptXattrs(b)
	return maps.Equal(x, y), err
}

// sameContent compares two files to the end: a time can be set to what it was.
func sameContent(a, b int, size int64) (bool, error) {
	for {
		x, err := readUpTo(a, size)
		if err != nil {
			return false, err
		}
		y, err := readUpTo(b, size)
		if err != nil || !bytes.Equal(x, y) {
			return false, err
		}
		if int64(len(x)) < size {
			return true, nil
		}
	}
}

func howBelow(flags int) *unix.OpenHow {
	return &unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
}

func readlinkBelow(dir int, path string) (string, error) {
	parent := dir
	if up := parentOf(path); up != "" {
		fd, err := openat2(dir, up, howBelow(unix.O_PATH|unix.O_DIRECTORY))
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		parent, path = fd, path[len(up)+1:]
	}
	return readlink(parent, path)
}

// names lists what shows of the directory path when the layers below are stacked.
func (l *lower) names(path string) ([]string, error) {
	live, err := l.live(path)
	if err != nil {
		return nil, err
	}
	var out []string
	seen := map[string]bool{}
	for _, layer := range live {
		fd, err := openat2(layer, orDot(path), howBelow(unix.O_RDONLY|unix.O_DIRECTORY))
		if err != nil {
			return nil, err
		}
		names, err := readNames(fd)
		unix.Close(fd)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			f, err := l.find(join(path, name))
			if err != nil {
				return nil, err
			}
			if f != nil {
				out = append(out, name)
			}
		}
	}
	return out, nil
}

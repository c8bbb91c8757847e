package stage

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// An unpacker writes one layer into its thread's root directory, which is confined to it: every
// path below is relative to that root, and every link leads back into it.
type unpacker struct {
	idmap userns.IDMap
	lim   layer.Limits
	res   layer.Result
	buf   []byte

	askBelow func() ([]int, error) // nil: nothing lies below
	lower    *lower                // once asked

	marks     *marks
	borrowing bool  // what is looked up now is not put there
	baseBytes int64 // of the names of all entries
	bare      int64 // directories that no entry has described

	sums      *sums // of files' contents, for the listing; nil: there will be none
	xattrsSet bool  // some entry has extended attributes

	parentPath string // the directory that parentFD is open on; parentFD is -1 when none is
	parentFD   int
	// What is made in it belongs to uid and gid, this thread's own, or, where it is setgid, to its group.
	parentSetgid bool
	uid, gid     int
}

type times struct{ atime, mtime time.Time }

func newUnpacker(m userns.IDMap, lim layer.Limits, s *spill) *unpacker {
	uid, gid := m.Root()
	return &unpacker{
		marks: newMarks(s, lim.NameBytes),
		idmap: m, lim: lim, buf: make([]byte, 256<<10), parentFD: -1,
		uid: int(uid), gid: int(gid),
	}
}

func (u *unpacker) close() {
	u.dropParent()
	u.marks.s.close()
	if u.lower != nil {
		closeFDs(u.lower.fds)
	}
}

// run unpacks the whole stream. Then all is there but the directories' times.
func (u *unpacker) run(r io.Reader) error {
	// Unless the tar says otherwise, and whatever the store made its directory with.
	if err := u.setOwner(".", 0, 0); err != nil {
		return err
	}
	if err := unix.Chmod(".", 0o755); err != nil {
		return err
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if u.res.Entries++; u.res.Entries > u.lim.Entries {
			return &layer.LimitError{What: "entries", Max: u.lim.Entries}
		}
		if err := u.entry(h, t); err != nil {
			return entryError(h.Name, err)
		}
		if u.marks.s.err != nil {
			return u.marks.s.err
		}
	}
	return u.settle()
}

var (
	errDotDot   = errors.New("leaves the layer (\"..\")")
	errWhiteout = errors.New("whiteout of nothing")
)

// components splits an entry's name. A leading "/" and "." components mean nothing.
func components(name string) ([]string, error) {
	if len(name) >= unix.PathMax {
		return nil, unix.ENAMETOOLONG
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, errors.New("NUL in the name")
	}
	out := make([]string, 0, 8)
	for c := range strings.SplitSeq(name, "/") {
		switch {
		case c == "" || c == ".":
		case c == "..":
			return nil, errDotDot
		case len(c) > 255:
			return nil, unix.ENAMETOOLONG
		default:
			out = append(out, c)
		}
	}
	return out, nil
}

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // of aufs itself; means nothing here
)

// entry applies one tar entry.
func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // see the package's documentation
	}
	comps, err := components(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		u.res.Devices++ // never made: a device node is access to the host's devices
		return nil
	}
	if len(comps) == 0 {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is not a directory")
		}
		return u.directory(h, "", ".")
	}
	dir, base := comps[:len(comps)-1], comps[len(comps)-1]
	if u.baseBytes += int64(len(base)) + 16; u.baseBytes > u.lim.NameBytes {
		return &layer.LimitError{What: "names", Max: u.lim.NameBytes}
	}
	for _, c := range dir {
		if strings.HasPrefix(c, whiteoutMeta) {
			return nil
		}
		if strings.HasPrefix(c, whiteoutPrefix) {
			return errors.New("a whiteout is no directory")
		}
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(dir, base)
	}
	parent, err := u.enter(dir)
	if err != nil {
		return err
	}
	path := join(parent, base)
	if len(path) >= unix.PathMax {
		return unix.ENAMETOOLONG
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(h, path, base)
	//lint:ignore SA1019 RegA is what old tars hold
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(h, path, base, r)
	case tar.TypeSymlink:
		return u.symlink(h, path, base)
	case tar.TypeLink:
		return u.hardlink(h, parent, path, base)
	case tar.TypeFifo:
		return u.fifo(h, path, base)
	}
	return fmt.Errorf("unknown type %q", h.Typeflag)
}

// whiteout applies ".wh.NAME" and ".wh..wh..opq". Both speak of what lies below only, wherever
// in the tar they stand: what this layer itself holds stays (layer.md, "Whiteouts").
func (u *unpacker) whiteout(dir []string, base string) error {
	if base == whiteoutOpaque {
		u.borrowing = true // it makes no directories
		parent, err := u.enter(dir)
		u.borrowing = false
		if err == nil {
			err = u.marks.add(parent, markEmptied)
		}
		if err != nil {
			return err
		}
		return u.makeOpaque(parent)
	}
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil
	}
	name := base[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return errWhiteout
	}
	u.borrowing = true // it makes no directories
	parent, err := u.enter(dir)
	u.borrowing = false
	if err != nil {
		return err
	}
	path := join(parent, name)
	var st unix.Stat_t
	err = unix.Fstatat(u.parentFD, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		if !u.marks.has(path, markCopied) {
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				u.marks.drop(path, markEmptied) // more than that
				return u.makeOpaque(path)
			}
			return nil // hides what is below already
		}
		if err := unix.Unlinkat(u.parentFD, name, 0); err != nil {
			return err
		}
		u.forget(path)
	} else if err != unix.ENOENT {
		return err
	}
	if err := unix.Mknodat(u.parentFD, name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("make whiteout: %w", err)
	}
	return u.marks.add(path, markWhiteout)
}

// makeOpaque hides everything below the directory path, which is this layer's. The root's own
// mark is worth nothing to overlayfs: see settle.
func (u *unpacker) makeOpaque(path string) error {
	if path != "" {
		u.xattrsSet = true
		if err := unix.Lsetxattr(path, xattrOpaque, []byte("y"), 0); err != nil {
			return fmt.Errorf("mark opaque: %w", err)
		}
	}
	return u.marks.add(path, markOpaque)
}

// directory makes or changes the directory path, whose last component is base.
func (u *unpacker) directory(h *tar.Header, path, base string) error {
	uid, gid, err := u.owner(h)
	if err != nil {
		return err
	}
	if path != "" {
		switch err := unix.Mkdirat(u.parentFD, base, 0o700); err {
		case nil:
		case unix.EEXIST:
			if err := u.replaceByDir(path, base); err != nil {
				return err
			}
		default:
			return err
		}
	}
	if err := u.marks.add(path, markDir); err != nil {
		return err
	}
	if err := u.marks.time(path, times{accessed(h), h.ModTime}); err != nil {
		return err
	}
	u.marks.drop(path, markBorrowed)
	at := orDot(path)
	if err := u.setOwner(at, uid, gid); err != nil {
		return err
	}
	if err := unix.Chmod(at, permissions(h)); err != nil {
		return err
	}
	if path == u.parentPath {
		u.dropParent() // what is known of its setgid bit may have changed
	}
	return u.xattrs(h, at)
}

// replaceByDir makes room for a directory where there is something: another directory stays,
// anything else gives way, and had hidden what is below, so the directory must too.
func (u *unpacker) replaceByDir(path, base string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(u.parentFD, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return clearXattrs(path)
	}
	if err := unix.Unlinkat(u.parentFD, base, 0); err != nil {
		return err
	}
	u.forget(path)
	if err := unix.Mkdirat(u.parentFD, base, 0o700); err != nil {
		return err
	}
	return u.makeOpaque(path)
}

// make runs mk, and once more after taking away what stood in its place.
func (u *unpacker) make(path, base string, mk func() error) error {
	err := mk()
	if err != unix.EEXIST {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(u.parentFD, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = removeTree(u.parentFD, base, path, u.forget)
	} else {
		err = unix.Unlinkat(u.parentFD, base, 0)
		u.forget(path)
	}
	if err != nil {
		return err
	}
	return mk()
}

func (u *unpacker) symlink(h *tar.Header, path, base string) error {
	uid, gid, err := u.owner(h)
	if err != nil {
		return err
	}
	if h.Linkname == "" || strings.IndexByte(h.Linkname, 0) >= 0 {
		return fmt.Errorf("symbolic link to %s", oci.Short(h.Linkname))
	}
	err = u.make(path, base, func() error { return unix.Symlinkat(h.Linkname, u.parentFD, base) })
	if err != nil {
		return err
	}
	if err := unix.Fchownat(u.parentFD, base, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return setTimes(u.parentFD, base, times{accessed(h), h.ModTime})
}

func (u *unpacker) fifo(h *tar.Header, path, base string) error {
	uid, gid, err := u.owner(h)
	if err != nil {
		return err
	}
	if err := u.make(path, base, func() error { return unix.Mknodat(u.parentFD, base, unix.S_IFIFO|0o600, 0) }); err != nil {
		return err
	}
	if err := u.setOwner(path, uid, gid); err != nil {
		return err
	}
	if err := unix.Chmod(path, permissions(h)); err != nil {
		return err
	}
	return setTimes(u.parentFD, base, times{accessed(h), h.ModTime})
}

// hardlink links path to another file of the image; one that only a lower layer has is copied
// up first, as overlayfs itself would on link(2).
func (u *unpacker) hardlink(h *tar.Header, parent, path, base string) error {
	if strings.HasPrefix(h.Linkname, "/") {
		return fmt.Errorf("hard link to %s: an absolute path", oci.Short(h.Linkname))
	}
	comps, err := components(h.Linkname)
	if err == nil && len(comps) == 0 {
		err = errors.New("not a file")
	}
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", oci.Short(h.Linkname), err)
	}
	u.borrowing = true
	targetDir, err := u.enter(comps[:len(comps)-1])
	u.borrowing = false
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", oci.Short(h.Linkname), err)
	}
	target := join(targetDir, comps[len(comps)-1])
	if target == path {
		return fmt.Errorf("hard link to %s: itself", oci.Short(h.Linkname))
	}
	var st unix.Stat_t
	err = unix.Lstat(target, &st)
	if err == unix.ENOENT {
		if err = u.copyUp(target); err == nil {
			err = unix.Lstat(target, &st)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("hard link to %s: %w", oci.Short(h.Linkname), err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("hard link to %s: a directory", oci.Short(h.Linkname))
	case isWhiteout(&st):
		return fmt.Errorf("hard link to %s: removed by this layer", oci.Short(h.Linkname))
	}
	if _, err := u.enterReal(parent); err != nil {
		return err
	}
	err = u.make(path, base, func() error { return unix.Linkat(unix.AT_FDCWD, target, u.parentFD, base, 0) })
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", oci.Short(h.Linkname), err)
	}
	return nil
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

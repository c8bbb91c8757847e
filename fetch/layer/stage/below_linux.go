package stage

import (
	"errors"
	"fmt"
	"strings"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// A layer stands alone unless an entry's parent directory, or the target of a hard link, is not
// in it. Then the answer lies below: a parent may be a directory there, whose mode and owner the
// layer's own copy must have, since overlayfs shows the uppermost; or a link, through which the
// entry goes; and a link's target must be copied up. A layer that asked is stored by its chainID.

// lower is what the layers below look like when stacked.
type lower struct {
	fds  []int            // uppermost first
	dirs map[string][]int // found before: the layers that a directory is merged from; none for what is no directory
	size int              // of dirs, in bytes
}

// look returns the stacked layers below, nil when there are none. That there are none is an
// answer too: the same layer on top of others may become something else.
func (u *unpacker) look() (*lower, error) {
	u.res.Dependent = true
	if u.askBelow == nil || u.lower != nil {
		return u.lower, nil
	}
	fds, err := u.askBelow()
	if err != nil {
		return nil, err
	}
	u.lower = &lower{dirs: map[string][]int{}}
	for i := len(fds) - 1; i >= 0; i-- {
		u.lower.fds = append(u.lower.fds, fds[i])
	}
	return u.lower, nil
}

// implicit makes the missing directory path as it is below, or returns the target of the link
// that is there instead.
func (u *unpacker) implicit(path string) (link string, err error) {
	low, err := u.look()
	if err != nil {
		return "", err
	}
	f, err := u.find(low, path)
	if err != nil {
		return "", err
	}
	if f == nil {
		err := u.bareDir(path)
		if err == nil {
			err = u.marks.add(path, markBorrowed)
		}
		return "", err
	}
	switch f.st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return readlink(f.layer, path)
	case unix.S_IFDIR:
		return "", u.likeBelow(f, path)
	}
	return "", notDir(path)
}

// likeBelow makes the directory path as the found one is.
func (u *unpacker) likeBelow(f *found, path string) error {
	src, err := openRetry(f.layer, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if err := u.countImplicit(); err != nil {
		return err
	}
	if err := unix.Mkdir(path, 0o700); err != nil {
		return err
	}
	dst, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := unix.Fchown(dst, int(f.st.Uid), int(f.st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, f.st.Mode&0o7777); err != nil {
		return err
	}
	// Not opaque, even if the one below is: that hides what is below there, not what is here.
	u.xattrsSet = true
	if err := copyXattrs(src, dst, false); err != nil {
		return err
	}
	if err := u.marks.add(path, markBorrowed); err != nil {
		return err
	}
	if err := u.marks.add(path, markDir); err != nil {
		return err
	}
	return u.marks.time(path, statTimes(&f.st))
}

// copyUp copies the file path, which this layer lacks, from below.
func (u *unpacker) copyUp(path string) error {
	low, err := u.look()
	if err != nil {
		return err
	}
	f, err := u.find(low, path)
	if err != nil {
		return err
	}
	if f == nil {
		return errors.New("no such file in this image")
	}
	if f.st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return errors.New("a directory")
	}
	if f.st.Mode&unix.S_IFMT == unix.S_IFREG {
		if f.st.Size > u.lim.Bytes-u.res.Bytes {
			return &layer.LimitError{What: "bytes", Max: u.lim.Bytes}
		}
		u.res.Bytes += f.st.Size
	}
	u.xattrsSet = true
	err = copyNode(f.layer, path, &f.st, unix.AT_FDCWD, path, owners{uid: f.st.Uid, gid: f.st.Gid})
	if err != nil {
		return err
	}
	return u.marks.add(path, markCopied)
}

// found is something in one of the layers below.
type found struct {
	layer int // the descriptor of its layer; the path in it goes through no link
	st    unix.Stat_t
}

// find looks path up below, where nothing in this layer hides it. nil: not there.
func (u *unpacker) find(low *lower, path string) (*found, error) {
	if low == nil {
		return nil, nil
	}
	if u.hidden(path) {
		return nil, nil
	}
	return low.find(path)
}

// hidden tells whether this layer hides what lies below at path, by an opaque directory above it.
func (u *unpacker) hidden(path string) bool {
	for path != "" && u.marks.any(markOpaque) {
		path = parentOf(path)
		if u.marks.has(path, markOpaque) {
			return true
		}
	}
	return false
}

// find on no layers finds nothing. It looks path up as overlayfs would: a directory merges with those below it, down to one
// that is opaque, and anything else ends the search.
func (l *lower) find(path string) (*found, error) {
	if l == nil {
		return nil, nil
	}
	live, err := l.live(parentOf(path))
	if err != nil || len(live) == 0 {
		return nil, err
	}
	f, _, err := findIn(live, path)
	return f, err
}

// maxKnown bounds what is remembered of directories below, in bytes.
const maxKnown = 512 << 10

// live returns the layers that the directory path is merged from.
func (l *lower) live(path string) ([]int, error) {
	if path == "" {
		return l.fds, nil
	}
	// From the nearest directory that is known down. Each step from the root again would take
	// the depth squared, for every entry.
	known, live := path, l.fds
	for known != "" {
		if in, ok := l.dirs[known]; ok {
			live = in
			break
		}
		known = parentOf(known)
	}
	for known != path && len(live) > 0 {
		known = nextPrefix(path, known)
		f, next, err := findIn(live, known)
		if err != nil {
			return nil, err
		}
		if live = next; f == nil || f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
			live = nil
		}
		if l.size += len(known) + 8*len(live) + 100; l.size > maxKnown {
			clear(l.dirs)
			l.size = 0
		}
		l.dirs[known] = live
	}
	return live, nil
}

// nextPrefix returns dir and one more component of path, which lies below it.
func nextPrefix(path, dir string) string {
	from := 0
	if dir != "" {
		from = len(dir) + 1
	}
	if i := strings.IndexByte(path[from:], '/'); i >= 0 {
		return path[:from+i]
	}
	return path
}

// findIn looks for path, all of whose parents are directories in every one of the layers. It
// returns the uppermost and the layers in which it is part of a merged directory.
func findIn(layers []int, path string) (top *found, live []int, err error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for _, layer := range layers {
		fd, err := openat2(layer, path, how)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look below: %w", err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		opaque := dir && isOpaque(fd)
		unix.Close(fd)
		if err != nil {
			return nil, nil, err
		}
		if isWhiteout(&st) || !dir && top != nil {
			break
		}
		if top == nil {
			top = &found{layer, st}
		}
		if !dir {
			break
		}
		live = append(live, layer)
		if opaque {
			break
		}
	}
	return top, live, nil
}

func openat2(dir int, path string, how *unix.OpenHow) (int, error) {
	for {
		fd, err := unix.Openat2(dir, path, how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// isOpaque tells whether the directory fd (O_PATH) hides what is below it.
func isOpaque(fd int) bool {
	dir, err := openRetry(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	var v [1]byte
	n, err := unix.Fgetxattr(dir, xattrOpaque, v[:])
	return err == nil && n == 1 && v[0] == 'y'
}

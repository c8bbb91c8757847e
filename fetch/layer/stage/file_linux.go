package stage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"

	"cove/fetch/layer"
	"cove/fetch/layer/list"

	"golang.org/x/sys/unix"
)

// file writes a regular file.
func (u *unpacker) file(h *tar.Header, path, base string, r io.Reader) error {
	uid, gid, err := u.owner(h)
	if err != nil {
		return err
	}
	if h.Size < 0 {
		return fmt.Errorf("size %d", h.Size)
	}
	if h.Size > u.lim.Bytes-u.res.Bytes {
		return &layer.LimitError{What: "bytes", Max: u.lim.Bytes}
	}
	u.res.Bytes += h.Size
	// With no umask and no ACL the file has the right permissions from the start. Special bits
	// wait until it has its owner.
	perm := permissions(h)
	fd := -1
	err = u.make(path, base, func() error {
		var err error
		fd, err = openRetry(u.parentFD, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm&0o777)
		return err
	})
	if err != nil {
		return err
	}
	u.marks.drop(path, markCopied)
	err = u.fill(fd, h, path, int(uid), int(gid), r)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}

func (u *unpacker) fill(fd int, h *tar.Header, path string, uid, gid int, r io.Reader) error {
	sum, err := writeSparse(fd, r, h.Size, u.buf)
	if err != nil {
		return err
	}
	if h.Size > 0 {
		u.sums.keep(path, sum)
	}
	// chown(2) takes setuid bits and capabilities away, so they come after it. What is right
	// already is left alone: each of these is a transaction of the file system's journal.
	if uid != u.uid || gid != u.gid || u.parentSetgid {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return err
		}
	}
	if perm := permissions(h); perm&^0o777 != 0 {
		if err := unix.Fchmod(fd, perm); err != nil {
			return err
		}
	}
	if err := u.xattrs(h, path); err != nil {
		return err
	}
	return futimes(fd, times{accessed(h), h.ModTime})
}

func futimes(fd int, t times) error {
	// An empty path with AT_EMPTY_PATH would do; NULL is what futimens(3) gives.
	return utimensatFD(fd, [2]unix.Timespec{timespec(t.atime), timespec(t.mtime)})
}

const (
	pageSize = 4096
	// minHole is the least run of zeros that becomes a hole: each one splits an extent, and
	// programs have many small ones.
	minHole = 4 * pageSize
)

var zeroPage [pageSize]byte

// writeSparse writes size bytes of r, leaving a hole wherever some pages are zero: what a
// sparse file was packed from comes back, whichever of tar's sparse formats it went through. It
// returns the content's sum (package list).
func writeSparse(fd int, r io.Reader, size int64, buf []byte) (sum uint32, err error) {
	var off, end int64 // end is how far the file reaches so far
	for off < size {
		n := int64(len(buf))
		if n > size-off {
			n = size - off
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("read tar: %w", err)
		}
		b := buf[:n]
		sum = list.Sum(sum, b)
		for len(b) > 0 {
			hole, run := leadingRun(b)
			if !hole {
				if err := writeAt(fd, b[:run], off); err != nil {
					return 0, err
				}
				end = off + int64(run)
			}
			off += int64(run)
			b = b[run:]
		}
	}
	if end < size {
		return sum, unix.Ftruncate(fd, size)
	}
	return sum, nil
}

// leadingRun tells how many bytes at the start of b are a hole, or come before one.
func leadingRun(b []byte) (hole bool, n int) {
	zeros := 0 // how many bytes up to n are zero
	for n < len(b) {
		page := b[n:min(n+pageSize, len(b))]
		if page[0] == 0 && bytes.Equal(page, zeroPage[:len(page)]) {
			zeros += len(page)
			n += len(page)
			continue
		}
		if zeros >= minHole {
			break
		}
		zeros = 0
		n += len(page)
	}
	switch {
	case zeros == n && zeros >= minHole:
		return true, n
	case zeros >= minHole:
		return false, n - zeros
	}
	return false, n
}

func writeAt(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// openRetry is openat(2) over EINTR, which file systems like FUSE answer when the Go runtime's
// preemption signal comes.
func openRetry(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

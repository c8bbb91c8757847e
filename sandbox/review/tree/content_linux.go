package tree

import (
	"bytes"
	"io"

	"golang.org/x/sys/unix"
)

// chunk is how much of a file is held in memory at a time.
const chunk = 256 << 10

// CopyContent makes the content of the regular file to, which is new, that of from: sharing the disk's blocks where the file
// system can, and with the same holes elsewhere. Neither descriptor's position counts.
func CopyContent(to, from int) error {
	if unix.IoctlFileClone(to, from) == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := unix.Ftruncate(to, st.Size); err != nil {
		return err
	}
	buf := make([]byte, min(chunk, max(st.Size, 1)))
	for off := int64(0); off < st.Size; {
		begin, end, err := data(from, off, st.Size)
		if err != nil {
			return err
		}
		for off = begin; off < end; {
			n, err := pread(from, buf[:min(int64(len(buf)), end-off)], off)
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF // it has become shorter meanwhile
			}
			if err := pwrite(to, buf[:n], off); err != nil {
				return err
			}
			off += int64(n)
		}
	}
	return nil
}

// data finds the first data of a file at or behind off, up to size. Where a file system knows no holes that is all of it.
func data(fd int, off, size int64) (begin, end int64, err error) {
	begin, err = unix.Seek(fd, off, unix.SEEK_DATA)
	switch err {
	case unix.ENXIO:
		return size, size, nil
	case unix.EINVAL, unix.EOPNOTSUPP:
		return off, size, nil
	case nil:
	default:
		return 0, 0, err
	}
	if end, err = unix.Seek(fd, begin, unix.SEEK_HOLE); err != nil {
		return 0, 0, err
	}
	return min(begin, size), min(end, size), nil
}

// SameContent compares two regular files. Where both have a hole there is nothing to be read.
func SameContent(a, b int) (bool, error) {
	var x, y unix.Stat_t
	if err := unix.Fstat(a, &x); err != nil {
		return false, err
	}
	if err := unix.Fstat(b, &y); err != nil {
		return false, err
	}
	if x.Size != y.Size {
		return false, nil
	}
	if x.Dev == y.Dev && x.Ino == y.Ino {
		return true, nil
	}
	one, two := make([]byte, min(chunk, max(x.Size, 1))), make([]byte, min(chunk, max(x.Size, 1)))
	for off := int64(0); off < x.Size; {
		p, _, err := data(a, off, x.Size)
		if err != nil {
			return false, err
		}
		q, _, err := data(b, off, x.Size)
		if err != nil {
			return false, err
		}
		if off = min(p, q); off >= x.Size {
			break
		}
		want := min(int64(len(one)), x.Size-off)
		n, err := preadFull(a, one[:want], off)
		if err != nil {
			return false, err
		}
		m, err := preadFull(b, two[:want], off)
		if err != nil || n != m || !bytes.Equal(one[:n], two[:m]) {
			return false, err
		}
		if n == 0 {
			break
		}
		off += int64(n)
	}
	return true, nil
}

func preadFull(fd int, p []byte, off int64) (int, error) {
	have := 0
	for have < len(p) {
		n, err := pread(fd, p[have:], off+int64(have))
		if err != nil || n == 0 {
			return have, err
		}
		have += n
	}
	return have, nil
}

func pread(fd int, p []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, off)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func pwrite(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

package list

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

const magic = "cove layer listing "
const version = "1\n"

// trailer is what follows the blocks: three numbers and a sha256.
const trailer = 3*8 + sha256.Size

// Kind is what an entry is.
type Kind byte

const (
	End      Kind = 'e' // of a directory's block
	Dir      Kind = 'd'
	File     Kind = 'f'
	Symlink  Kind = 'l'
	Fifo     Kind = 'p'
	Whiteout Kind = 'w'
	Hardlink Kind = 'h' // one more name of the file with that Group
)

// Entry is one name in a directory. Owners are the ids inside.
type Entry struct {
	Kind   Kind
	Name   string
	Mode   uint32 // the twelve low bits
	UID    uint32
	GID    uint32
	Sec    int64  // when it was modified; not of directories, which change with what is in them
	Nsec   uint32 // likewise
	Size   int64  // of a File
	Sum    uint32 // of a File's content
	Group  uint64 // of what has several names, from 1, and of its Hardlinks
	Target string // of a Symlink
	Xattrs []Xattr
}

// Xattr is an extended attribute.
type Xattr struct {
	Name string
	Sum  uint32 // of the value
}

// Info is what a listing says of its layer as a whole.
type Info struct {
	Label   string `json:"-"`
	Entries int64  `json:"entries"` // of the layer's tar
	Bytes   int64  `json:"bytes"`   // contents of regular files, holes included
	Disk    int64  `json:"disk"`    // blocks in use, a file with several names once
}

// ErrDamaged says that a listing is not as it was written, or is none.
var ErrDamaged = errors.New("the listing is damaged")

// castagnoli is made when it is needed: most runs of cove need none.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// Sum adds p to a content's sum, which begins as 0.
func Sum(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli(), p) }

// A Writer writes a listing. The first error stays.
type Writer struct {
	w   *bufio.Writer
	sum hash.Hash
	buf []byte
	off int64
	err error
}

// NewWriter starts a listing on w.
func NewWriter(w io.Writer, label string) *Writer {
	l := &Writer{sum: sha256.New()}
	l.w = bufio.NewWriterSize(io.MultiWriter(w, l.sum), 64<<10)
	l.buf = append(l.buf, magic+version...)
	l.text(label)
	l.flush()
	return l
}

func (l *Writer) number(n uint64) { l.buf = binary.AppendUvarint(l.buf, n) }

func (l *Writer) text(s string) {
	l.number(uint64(len(s)))
	l.buf = append(l.buf, s...)
}

func (l *Writer) flush() {
	if l.err == nil {
		_, l.err = l.w.Write(l.buf)
	}
	l.off += int64(len(l.buf))
	l.buf = l.buf[:0]
}

// Offset is where in the listing the next entry will begin.
func (l *Writer) Offset() int64 { return l.off }

// Flush writes out what has been written so far, so that it can be read.
func (l *Writer) Flush() error {
	if l.err == nil {
		l.err = l.w.Flush()
	}
	return l.err
}

// Entry writes one entry.
func (l *Writer) Entry(e *Entry) error {
	l.buf = append(l.buf, byte(e.Kind))
	if e.Kind != End {
		l.text(e.Name)
		l.attributes(e)
	}
	l.flush()
	return l.err
}

func (l *Writer) attributes(e *Entry) {
	if e.Kind == Hardlink {
		l.number(e.Group)
		return
	}
	if e.Kind == Whiteout {
		return
	}
	l.number(uint64(e.Mode))
	l.number(uint64(e.UID))
	l.number(uint64(e.GID))
	if e.Kind != Dir {
		l.buf = binary.AppendVarint(l.buf, e.Sec)
		l.number(uint64(e.Nsec))
		l.number(e.Group)
	}
	switch e.Kind {
	case Symlink:
		l.text(e.Target)
	case File:
		l.number(uint64(e.Size))
		l.buf = binary.LittleEndian.AppendUint32(l.buf, e.Sum)
	}
	if e.Kind == File || e.Kind == Dir {
		l.number(uint64(len(e.Xattrs)))
		for _, x := range e.Xattrs {
			l.text(x.Name)
			l.buf = binary.LittleEndian.AppendUint32(l.buf, x.Sum)
		}
	}
}

// Close writes the end. The file under it is the caller's to close.
func (l *Writer) Close(i Info) error {
	for _, n := range []int64{i.Entries, i.Bytes, i.Disk} {
		l.buf = binary.LittleEndian.AppendUint64(l.buf, uint64(n))
	}
	l.flush()
	_ = l.Flush() // for the sum
	l.buf = l.sum.Sum(l.buf)
	l.flush()
	return l.Flush()
}

// Stat reads what the listing at path says of its layer, from its two ends: whether the rest is
// whole, Reader tells.
func Stat(path string) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	i, err := stat(f, st.Size())
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}

func stat(f io.ReaderAt, size int64) (Info, error) {
	head := make([]byte, min(size, 512))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return Info{}, err
	}
	r := bytesReader{head}
	label, err := r.header()
	if err != nil || size < int64(len(head)-len(r.b))+trailer {
		return Info{}, ErrDamaged
	}
	var tail [trailer]byte
	if _, err := f.ReadAt(tail[:], size-trailer); err != nil {
		return Info{}, err
	}
	return info(label, tail[:]), nil
}

func info(label string, tail []byte) Info {
	n := func(i int) int64 { return int64(binary.LittleEndian.Uint64(tail[8*i:])) }
	return Info{Label: label, Entries: n(0), Bytes: n(1), Disk: n(2)}
}

// bytesReader reads a listing's start from memory.
type bytesReader struct{ b []byte }

func (r *bytesReader) header() (label string, err error) {
	const head = magic + version
	if len(r.b) < len(head) || string(r.b[:len(head)]) != head {
		return "", ErrDamaged
	}
	r.b = r.b[len(head):]
	n, w := binary.Uvarint(r.b)
	if w <= 0 || n > uint64(len(r.b)-w) {
		return "", ErrDamaged
	}
	label, r.b = string(r.b[w:w+int(n)]), r.b[w+int(n):]
	return label, nil
}

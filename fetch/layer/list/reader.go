package list

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
)

// maxText bounds one name or link target; a path has 4096 bytes at most, an attribute's name 255.
const maxText = 4096

// maxXattrs bounds those of one file: file systems keep 64 KiB of names at most (xattr(7)).
const maxXattrs = 64 << 10

// A Reader reads a listing whose sum it has checked.
type Reader struct {
	Info
	r    *bufio.Reader
	part *io.SectionReader // what r reads
}

// NewReader reads f once, to see that it is whole, and then stands at its first entry: what it
// gives afterwards has been written by a Writer.
func NewReader(f *os.File, label string) (*Reader, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	i, err := stat(f, st.Size())
	if err != nil {
		return nil, err
	}
	if i.Label != label {
		return nil, fmt.Errorf("%w: it is another layer's", ErrDamaged)
	}
	body := st.Size() - sha256.Size
	if err := checkSum(io.NewSectionReader(f, 0, body), io.NewSectionReader(f, body, sha256.Size)); err != nil {
		return nil, err
	}
	start := int64(len(magic+version) + len(binary.AppendUvarint(nil, uint64(len(label)))) + len(label))
	part := io.NewSectionReader(f, start, st.Size()-trailer-start)
	return &Reader{Info: i, r: bufio.NewReaderSize(part, 64<<10), part: part}, nil
}

// At reads a listing on from where an entry begins, which may be one that is still being written. Nothing has checked it.
func At(f io.ReaderAt, off int64) *Reader {
	return at(io.NewSectionReader(f, off, math.MaxInt64-off))
}

func at(part *io.SectionReader) *Reader {
	return &Reader{r: bufio.NewReaderSize(part, 4<<10), part: part}
}

// Offset is where the next entry begins.
func (r *Reader) Offset() int64 {
	_, start, _ := r.part.Outer()
	read, _ := r.part.Seek(0, io.SeekCurrent) // which cannot fail
	return start + read - int64(r.r.Buffered())
}

// At is another Reader of the same listing, which stands where an entry begins.
func (r *Reader) At(off int64) *Reader {
	f, start, size := r.part.Outer()
	return at(io.NewSectionReader(f, off, start+size-off))
}

// Dirs calls f with the name of each directory from here to the end of the block.
func (r *Reader) Dirs(f func(name string) error) error {
	var e Entry
	for {
		if err := r.Next(&e); err != nil || e.Kind == End {
			return err
		}
		if e.Kind != Dir {
			continue
		}
		if err := f(e.Name); err != nil {
			return err
		}
	}
}

func checkSum(body, sum io.Reader) error {
	var h hash.Hash = sha256.New()
	if _, err := io.Copy(h, body); err != nil {
		return err
	}
	want, err := io.ReadAll(sum)
	if err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return ErrDamaged
	}
	return nil
}

// Next reads the next entry into e.
func (r *Reader) Next(e *Entry) error {
	xattrs := e.Xattrs[:0]
	*e = Entry{}
	k, err := r.r.ReadByte()
	if err != nil {
		return ErrDamaged
	}
	e.Kind = Kind(k)
	p := &parser{r: r.r}
	switch e.Kind {
	case End:
		return nil
	case Whiteout:
		e.Name = p.text()
		return p.err
	case Hardlink:
		e.Name, e.Group = p.text(), p.number()
		return p.err
	case Dir, File, Symlink, Fifo:
	default:
		return ErrDamaged
	}
	e.Name, e.Mode, e.UID, e.GID = p.text(), uint32(p.number()), uint32(p.number()), uint32(p.number())
	if e.Kind != Dir {
		e.Sec, e.Nsec, e.Group = p.signed(), uint32(p.number()), p.number()
	}
	switch e.Kind {
	case Symlink:
		e.Target = p.text()
	case File:
		e.Size, e.Sum = int64(p.number()), p.sum()
	}
	if e.Kind == File || e.Kind == Dir {
		n := p.number()
		if n > maxXattrs {
			return ErrDamaged
		}
		for ; n > 0 && p.err == nil; n-- {
			xattrs = append(xattrs, Xattr{p.text(), p.sum()})
		}
		e.Xattrs = xattrs
	}
	return p.err
}

// parser reads the parts of an entry. The first error stays.
type parser struct {
	r   *bufio.Reader
	err error
}

func (p *parser) check(err error) {
	if err != nil && p.err == nil {
		p.err = ErrDamaged
	}
}

func (p *parser) number() uint64 {
	if p.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(p.r)
	p.check(err)
	return n
}

func (p *parser) signed() int64 {
	if p.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(p.r)
	p.check(err)
	return n
}

func (p *parser) text() string {
	n := p.number()
	if p.err != nil || n > maxText {
		p.err = ErrDamaged
		return ""
	}
	b := make([]byte, n)
	_, err := io.ReadFull(p.r, b)
	p.check(err)
	return string(b)
}

func (p *parser) sum() uint32 {
	var b [4]byte
	if p.err == nil {
		_, err := io.ReadFull(p.r, b[:])
		p.check(err)
	}
	return binary.LittleEndian.Uint32(b[:])
}

// Walk calls f with each entry but the root and its path, in the listing's order.
func (r *Reader) Walk(f func(path string, e *Entry) error) error {
	var root Entry
	if err := r.Next(&root); err != nil {
		return err
	}
	return r.walk("", f)
}

func (r *Reader) walk(dir string, f func(string, *Entry) error) error {
	var e Entry
	block, subdirs := r.Offset(), false
	for {
		if err := r.Next(&e); err != nil {
			return err
		}
		if e.Kind == End {
			break
		}
		if err := f(join(dir, e.Name), &e); err != nil {
			return err
		}
		subdirs = subdirs || e.Kind == Dir
	}
	if !subdirs {
		return nil
	}
	// Once more, for there may be more of them than memory.
	return r.At(block).Dirs(func(name string) error { return r.walk(join(dir, name), f) })
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

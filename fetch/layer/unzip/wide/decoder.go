package wide

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"
)

var (
	errCorrupt    = errors.New("corrupted zstd frame")
	errChecksum   = errors.New("zstd frame with a wrong checksum")
	errDictionary = errors.New("zstd frame that needs a dictionary")
	errWidest     = errors.New("zstd frame with a window of more than 3.75 TiB")
)

// widest is the most that a header's Window_Descriptor can say (RFC 8878, section 3.1.1.1.2). A frame
// without one may say more, for there the window is what the frame holds.
const widest = 1<<41 + 7<<38

// A Decoder decodes one frame. It is an io.Reader, at its end when the frame is.
type Decoder struct {
	in      *bufio.Reader
	header  zstd.Header
	window  uint64
	history history
	sum     *checksum // nil: the frame has none
	size    uint64    // decoded so far
	last    [3]int64  // distances
	tables  [3]table
	huff    *huff0.Scratch
	hasHuff bool
	packed  []byte // a block as it came, with padding
	lits    []byte
	out     []byte // decoded, and not yet read
	err     error  // after that
}

// Window is how much memory a decoder that keeps it there takes for a frame.
func Window(h *zstd.Header) uint64 {
	if h.SingleSegment {
		return h.FrameContentSize
	}
	return h.WindowSize
}

// New decodes the frame whose header is the next thing in in. Its window's worth is kept in file.
func New(in *bufio.Reader, file File) (*Decoder, error) {
	head, err := in.Peek(zstd.HeaderMaxSize)
	if len(head) == 0 {
		return nil, err
	}
	d := &Decoder{in: in, last: [3]int64{1, 4, 8}, packed: make([]byte, maxBlock+padding), lits: make([]byte, maxBlock)}
	if d.header.Decode(head) != nil || d.header.Skippable {
		return nil, errCorrupt
	}
	if d.header.DictionaryID != 0 {
		return nil, errDictionary
	}
	if d.header.HasCheckSum {
		d.sum = newChecksum()
	}
	if d.window = max(Window(&d.header), 1); d.window > widest {
		return nil, errWidest
	}
	d.history = newHistory(file, d.window)
	_, err = in.Discard(d.header.HeaderSize)
	return d, err
}

func (d *Decoder) Read(p []byte) (int, error) {
	for len(d.out) == 0 && d.err == nil {
		d.out, d.err = d.next()
	}
	if len(d.out) == 0 {
		return 0, d.err
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// next decodes a block; with the last one comes io.EOF.
func (d *Decoder) next() ([]byte, error) {
	var head [3]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return nil, cut(err)
	}
	bits, _ := little(head[:], 3)
	d.history.begin()
	if err := d.block(bits>>1&3, int(bits>>3)); err != nil {
		return nil, err
	}
	out, err := d.history.end()
	if err != nil {
		return nil, err
	}
	if d.sum != nil {
		d.sum.write(out)
	}
	d.size += uint64(len(out))
	if has := d.header.HasFCS || d.header.SingleSegment; has && d.size > d.header.FrameContentSize {
		return nil, errCorrupt
	} else if bits&1 == 0 {
		return out, nil
	} else if has && d.size != d.header.FrameContentSize {
		return nil, errCorrupt
	}
	return out, d.end()
}

// block decodes the body of a block (RFC 8878 3.1.1.2).
func (d *Decoder) block(kind uint64, size int) error {
	if size > maxBlock || uint64(size) > d.window {
		return errCorrupt
	}
	length := size
	if kind == 1 {
		length = 1
	}
	in := d.packed[:length]
	if _, err := io.ReadFull(d.in, in); err != nil {
		return cut(err)
	}
	switch kind {
	case 0:
		d.history.literals(in)
	case 1:
		for range size {
			d.history.buf = append(d.history.buf, in[0])
		}
	case 2:
		literals, rest, err := d.literals(in)
		if err != nil {
			return err
		}
		return d.sequences(rest, literals)
	case 3:
		return errCorrupt
	}
	return nil
}

// end checks what follows the last block.
func (d *Decoder) end() error {
	if d.sum == nil {
		return io.EOF
	}
	var want [4]byte
	if _, err := io.ReadFull(d.in, want[:]); err != nil {
		return cut(err)
	}
	if v, _ := little(want[:], 4); uint32(v) != uint32(d.sum.value()) {
		return errChecksum
	}
	return io.EOF
}

func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

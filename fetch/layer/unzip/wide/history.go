package wide

import (
	"fmt"
	"io"
)

const (
	maxBlock = 128 << 10 // what a block decodes to at most
	near     = 2 << 20   // how far back memory reaches
	most     = near + 1<<20
)

// A File keeps what lies farther back.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// history is what was decoded so far, as far back as the window reaches.
type history struct {
	file  File
	ring  int64 // how much of the file is used, over and over
	buf   []byte
	start int   // of the current block in buf
	total int64 // decoded before the current block; all of it was written to the file
}

func newHistory(file File, window uint64) history {
	return history{file: file, ring: int64(window)}
}

// begin makes room for a block.
func (h *history) begin() {
	switch {
	case cap(h.buf)-len(h.buf) >= maxBlock:
	case cap(h.buf) == 0:
		h.buf = make([]byte, 0, 2*maxBlock) // many a frame is small
	case cap(h.buf) < most:
		h.buf = append(make([]byte, 0, most), h.buf...)
	default:
		h.buf = h.buf[:copy(h.buf, h.buf[len(h.buf)-near:])]
	}
	h.start = len(h.buf)
}

// block is how much of the current block is there.
func (h *history) block() int { return len(h.buf) - h.start }

func (h *history) literals(b []byte) { h.buf = append(h.buf, b...) }

// match repeats n bytes from distance back.
func (h *history) match(distance int64, n int) error {
	if distance > h.total+int64(h.block()) {
		return errCorrupt
	}
	if beyond := distance - int64(len(h.buf)); beyond > 0 {
		far := int(min(int64(n), beyond))
		at := len(h.buf)
		h.buf = h.buf[:at+far]
		if err := h.read(h.buf[at:], h.total+int64(at-h.start)-distance); err != nil {
			return err
		}
		if n -= far; n == 0 {
			return nil
		}
	}
	// It may reach into what it writes itself: then what is there is repeated.
	from := len(h.buf) - int(distance)
	for n > 0 {
		part := h.buf[from:min(from+n, len(h.buf))]
		h.buf = append(h.buf, part...)
		n -= len(part)
	}
	return nil
}

// end writes the block to the file and returns it.
func (h *history) end() ([]byte, error) {
	block := h.buf[h.start:]
	for b := block; len(b) > 0; {
		at := h.total % h.ring
		part := b[:min(int64(len(b)), h.ring-at)]
		if _, err := h.file.WriteAt(part, at); err != nil {
			return nil, fmt.Errorf("write what its window holds to a file: %w", err)
		}
		h.total += int64(len(part))
		b = b[len(part):]
	}
	return block, nil
}

// read fills b with what was decoded from position from on.
func (h *history) read(b []byte, from int64) error {
	for len(b) > 0 {
		at := from % h.ring
		part := b[:min(int64(len(b)), h.ring-at)]
		if _, err := h.file.ReadAt(part, at); err != nil {
			return fmt.Errorf("read what its window holds from a file: %w", err)
		}
		from += int64(len(part))
		b = b[len(part):]
	}
	return nil
}

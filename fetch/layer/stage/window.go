package stage

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
)

// smallWindow is what any number of layers may take at once; what people ship has 8 MiB and less
// (RFC 8878 3.1.1.1.2).
const smallWindow = 8 << 20

// windows passes a zstd stream through and calls large before each frame that takes more memory
// than smallWindow: six layers at once with windows of 128 MiB would take most of a gigabyte.
type windows struct {
	r       *bufio.Reader
	large   func() error
	left    int64 // to pass on before the next header
	inFrame bool  // that is a block's
	sum     bool  // a checksum follows the last block
	broken  bool  // the decoder may say how
}

func (w *windows) Read(p []byte) (int, error) {
	for w.left == 0 && !w.broken {
		more, err := w.next()
		if err != nil {
			return 0, err
		}
		if !more {
			break
		}
	}
	if w.left > 0 && int64(len(p)) > w.left {
		p = p[:w.left]
	}
	n, err := w.r.Read(p)
	if w.left > 0 {
		w.left -= int64(n)
	}
	return n, err
}

// next reads a frame's or a block's header, without taking it off the stream.
func (w *windows) next() (more bool, err error) {
	if w.inFrame {
		head, err := w.r.Peek(3)
		if err != nil {
			return false, w.giveUp(err)
		}
		bits := uint32(head[0]) | uint32(head[1])<<8 | uint32(head[2])<<16
		size := int64(bits >> 3)
		if bits>>1&3 == 1 {
			size = 1 // run-length
		}
		w.left = 3 + size
		if bits&1 == 1 {
			w.inFrame = false
			if w.sum {
				w.left += 4
			}
		}
		return true, nil
	}
	head, err := w.r.Peek(8)
	if err == nil && skippable(head) {
		w.left = 8 + int64(binary.LittleEndian.Uint32(head[4:]))
		return true, nil
	}
	head, err = w.r.Peek(zstd.HeaderMaxSize)
	if len(head) == 0 {
		return false, w.giveUp(err)
	}
	var h zstd.Header
	if h.Decode(head) != nil {
		return false, w.giveUp(nil)
	}
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	w.left, w.inFrame, w.sum = int64(h.HeaderSize), true, h.HasCheckSum
	// What is beyond maxWindow the decoder refuses.
	if window > smallWindow && window <= maxWindow {
		return true, w.large()
	}
	return true, nil
}

// giveUp leaves the rest to the decoder: at its end, or broken.
func (w *windows) giveUp(err error) error {
	w.broken = true
	if err == io.EOF {
		return nil
	}
	return err
}

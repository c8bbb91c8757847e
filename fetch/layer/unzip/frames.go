package unzip

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
	"runtime"

	"cove/fetch/layer/unzip/wide"

	"github.com/klauspost/compress/zstd"
)

const (
	// small windows may be in memory, however many layers have one. People's images have 8 MiB and less, the least bound
	// that a decoder may have (RFC 8878 3.1.1.1.2), and so may two layers at once: with six there would be more of it than
	// of all the rest of a pull.
	small  = 1 << 20
	common = 8 << 20
	// widest is zstd's own bound for decoders that must resist; --ultra -22 and --long=27 go up to it.
	widest = 128 << 20
)

// roomy is held by those streams that have a common window in memory.
var roomy = make(chan struct{}, 2)

// frames decodes a zstd stream. What its frames can look back over is kept in memory, or in a file where it is much.
type frames struct {
	in     *bufio.Reader
	spill  func() (*os.File, error) // makes an empty file that has no name
	narrow *zstd.Decoder            // nil until there is use for it
	file   *os.File                 // likewise
	cur    io.Reader                // of one wide frame, or of those up to the next
	limit  uint64                   // of the windows in memory
}

func (f *frames) Read(p []byte) (int, error) {
	for {
		if f.cur == nil {
			if err := f.next(); err != nil {
				return 0, err
			}
		}
		n, err := f.cur.Read(p)
		if err != io.EOF {
			return n, err
		}
		f.cur = nil
		if n > 0 {
			return n, nil
		}
	}
}

// next goes on after the end of a decoder. io.EOF: there is nothing more.
func (f *frames) next() error {
	if _, err := f.in.Peek(1); err != nil {
		return err
	}
	f.limit = max(f.limit, small)
	if w := nextWindow(f.in); w > f.limit && w <= common {
		select {
		case roomy <- struct{}{}:
			f.limit = common
		default:
		}
	}
	if !isWide(f.in, f.limit) {
		run := &narrowRun{r: f.in, limit: f.limit}
		if f.narrow != nil {
			f.cur = f.narrow
			return f.narrow.Reset(run)
		}
		var err error
		f.narrow, err = zstd.NewReader(run, zstd.WithDecoderMaxWindow(widest), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderConcurrency(min(runtime.GOMAXPROCS(0), 2)))
		f.cur = f.narrow
		return err
	}
	if f.file == nil {
		var err error
		if f.file, err = f.spill(); err != nil {
			return err
		}
	}
	d, err := wide.New(f.in, f.file)
	f.cur = d
	return err
}

func (f *frames) close() {
	if f.narrow != nil {
		f.narrow.Close()
	}
	if f.limit == common {
		<-roomy
	}
	if f.file != nil {
		f.file.Close()
	}
}

// nextWindow returns the window of the frame that comes next. 0: no frame.
func nextWindow(in *bufio.Reader) uint64 {
	head, _ := in.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if h.Decode(head) != nil || h.Skippable {
		return 0
	}
	return wide.Window(&h)
}

// isWide tells whether a frame with a window for a file comes next. What is beyond the widest, or no frame, is left to
// the other decoder, which says so.
func isWide(in *bufio.Reader, limit uint64) bool {
	window := nextWindow(in)
	return window > limit && window <= widest
}

// narrowRun passes on a zstd stream as far as to the next wide frame. It finds the frames by their blocks' headers.
type narrowRun struct {
	r       *bufio.Reader
	limit   uint64 // of a window that is not wide
	left    int64  // to pass on before the next header
	inFrame bool   // that is a block's
	sum     bool   // a checksum follows the last block
	broken  bool   // the decoder may say how
	ended   bool
}

func (w *narrowRun) Read(p []byte) (int, error) {
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
func (w *narrowRun) next() (more bool, err error) {
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
	if w.ended = w.ended || isWide(w.r, w.limit); w.ended {
		return false, io.EOF
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
	w.left, w.inFrame, w.sum = int64(h.HeaderSize), true, h.HasCheckSum
	return true, nil
}

// giveUp leaves the rest to the decoder: at its end, or broken.
func (w *narrowRun) giveUp(err error) error {
	w.broken = true
	if err == io.EOF {
		return nil
	}
	return err
}

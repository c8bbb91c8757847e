package stage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"cove/fetch/layer"
	"cove/fetch/layer/unzip"
	"cove/fetch/oci"
)

const (
	blockSize = 256 << 10 // what travels between the goroutines of a stream
	blocks    = 4         // of them, so 1 MiB a layer
)

var blockPool = sync.Pool{New: func() any { return new([blockSize]byte) }}

// errStopped is what the rest of a stream finds when its reader has given up.
var errStopped = errors.New("stopped")

// stream decompresses on one goroutine, hashes on the next, and is read by a third: the tar's.
type stream struct {
	src    io.ReadCloser
	lim    layer.Limits
	spill  func() (*os.File, error)
	in     atomic.Int64 // compressed bytes so far
	ready  chan []byte  // decompressed and hashed; closed at the end
	free   chan []byte
	stop   chan struct{} // closed when the reader gives up
	err    error         // why ready was closed, if not at the end; read after that
	diffID string        // likewise

	cur, rest []byte
}

// newStream starts a stream, to be hashed by that algorithm. spill makes a file for what takes too much memory.
func newStream(src io.ReadCloser, lim layer.Limits, algorithm string, spill func() (*os.File, error)) *stream {
	s := &stream{src: src, lim: lim, spill: spill, ready: make(chan []byte, blocks), free: make(chan []byte, blocks), stop: make(chan struct{})}
	for range blocks {
		s.free <- nil // made when it is needed: many a layer is small
	}
	raw := make(chan []byte, blocks)
	var failed error
	go func() {
		defer close(raw)
		failed = s.decompress(src, raw)
	}()
	go func() {
		defer close(s.ready)
		sum := oci.NewHash(algorithm)
		for b := range raw {
			sum.Write(b)
			select {
			case s.ready <- b:
			case <-s.stop:
			}
		}
		s.err = failed
		s.diffID = oci.FromHash(sum).String()
	}()
	return s
}

// decompress fills free blocks and sends them on, within the limits.
func (s *stream) decompress(r io.Reader, out chan<- []byte) error {
	d, closeDecoder, err := unzip.New(&counter{r, &s.in}, s.spill)
	if err != nil {
		return err
	}
	defer closeDecoder()
	var total int64
	for {
		var b []byte
		select {
		case b = <-s.free:
		case <-s.stop:
			return errStopped
		}
		if b == nil {
			b = blockPool.Get().(*[blockSize]byte)[:]
		}
		n, err := io.ReadFull(d, b[:blockSize])
		total += int64(n)
		if total > s.lim.Bytes {
			return &layer.LimitError{What: "bytes", Max: s.lim.Bytes}
		}
		if total > s.lim.RatioFrom && total/s.lim.Ratio > s.in.Load() {
			return &layer.LimitError{What: "ratio", Max: s.lim.Ratio}
		}
		if n > 0 {
			select {
			case out <- b[:n]:
			case <-s.stop:
				return errStopped
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF && n > 0 && atEnd(d) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decompress: %w", err)
		}
	}
}

// atEnd tells ReadFull's ErrUnexpectedEOF, a last block that is short, from the decoder's own,
// a stream that is cut: at a true end the decoder says io.EOF again.
func atEnd(d io.Reader) bool {
	var b [1]byte
	n, err := d.Read(b[:])
	return n == 0 && err == io.EOF
}

// Read gives the decompressed bytes in order.
func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.cur != nil {
			s.free <- s.cur[:cap(s.cur)]
			s.cur = nil
		}
		b, ok := <-s.ready
		if !ok {
			if s.err != nil {
				return 0, s.err
			}
			return 0, io.EOF
		}
		s.cur, s.rest = b, b
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// drain reads what follows the tar's end, which belongs to the diffID too, and returns the diffID.
func (s *stream) drain() (string, error) {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{s})
	close(s.free)
	for b := range s.free {
		if b != nil {
			blockPool.Put((*[blockSize]byte)(b[:blockSize]))
		}
	}
	return s.diffID, err
}

// abandon stops the stream and waits for its goroutines. Closing the source wakes a read from a
// slow sender.
func (s *stream) abandon() {
	close(s.stop)
	s.src.Close()
	for range s.ready {
	}
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

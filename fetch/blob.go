package fetch

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"cove/fetch/oci"
)

// blobReader reads one blob and checks size and digest as it goes: its end, io.EOF, is told only
// when both are right. A body that is cut is asked for again, from where it was cut.
type blobReader struct {
	ctx   context.Context
	src   source
	d     oci.Descriptor
	what  string
	body  io.ReadCloser
	sum   hash.Hash
	got   int64
	left  int         // attempts
	moved func(int64) // told of every read

	mu     sync.Mutex // of body's change, and of closed
	closed bool
}

func newBlobReader(ctx context.Context, src source, d oci.Descriptor, what string, moved func(int64)) *blobReader {
	return &blobReader{ctx: ctx, src: src, d: d, what: what, sum: d.Digest.Hash(), left: attempts, moved: moved}
}

func (b *blobReader) Read(p []byte) (int, error) {
	for {
		if err := b.ctx.Err(); err != nil {
			return 0, context.Cause(b.ctx)
		}
		n, err := b.read(p)
		if n > 0 {
			b.sum.Write(p[:n])
			b.got += int64(n)
			if b.got > b.d.Size {
				return 0, &SizeError{b.what, b.d.Size, b.got}
			}
			if b.moved != nil {
				b.moved(int64(n))
			}
			return n, nil
		}
		if err == io.EOF && b.got == b.d.Size {
			return 0, b.check()
		}
		if err == nil {
			continue
		}
		if err := b.again(err); err != nil {
			return 0, err
		}
	}
}

func (b *blobReader) check() error {
	got := oci.FromHash(b.sum)
	if got != b.d.Digest {
		return &DigestError{b.what, b.d.Digest, got}
	}
	return io.EOF
}

// read reads from the body, opening it where the last one ended.
func (b *blobReader) read(p []byte) (int, error) {
	if b.body == nil {
		body, err := b.src.blob(b.ctx, b.d)
		if err != nil {
			return 0, err
		}
		if err := b.setBody(body); err != nil {
			return 0, err
		}
		if b.got > 0 {
			// What is skipped was hashed the first time: were it different now, the digest would tell.
			if _, err := io.CopyN(io.Discard, body, b.got); err != nil {
				return 0, err
			}
		}
	}
	return b.readBody(p)
}

// maxSilence is how long a server may send nothing while we wait for it.
const maxSilence = 2 * time.Minute

var errStalled = errors.New("the server has sent nothing for two minutes")

// readBody is body.Read, given up when the server falls silent.
func (b *blobReader) readBody(p []byte) (int, error) {
	body, stalled := b.body, atomic.Bool{}
	t := time.AfterFunc(maxSilence, func() {
		stalled.Store(true)
		body.Close()
	})
	n, err := body.Read(p)
	t.Stop()
	if err != nil && stalled.Load() {
		err = errStalled
	}
	return n, err
}

// again prepares another attempt after err, or returns it.
func (b *blobReader) again(err error) error {
	cut := err == io.EOF
	if cut {
		err = &SizeError{b.what, b.d.Size, b.got}
	}
	if b.left--; b.left <= 0 || b.ctx.Err() != nil || !cut && !mayPass(err) {
		return err
	}
	if b.body != nil {
		b.body.Close()
		if err := b.setBody(nil); err != nil {
			return err
		}
	}
	if !wait(b.ctx, time.Duration(attempts-b.left)*300*time.Millisecond) {
		return context.Cause(b.ctx)
	}
	return nil
}

func (b *blobReader) setBody(body io.ReadCloser) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		if body != nil {
			body.Close()
		}
		return os.ErrClosed
	}
	b.body = body
	return nil
}

// Close releases the body. It may be called while another goroutine reads, whose read it ends.
func (b *blobReader) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}

// readBlob reads a small blob whole.
func readBlob(ctx context.Context, src source, d oci.Descriptor, what string) ([]byte, error) {
	r := newBlobReader(ctx, src, d, what, nil)
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", what, err)
	}
	return data, nil
}

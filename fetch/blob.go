package fetch

import (
	"context"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"cove/fetch/oci"
	"cove/fetch/wire"
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
	head  []byte // the first bytes of a layer
	got   int64
	retry *wire.Retry
	mark  int64       // got, when attempts were last counted anew
	moved func(int64) // told of every read

	mu     sync.Mutex // of body's change, and of closed
	closed bool
}

func newBlobReader(ctx context.Context, src source, d oci.Descriptor, what string, retry *wire.Retry, moved func(int64)) *blobReader {
	return &blobReader{ctx: ctx, src: src, d: d, what: what, sum: d.Digest.Hash(), retry: retry, moved: moved}
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
			if err := b.checkHead(p[:n]); err != nil {
				return 0, err
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

// checkHead looks at the first bytes, when they are there.
func (b *blobReader) checkHead(p []byte) error {
	const enough = 4
	if len(b.head) >= enough {
		return nil
	}
	b.head = append(b.head, p[:min(len(p), enough-len(b.head))]...)
	if len(b.head) < enough && b.got < b.d.Size {
		return nil
	}
	return checkCompression(b.d.MediaType, b.head)
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
		body, at, err := b.src.blob(b.ctx, b.d, b.got)
		if err != nil {
			return 0, err
		}
		if err := b.setBody(body); err != nil {
			return 0, err
		}
		// What is skipped was hashed the first time: were it different now, the digest would tell.
		if _, err := io.CopyN(io.Discard, body, b.got-at); err != nil {
			return 0, err
		}
	}
	return b.body.Read(p)
}

// progress is how much more has to have come for a failure not to count as one more of the same.
const progress = 256 << 10

// again prepares another attempt after err, or returns it.
func (b *blobReader) again(err error) error {
	if err == io.EOF {
		err = &SizeError{b.what, b.d.Size, b.got}
	}
	if b.got-b.mark >= progress {
		b.retry.Progress()
		b.mark = b.got
	}
	if err := b.retry.Again(b.ctx, err); err != nil {
		return err
	}
	if b.body != nil {
		b.body.Close()
	}
	return b.setBody(nil)
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
func (p *puller) readBlob(ctx context.Context, d oci.Descriptor, what string) ([]byte, error) {
	for {
		r := newBlobReader(ctx, p.src, d, what, wire.NewRetry(p.o.Wire), nil)
		data, err := io.ReadAll(r)
		r.Close()
		if err == nil {
			return data, nil
		}
		if ctx.Err() != nil || !p.src.other(d.Digest) {
			return nil, fmt.Errorf("fetch %s: %w", what, err)
		}
	}
}

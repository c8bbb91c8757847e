package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"cove/fetch/image"
	"cove/fetch/oci"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
)

// A source is where an image's documents and blobs come from. Nothing it gives is believed
// before it is checked by who asked.
type source interface {
	// manifest returns the document that d names, or, when d is "", what the reference names.
	manifest(ctx context.Context, d oci.Digest) (data []byte, mediaType string, err error)
	// blob opens what d names. It may be called by several goroutines at once.
	blob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error)
	close() error
}

// openSource opens what t names; named is the registry reference to use, if it is one.
func openSource(ctx context.Context, sys *types.SystemContext, t *target, named reference.Named, o Options) (source, error) {
	quiet()
	switch t.Via {
	case image.ViaRegistry:
		return openRegistry(ctx, sys, named)
	case image.ViaOCI:
		return openLayout(t)
	case image.ViaOCIArchive:
		return openArchive(t, o)
	case image.ViaDockerArchive:
		return openDockerArchive(ctx, t, o)
	}
	return nil, fmt.Errorf("nothing to fetch from %q", t.Via)
}

// quiet keeps the library's own log off the terminal: it holds what registries sent, raw, and
// addresses with their queries. What matters comes back as errors.
var quiet = sync.OnceFunc(func() { logrus.SetOutput(io.Discard) })

// librarySource is a source that go.podman.io/image reads.
type librarySource struct {
	src   types.ImageSource
	sys   *types.SystemContext
	named reference.Named
	mu    sync.Mutex // held during GetBlob where the library asks for it
}

func openRegistry(ctx context.Context, sys *types.SystemContext, named reference.Named) (source, error) {
	ref, err := docker.NewReference(named)
	if err != nil {
		return nil, err
	}
	own := *sys
	if isLoopback(reference.Domain(named)) {
		own.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	var src types.ImageSource
	err = retry(ctx, func() (err error) {
		src, err = ref.NewImageSource(ctx, &own)
		return fromWire(err, &own, named)
	})
	if err != nil {
		return nil, err
	}
	return &librarySource{src: src, sys: &own, named: named}, nil
}

func (s *librarySource) manifest(ctx context.Context, d oci.Digest) (data []byte, mediaType string, err error) {
	var instance *digest.Digest
	if d != "" {
		its := digest.Digest(d)
		instance = &its
	}
	err = retry(ctx, func() (err error) {
		data, mediaType, err = s.src.GetManifest(ctx, instance)
		return fromWire(err, s.sys, s.named)
	})
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("manifest of %d bytes: at most %d are read", len(data), maxManifest)
	}
	return data, mediaType, err
}

func (s *librarySource) blob(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if !s.src.HasThreadSafeGetBlob() {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	r, _, err := s.src.GetBlob(ctx, types.BlobInfo{Digest: digest.Digest(d.Digest), Size: d.Size, MediaType: d.MediaType}, none.NoCache)
	if err != nil {
		return nil, fromWire(err, s.sys, s.named)
	}
	return &wireReader{r, s}, nil
}

func (s *librarySource) close() error {
	return s.src.Close()
}

// wireReader cleans the errors of a body.
type wireReader struct {
	io.ReadCloser
	s *librarySource
}

func (r *wireReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fromWire(err, r.s.sys, r.s.named)
	}
	return n, err
}

const attempts = 4

// retry runs do again, after a growing pause, while its error is one that may pass.
func retry(ctx context.Context, do func() error) error {
	pause := 200 * time.Millisecond
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == attempts || ctx.Err() != nil || !mayPass(err) {
			return err
		}
		if !wait(ctx, pause) {
			return err
		}
		pause *= 3
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// mayPass tells failures of a server or a connection from answers.
func mayPass(err error) bool {
	var status docker.UnexpectedHTTPStatusError
	if errors.As(err, &status) {
		return status.StatusCode >= 500
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary && !dns.IsNotFound
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false // nobody is there: say so at once
	}
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return true
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, errStalled) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

package fetch

import (
	"context"
	"fmt"
	"io"
	"sync"

	"cove/fetch/image"
	"cove/fetch/oci"

	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker/reference"
)

// A source is where an image's documents and blobs come from. Nothing it gives is believed
// before it is checked by who asked.
type source interface {
	// manifest returns the document that d names, or, when d is "", what the reference names.
	manifest(ctx context.Context, d oci.Digest) (data []byte, mediaType string, err error)
	// blob opens what d names at the byte from, or before it: at is where. It may be called by
	// several goroutines at once.
	blob(ctx context.Context, d oci.Descriptor, from int64) (body io.ReadCloser, at int64, err error)
	// other says that the blob was of no use as it came, and tells whether it may be asked for again.
	other(d oci.Digest) bool
	close() error
}

// open opens what p's target names; named is the registry reference to use, if it is one.
func (p *puller) open(ctx context.Context, named reference.Named) (source, error) {
	quiet()
	switch p.t.Via {
	case image.ViaRegistry:
		s, err := openRegistry(p.sys, named, p.o, p.event)
		if err != nil {
			return nil, err
		}
		s.known = p.knownDigest(named)
		s.have = func(d oci.Digest) []byte {
			data, _ := p.o.Store.Blob(d)
			return data
		}
		return s, nil
	case image.ViaOCI:
		return openLayout(p.t, p.o)
	case image.ViaOCIArchive:
		return openArchive(ctx, p.t, p.o)
	case image.ViaDockerArchive:
		return openDockerArchive(ctx, p.t, p.o)
	}
	return nil, fmt.Errorf("nothing to fetch from %q", p.t.Via)
}

// knownDigest is the document that a reference named when it was last pulled, or "".
func (p *puller) knownDigest(named reference.Named) oci.Digest {
	if p.t.Pinned != "" {
		return p.t.Pinned
	}
	name, err := p.o.Store.Resolve(named.String(), p.want.String())
	if err != nil {
		return ""
	}
	if name.Index != "" {
		return name.Index
	}
	return name.Manifest
}

// quiet keeps the library's own log off the terminal: it holds what registries sent, raw, and
// addresses with their queries. What matters comes back as errors.
var quiet = sync.OnceFunc(func() { logrus.SetOutput(io.Discard) })

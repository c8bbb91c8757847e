package fetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"

	"go.podman.io/image/v5/docker/reference"
)

// Resolution is what a reference names for one platform by now, as its documents have it: that a layer unpacks to its
// diffID is checked when it is pulled.
type Resolution struct {
	Ref      string     // canonical
	Platform string     // as it was asked for
	Index    oci.Digest // that the manifest was found in; "" where there is none
	Manifest oci.Digest
	Created  *time.Time // by the image's own word
	Layers   []ResolvedLayer
}

// ResolvedLayer is one layer, from the lowest up.
type ResolvedLayer struct {
	DiffID oci.Digest
	Size   int64 // as sent
}

// Size is of all layers as they are sent.
func (r *Resolution) Size() (n int64) {
	for _, l := range r.Layers {
		n += l.Size
	}
	return n
}

// DiffIDs are the layers by what they unpack to.
func (r *Resolution) DiffIDs() []oci.Digest {
	out := make([]oci.Digest, len(r.Layers))
	for i, l := range r.Layers {
		out[i] = l.DiffID
	}
	return out
}

// An OfflineError says that something is not here and may not be asked for.
type OfflineError struct {
	Ref      string
	Platform string     // "" for this machine's
	Digest   oci.Digest // when one is known
}

func (e *OfflineError) Error() string {
	text := "not in the store"
	if e.Digest != "" {
		text = string(e.Digest) + " is " + text
	}
	if e.Platform != "" {
		text += " for " + e.Platform
	}
	return text + ", and offline no registry is asked"
}

// Unwrap says what it is besides.
func (e *OfflineError) Unwrap() error { return store.ErrNotFound }

// Resolve tells what ref names for each of the platforms, all of them from one look at it: a tag that moves meanwhile
// gives them all from before, or all from after. Of o.Policy only Never counts: then the store alone is asked. The
// manifest of o.Locked, which may be an index, is looked at in place of the tag.
func Resolve(ctx context.Context, ref string, platforms []string, o Options) ([]Resolution, error) {
	t, err := parseLocked(ref, o.Locked)
	if err != nil {
		return nil, err
	}
	p := &puller{o: o, t: t, sys: systemContext(o)}
	wants := make([]oci.Platform, len(platforms))
	for i, name := range platforms {
		if wants[i], err = oci.ParsePlatform(name); err != nil {
			return nil, fmt.Errorf("resolve %q: %w", ref, err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.maxTime(), &layer.LimitError{What: "time", Max: int64(o.maxTime())})
	defer cancel()
	var out []Resolution
	if o.Policy == Never || o.Offline && t.Via == image.ViaRegistry {
		out, err = p.resolveStored(ctx, wants)
	} else {
		err = p.each(ctx, func(named reference.Named) (err error) {
			out, err = p.resolveAll(ctx, named, wants)
			return err
		})
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", ref, err)
	}
	return out, nil
}

func (p *puller) resolveAll(ctx context.Context, named reference.Named, wants []oci.Platform) ([]Resolution, error) {
	if len(wants) == 0 {
		return nil, nil
	}
	if p.t.Via == image.ViaHost || p.t.Via == image.ViaDir {
		return nil, fmt.Errorf("%s: has no digest", p.t.Text)
	}
	p.want = wants[0]
	if err := p.begin(ctx, named); err != nil {
		return nil, err
	}
	defer p.src.close()
	p.src = &oneLook{source: p.src}
	out := make([]Resolution, len(wants))
	for i, want := range wants {
		p.want = want
		if err := p.resolve(ctx); err != nil {
			return nil, err
		}
		out[i] = p.resolved()
	}
	return out, nil
}

// resolved is what resolve has found.
func (p *puller) resolved() Resolution {
	r := Resolution{Ref: p.ref, Platform: p.want.String(), Index: p.index, Manifest: p.man.Digest, Created: p.config.Created}
	for i, d := range p.config.RootFS.DiffIDs {
		r.Layers = append(r.Layers, ResolvedLayer{DiffID: d, Size: p.doc.Layers[i].Size})
	}
	return r
}

// oneLook is a source that is asked once what its reference names.
type oneLook struct {
	source
	data      []byte
	mediaType string
}

func (s *oneLook) manifest(ctx context.Context, d oci.Digest) ([]byte, string, error) {
	if d != "" {
		return s.source.manifest(ctx, d)
	}
	if s.data == nil {
		data, mediaType, err := s.source.manifest(ctx, "")
		if err != nil {
			return nil, "", err
		}
		s.data, s.mediaType = data, mediaType
	}
	return s.data, s.mediaType, nil
}

// resolveStored is for what was pulled before. What the store keeps is checked like anything else that is read.
func (p *puller) resolveStored(ctx context.Context, wants []oci.Platform) ([]Resolution, error) {
	out := make([]Resolution, len(wants))
	for i, want := range wants {
		first := p.t.Pinned
		p.ref, p.want, p.docs, p.found = p.t.Text, want, map[oci.Digest][]byte{}, map[oci.Digest]*signatures{}
		if first == "" {
			name, err := p.o.Store.Resolve(p.t.Text, want.String())
			if err != nil {
				return nil, &OfflineError{Ref: p.t.Text, Platform: want.String()}
			}
			p.ref, first = name.Ref, name.Manifest
			if name.Index != "" {
				first = name.Index
			}
		}
		p.src = &storedSource{p.o.Store, first}
		if err := p.resolve(ctx); err != nil {
			return nil, err
		}
		out[i] = p.resolved()
	}
	return out, nil
}

// Known tells of an image that the store has, for whatever it is called there.
func Known(ctx context.Context, s *store.Store, manifest oci.Digest, platform string) (*Resolution, error) {
	want, err := oci.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	p := &puller{o: Options{Store: s}, t: &target{Target: image.Target{Text: string(manifest), Pinned: manifest}}}
	out, err := p.resolveStored(ctx, []oci.Platform{want})
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", manifest, err)
	}
	return &out[0], nil
}

// storedSource gives the documents that the store keeps.
type storedSource struct {
	store *store.Store
	first oci.Digest // what the reference names
}

func (s *storedSource) manifest(_ context.Context, d oci.Digest) ([]byte, string, error) {
	if d == "" {
		d = s.first
	}
	data, err := s.store.Blob(d)
	if err != nil {
		return nil, "", &OfflineError{Ref: string(d)}
	}
	return data, "", nil
}

func (s *storedSource) blob(_ context.Context, d oci.Descriptor, _ int64) (io.ReadCloser, int64, error) {
	data, err := s.store.Blob(d.Digest)
	if err != nil {
		return nil, 0, &OfflineError{Ref: string(d.Digest)}
	}
	return io.NopCloser(bytes.NewReader(data)), 0, nil
}

func (s *storedSource) other(oci.Digest) bool { return false }

func (s *storedSource) close() error { return nil }

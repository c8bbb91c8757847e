package fetch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/fetch/store"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
)

// Push sends the image that ref means in the store to a registry, as dest: "" is the name that it has here. When ctx
// ends nothing is left of it here; the registry throws away what no manifest names.
func Push(ctx context.Context, ref, dest string, o ShareOptions) (*Shared, error) {
	s, err := newSharer(ref, o)
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	out, err := s.push(ctx, dest)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("push %q: %w", ref, err), s.close())
	}
	return out, s.close()
}

func (s *sharer) push(ctx context.Context, dest string) (*Shared, error) {
	named, err := s.destination(dest)
	if err != nil {
		return nil, err
	}
	quiet()
	p := &pusher{sharer: s, named: named}
	if err := p.open(); err != nil {
		return nil, err
	}
	defer p.Close()
	s.event(Event{Kind: Resolved, Ref: named.String(), Digest: s.img.Record.Manifest, Layers: len(s.doc.Layers)})
	return p.all(ctx)
}

// open finds out how the registry is talked to, as for a pull, but for its mirrors, which nothing is written to.
func (p *pusher) open() error {
	sys := systemContext(Options{AuthFile: p.o.AuthFile})
	conf, err := sysregistriesv2.FindRegistry(sys, p.named.Name())
	if err != nil {
		return fmt.Errorf("registries.conf: %s", oci.Clean(err.Error()))
	}
	host := reference.Domain(p.named)
	source := sysregistriesv2.PullSource{Reference: p.named, Endpoint: sysregistriesv2.Endpoint{Location: host}}
	if conf != nil {
		if conf.Blocked {
			return fmt.Errorf("registry %s is blocked in %s", conf.Prefix, sysregistriesv2.ConfigurationSourceDescription(sys))
		}
		source.Endpoint.Insecure = conf.Insecure
	}
	if p.place, err = newPlace(sys, source, Options{Wire: p.o.Wire}, p.event); err != nil {
		return err
	}
	p.Push = true
	p.askNeighbours()
	return nil
}

// mostNeighbours bounds the repositories that a registry is asked to mount from.
const mostNeighbours = 10

// askNeighbours finds the other repositories of the same registry that the layers' blobs came from.
func (p *pusher) askNeighbours() {
	var blobs []oci.Digest
	for _, l := range p.doc.Layers {
		blobs = append(blobs, l.Digest)
	}
	holders, err := p.o.Store.Holders(blobs)
	if err != nil {
		return
	}
	repositories := map[string]string{} // by the names that were looked at; "": of another registry, or the same
	for _, blob := range blobs {
		for _, ref := range holders[blob] {
			repo, known := repositories[ref]
			if !known {
				named, err := reference.ParseNormalizedNamed(ref)
				if err == nil && !image.IsLocal(ref) && reference.Domain(named) == reference.Domain(p.named) && named.Name() != p.named.Name() {
					repo = reference.Path(named)
				}
				repositories[ref] = repo
			}
			if repo != "" && !slices.Contains(p.From, repo) && len(p.From) < mostNeighbours {
				p.From = append(p.From, repo)
			}
		}
	}
	p.neighbours = map[oci.Digest][]string{}
	for _, blob := range blobs {
		for _, ref := range holders[blob] {
			if repo := repositories[ref]; repo != "" && slices.Contains(p.From, repo) && !slices.Contains(p.neighbours[blob], repo) {
				p.neighbours[blob] = append(p.neighbours[blob], repo)
			}
		}
	}
}

// destination is what dest names: a registry's, by name, since nobody means to publish on docker.io what they called "web".
func (s *sharer) destination(dest string) (reference.Named, error) {
	if dest == "" {
		for _, name := range s.img.Refs {
			if !image.IsLocal(name) && strings.Contains(name, "/") && !strings.Contains(name, "@") {
				dest = name
				break
			}
		}
		if dest == "" {
			return nil, errors.New("where to? none of its names here is of a registry; give REGISTRY/NAME")
		}
	}
	t, err := parse(dest)
	if err != nil {
		return nil, err
	}
	if t.Via != image.ViaRegistry {
		return nil, fmt.Errorf("%s is no registry: `cove image save` writes files", oci.Short(dest))
	}
	if image.IsShort(strings.TrimPrefix(dest, "docker://")) {
		return nil, fmt.Errorf("where to? %s names no registry; write REGISTRY/NAME (docker's is docker.io)", oci.Short(dest))
	}
	if t.Pinned != "" {
		return nil, fmt.Errorf("%s: what is pushed has the digest that it has: give a tag", oci.Short(dest))
	}
	return t.named, nil
}

// pusher is one image on its way into one repository.
type pusher struct {
	*sharer
	place
	named reference.Named
	// neighbours are, of a layer's blob, the repositories among place's From that it may be mounted from.
	neighbours map[oci.Digest][]string
}

func (p *pusher) all(ctx context.Context) (*Shared, error) {
	parcels, err := p.sharer.all(ctx, p.layer)
	if err != nil {
		return nil, err
	}
	manifest, config, changed, err := p.manifest(parcels)
	if err != nil {
		return nil, err
	}
	id := oci.FromBytes(config)
	has, err := p.HasBlob(ctx, id, int64(len(config)))
	if err == nil && !has {
		err = p.PutBlob(ctx, id, int64(len(config)), func() io.Reader { return bytes.NewReader(config) })
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	mediaType := oci.MediaTypeManifest
	if !changed {
		mediaType = cmp.Or(p.doc.MediaType, p.img.Record.MediaType, mediaType)
	}
	if err := p.PutManifest(ctx, p.tag(), mediaType, manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	out := &Shared{Ref: p.named.String(), Digest: oci.FromBytes(manifest), ID: id, Platform: p.img.Record.Platform}
	out.count(p.img.Record.Layers, parcels)
	p.event(Event{Kind: Finished, Ref: out.Ref, Digest: out.Digest})
	return out, nil
}

// layer brings one layer there: it is there already, or in another repository of the registry, or it is packed.
func (p *pusher) layer(ctx context.Context, n int) (*parcel, error) {
	done := func(l *parcel, present bool) (*parcel, error) {
		p.event(Event{Kind: LayerDone, Layer: n, Digest: l.desc.Digest, Bytes: l.desc.Size, Total: l.desc.Size, Present: present})
		l.close()
		return l, nil
	}
	kept := &parcel{desc: p.doc.Layers[n], diffID: p.config.RootFS.DiffIDs[n]}
	has, err := p.HasBlob(ctx, kept.desc.Digest, kept.desc.Size)
	if err == nil && !has {
		has, err = p.mount(ctx, kept.desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	if has {
		return done(kept, true)
	}
	packed, err := p.pack(ctx, n, p.o.Compression)
	if err != nil {
		return nil, inStore(err, p.o.Store.Dir())
	}
	defer packed.close()
	if has, err = p.HasBlob(ctx, packed.desc.Digest, packed.desc.Size); err != nil {
		return nil, err
	}
	if has {
		return done(packed, true)
	}
	if err := p.send(ctx, n, packed); err != nil {
		return nil, err
	}
	return done(packed, false)
}

// mount asks the registry to take a blob over from another repository. That it does not is no error.
func (p *pusher) mount(ctx context.Context, d oci.Digest) (bool, error) {
	for _, repo := range p.neighbours[d] {
		if ok, err := p.Mount(ctx, d, repo); ok && err == nil {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}

// send sends a layer and tells of it.
func (p *pusher) send(ctx context.Context, n int, l *parcel) error {
	p.event(Event{Kind: LayerStart, Layer: n, Digest: l.desc.Digest, Total: l.desc.Size})
	return p.PutBlob(ctx, l.desc.Digest, l.desc.Size, func() io.Reader {
		return &upload{ctx: ctx, file: l.file, size: l.desc.Size, sent: func(sent int64) {
			p.event(Event{Kind: LayerBytes, Layer: n, Digest: l.desc.Digest, Bytes: sent, Total: l.desc.Size})
		}}
	})
}

// upload reads a blob's file from its start.
type upload struct {
	ctx       context.Context
	file      *os.File
	off, size int64
	sent      func(int64)
}

func (u *upload) Read(b []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	if u.off >= u.size {
		return 0, io.EOF
	}
	n, err := u.file.ReadAt(b[:min(int64(len(b)), u.size-u.off)], u.off)
	u.off += int64(n)
	if n > 0 {
		u.sent(u.off)
		err = nil
	}
	return n, err
}

// count says how many layers are as they came.
func (s *Shared) count(came []store.LayerRecord, went []*parcel) {
	for n, p := range went {
		if p.desc.Digest == came[n].Digest {
			s.Kept++
		} else {
			s.Packed++
		}
	}
}

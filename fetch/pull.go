package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/policy"
	"cove/fetch/store"
	"cove/fetch/wire"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"
)

// Pull returns the image that ref names, for o's platform and id mapping, fetching what the
// store lacks as o.Policy has it. When ctx ends nothing is left of it but ctx's error.
func Pull(ctx context.Context, ref string, o Options) (*Image, error) {
	t, err := parseLocked(ref, o.Locked)
	if err != nil {
		return nil, err
	}
	want, err := oci.ParsePlatform(o.Platform)
	if err != nil {
		return nil, fmt.Errorf("pull %q: %w", ref, err)
	}
	img, err := t.pull(ctx, o, want)
	if err != nil {
		return nil, fmt.Errorf("pull %q: %w", ref, err)
	}
	return img, nil
}

func (t *target) pull(ctx context.Context, o Options, want oci.Platform) (*Image, error) {
	if t.Via == image.ViaDir {
		if err := t.checkPlain(); err != nil {
			return nil, err
		}
	}
	found, err := t.Lookup(o.local(), want)
	if err == nil && found.Final(o.Policy) {
		return found, nil
	}
	var unsigned *image.UnsignedError
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.As(err, &unsigned) || o.Policy == Never {
		return nil, err
	}
	p := &puller{o: o, t: t, want: want, sys: systemContext(o)}
	// What an interrupted pull left would only grow; a failure to remove it is not this one's.
	_ = o.Store.Sweep(ctx)
	if o.Policy == Missing && unsigned == nil {
		if img, err := p.reownKnown(ctx); err == nil {
			return img, nil
		}
	}
	if o.Offline && unsigned != nil {
		return nil, unsigned
	}
	if err := p.madeHere(); err != nil {
		if unsigned != nil {
			return nil, unsigned
		}
		if found != nil && o.Policy == Newer {
			return found, nil
		}
		return nil, err
	}
	if o.Offline && t.Via == image.ViaRegistry {
		return nil, &OfflineError{Ref: t.Text, Platform: o.Platform, Digest: t.Pinned}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.maxTime(), &layer.LimitError{What: "time", Max: int64(o.maxTime())})
	defer cancel()
	img, err := p.run(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	err = inStore(err, o.Store.Dir())
	var denied *PolicyError
	if err != nil && o.Policy == Newer && found != nil && !errors.As(err, &denied) && wire.Unreachable(err) {
		p.event(Event{Kind: Kept, Ref: found.Ref, Why: err.Error()})
		return found, nil
	}
	return img, err
}

// inStore names the store in what its file system said: the stage knows the entry only.
func inStore(err error, dir string) error {
	var stage *layer.WireError
	disk := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	if errors.As(err, &stage) {
		disk = disk || stage.Errno == syscall.EIO || stage.Errno == syscall.EROFS || stage.Errno == syscall.EFBIG
	}
	if !disk || strings.Contains(err.Error(), dir) {
		return err
	}
	return fmt.Errorf("store %s: %w", dir, err)
}

// madeHere tells of an image that was made on this machine: no registry is asked for it. One that has an image by the
// same short name would be taken for it.
func (p *puller) madeHere() error {
	if p.t.Via != image.ViaRegistry || p.t.Pinned != "" {
		return nil
	}
	name, err := p.o.Store.Resolve(p.t.Text, p.want.String())
	if err != nil || !image.IsLocal(name.Ref) {
		return nil
	}
	return fmt.Errorf("%s was made here, and no registry is asked for it (its layers are not all there, or it was to be asked for all the same)", name.Ref)
}

func systemContext(o Options) *types.SystemContext {
	auth := o.AuthFile
	if auth == "" {
		auth = os.Getenv("REGISTRY_AUTH_FILE")
	}
	return &types.SystemContext{AuthFilePath: auth, DockerRegistryUserAgent: "cove"}
}

// A puller is one pull at work.
type puller struct {
	o    Options
	t    *target
	want oci.Platform
	sys  *types.SystemContext

	src    source
	named  reference.Named // of a registry
	rules  *policy.Rules   // of this machine's policy.json; nil without one
	ref    string          // canonical
	index  oci.Digest      // what ref names, where that is an index
	chain  []oci.Digest    // the documents that led to the manifest, and it
	found  map[oci.Digest]*signatures
	signed []store.Signed        // what was found right among those, for o.Demands
	docs   map[oci.Digest][]byte // to keep: manifests, indexes, config
	man    oci.Descriptor
	doc    *oci.Document
	config *oci.Image

	mu sync.Mutex // of Progress
}

func (p *puller) event(e Event) {
	if p.o.Progress != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.o.Progress(e)
	}
}

// run pulls from the first source that has the image.
func (p *puller) run(ctx context.Context) (img *Image, err error) {
	err = p.each(ctx, func(named reference.Named) (err error) {
		img, err = p.from(ctx, named)
		return err
	})
	return img, err
}

// each tries what the reference may mean, in order, until one does.
func (p *puller) each(ctx context.Context, do func(reference.Named) error) error {
	names := []reference.Named{nil}
	if p.t.Via == image.ViaRegistry {
		var err error
		if names, err = candidates(p.sys, p.t); err != nil {
			return err
		}
	}
	var errs []error
	for _, named := range names {
		err := do(named)
		if err == nil {
			return nil
		}
		if len(names) > 1 {
			err = fmt.Errorf("%s: %w", named, err)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// begin opens one source, when this machine's policy lets it be.
func (p *puller) begin(ctx context.Context, named reference.Named) (err error) {
	p.ref = p.t.Text
	if named != nil {
		p.ref = named.String()
	}
	p.named = named
	if p.rules, err = p.readRules(named); err != nil {
		return err
	}
	p.docs, p.found = map[oci.Digest][]byte{}, map[oci.Digest]*signatures{}
	p.src, err = p.open(ctx, named)
	return err
}

// from pulls from one source.
func (p *puller) from(ctx context.Context, named reference.Named) (*Image, error) {
	stamp := p.t.Stamp()
	if err := p.begin(ctx, named); err != nil {
		return nil, err
	}
	defer p.src.close()
	if err := p.resolve(ctx); err != nil {
		return nil, err
	}
	if err := p.o.Locked.Check(p.man.Digest, p.config.RootFS.DiffIDs); err != nil {
		return nil, err
	}
	p.event(Event{Kind: Resolved, Ref: p.ref, Digest: p.man.Digest, Layers: len(p.doc.Layers)})
	name := store.Name{Ref: p.ref, Platform: p.want.String(), Manifest: p.man.Digest, Index: p.index, Stamp: stamp}
	img, err := p.layers(ctx, name)
	if err != nil {
		return nil, err
	}
	p.event(Event{Kind: Finished, Ref: p.ref, Digest: p.man.Digest})
	return img, nil
}

// resolve goes from the reference to a manifest and its config, every step checked.
func (p *puller) resolve(ctx context.Context) error {
	data, mediaType, err := p.src.manifest(ctx, "")
	if err != nil {
		return fmt.Errorf("fetch manifest: %w", err)
	}
	if p.t.Pinned != "" {
		if err := verifyDigest("manifest", data, p.t.Pinned); err != nil {
			return err
		}
	}
	man := oci.Descriptor{Digest: p.t.Pinned, Size: int64(len(data)), MediaType: mediaType}
	if man.Digest == "" {
		man.Digest = oci.FromBytes(data)
	}
	p.index, p.chain = "", nil
	for depth := 0; ; depth++ {
		p.docs[man.Digest], p.chain = data, append(p.chain, man.Digest)
		doc, err := parseDocument(data, man.MediaType)
		if err != nil {
			return err
		}
		if !doc.IsIndex() {
			if man.MediaType == "" {
				man.MediaType = doc.MediaType
			}
			p.man, p.doc = man, doc
			break
		}
		if depth == p.o.maxDepth() {
			return &layer.LimitError{What: "depth", Max: int64(depth)}
		}
		if p.index == "" {
			p.index = man.Digest
		}
		if man, err = oci.Choose(doc.Manifests, p.want); err != nil {
			return err
		}
		if err := checkDescriptor(man, 1<<50); err != nil {
			return fmt.Errorf("index: %w", err)
		}
		if most := p.o.maxManifest(); man.Size > most {
			return fmt.Errorf("index: manifest %s of %d bytes: %w", man.Digest, man.Size, &layer.LimitError{What: "manifest", Max: most})
		}
		if err := checkDocumentType(man.MediaType); err != nil {
			return fmt.Errorf("index: %s is %w", man.Digest, err)
		}
		if data, _, err = p.src.manifest(ctx, man.Digest); err != nil {
			return fmt.Errorf("fetch manifest %s: %w", man.Digest, err)
		}
		if err := verify("manifest", data, man); err != nil {
			return err
		}
	}
	if err := p.admit(ctx); err != nil {
		return err
	}
	return p.readConfig(ctx)
}

// configBlob gets the config, from the store where it is there: it was checked when it came, and is again.
func (p *puller) configBlob(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	if p.t.Via == image.ViaRegistry {
		if data, err := p.o.Store.Blob(d.Digest); err == nil {
			return data, verify("config", data, d)
		}
	}
	return p.readBlob(ctx, d, "config")
}

func (p *puller) readConfig(ctx context.Context) error {
	data, err := p.configBlob(ctx, *p.doc.Config)
	if err != nil {
		return err
	}
	if p.config, err = parseConfig(data, len(p.doc.Layers)); err != nil {
		return err
	}
	p.docs[p.doc.Config.Digest] = data
	have := p.config.Platform
	if have.OS == "" {
		have.OS = p.want.OS
	}
	if have.Architecture == "" {
		have.Architecture = p.want.Architecture
	}
	if oci.VariantNumber(have.Variant) > 9 {
		have.Variant = "" // free text; what is shown of it is our own
	}
	p.config.Platform = have.Normalize()
	// Variants in configs are often missing or wrong; the index has already said its word on them.
	if have = p.config.Platform; have.OS != p.want.OS || have.Architecture != p.want.Architecture {
		return &oci.PlatformError{Want: p.want.String(), Have: []string{oci.Clean(have.String())}}
	}
	return nil
}

// record is what the store keeps of the image.
func (p *puller) record(layers []store.LayerRecord) *store.Record {
	return &store.Record{
		Manifest: p.man.Digest, MediaType: p.man.MediaType, ConfigID: p.doc.Config.Digest,
		Platform: p.config.Platform.String(), Created: p.config.Created, Pulled: time.Now().UTC(),
		IDMap: p.o.IDMap, Config: p.config.Config, Layers: layers,
	}
}

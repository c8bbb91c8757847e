package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/userns"

	"go.podman.io/image/v5/docker/reference"
)

// CommitRequest says what becomes an image.
type CommitRequest struct {
	Store   *store.Store
	IDMap   userns.IDMap
	Base    store.Handle // the image that it was done on
	Dir     string       // what holds the changes, absolute
	Tree    layer.Tree   // what Dir is
	Placed  []layer.Placed
	Ref     string // what it is to be called
	Author  string
	Message string
	Command string   // that is said to have done it
	Changes []string // to the config: "CMD ...", "ENV K=V"
	Created time.Time
	// Setup says that it is what a profile's setup has made of Base: Ref is then the store's own name for it.
	Setup *store.Setup
}

// Committed says what it has become.
type Committed struct {
	Ref    string       `json:"ref"`
	Digest oci.Digest   `json:"digest"`
	ID     oci.Digest   `json:"id"`
	Layer  oci.Digest   `json:"layer,omitempty"` // its diffID; "" when nothing had changed
	Bytes  int64        `json:"bytes"`
	Packed layer.Packed `json:"packed"`
}

// Commit makes an image of the store out of another and what was done on it, as one more layer. Nothing is left of it
// when it fails, or when ctx ends.
func Commit(ctx context.Context, r CommitRequest) (*Committed, error) {
	names, err := []string{r.Ref}, error(nil)
	if r.Setup == nil {
		names, err = commitNames(r.Ref)
	}
	if err != nil {
		return nil, err
	}
	c := &committer{CommitRequest: r, names: names}
	if c.changes, err = parseChanges(r.Changes); err != nil {
		return nil, err
	}
	if err := c.readBase(); err != nil {
		return nil, err
	}
	out, err := c.run(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, inStore(err, r.Store.Dir())
}

// commitNames are the names that an image is given: the canonical one first, then those that are typed for it.
func commitNames(ref string) ([]string, error) {
	t, err := parse(ref)
	if err != nil {
		return nil, err
	}
	if t.Via != image.ViaRegistry {
		return nil, fmt.Errorf("%s is no name for an image in the store", oci.Short(ref))
	}
	if t.Pinned != "" {
		return nil, fmt.Errorf("%s: the digest is what comes out: give a tag", oci.Short(ref))
	}
	if !image.IsShort(t.Text) {
		return []string{t.Text}, nil
	}
	named, err := reference.ParseNormalizedNamed(image.LocalHost + "/" + t.Text)
	if err != nil {
		return nil, fmt.Errorf("reference %q: %w", ref, err)
	}
	full := reference.TagNameOnly(named).String()
	names := []string{full, full[len(image.LocalHost)+1:]}
	if !slices.Contains(names, t.Text) {
		names = append(names, t.Text)
	} else if bare := reference.Path(named); reference.TagNameOnly(reference.TrimNamed(named)).String() == full {
		names = append(names, bare) // "web" is "web:latest"
	}
	return names, nil
}

type committer struct {
	CommitRequest
	names    []string
	changes  []change
	rec      *store.Record
	manifest *oci.Manifest
	config   map[string]json.RawMessage // what the base's holds, known here or not
	parsed   *oci.Image
}

func (c *committer) readBase() (err error) {
	if c.rec, err = c.Store.Record(c.Base); err != nil {
		return fmt.Errorf("the image that it runs from: %w", err)
	}
	manifest, err := c.Store.Blob(c.rec.Manifest)
	if err != nil {
		return fmt.Errorf("the manifest of the image that it runs from: %w", err)
	}
	config, err := c.Store.Blob(c.rec.ConfigID)
	if err != nil {
		return fmt.Errorf("the config of the image that it runs from: %w", err)
	}
	c.manifest = &oci.Manifest{}
	if err := json.Unmarshal(manifest, c.manifest); err != nil {
		return jsonError("manifest", err)
	}
	if c.parsed, err = parseConfig(config, len(c.rec.Layers)); err != nil {
		return err
	}
	if len(c.rec.Layers) >= maxLayers {
		return fmt.Errorf("%d layers, and overlayfs stacks at most %d: nothing more goes on top", len(c.rec.Layers), maxLayers)
	}
	return json.Unmarshal(config, &c.config)
}

func (c *committer) run(ctx context.Context) (_ *Committed, err error) {
	_ = c.Store.Sweep(ctx)
	add, err := c.Store.Begin(ctx, c.IDMap)
	if err != nil {
		return nil, err
	}
	b := &build{puller: &puller{o: Options{Store: c.Store, IDMap: c.IDMap}}, add: add, key: c.IDMap.Key()}
	defer func() { err = errors.Join(err, b.end()) }()
	if b.stage, err = layer.Start(ctx, c.IDMap, add.LayersDir(), filepath.Dir(c.Dir)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, b.stage.Interrupt)
	defer stop()
	// Whoever signed the image that it is made of has not signed this one, whatever it is called.
	rec := store.Record{Platform: c.rec.Platform, IDMap: c.rec.IDMap, Layers: slices.Clone(c.rec.Layers)}
	out := &Committed{Ref: c.names[0]}
	l, packed, err := c.layer(ctx, b)
	if err != nil {
		return nil, err
	}
	out.Packed = packed
	if l != nil {
		out.Layer, out.Bytes = l.DiffID, l.Bytes
		rec.Layers = append(rec.Layers, *l)
	}
	if err := c.publish(add, &rec, l); err != nil {
		return nil, err
	}
	out.Digest, out.ID = rec.Manifest, rec.ConfigID
	return out, nil
}

// layer packs what was done and unpacks it into a layer of the store in one pass. nil: nothing was.
func (c *committer) layer(ctx context.Context, b *build) (*store.LayerRecord, layer.Packed, error) {
	var below []layer.Place
	for _, l := range c.rec.Layers {
		below = append(below, layer.Place{Name: l.Dir})
	}
	tmp, err := b.add.TempLayer()
	if err != nil {
		return nil, layer.Packed{}, err
	}
	pr, pw := io.Pipe()
	type result struct {
		layer.Packed
		err error
	}
	done := make(chan result, 1)
	go func() {
		packed, err := b.stage.Pack(layer.PackRequest{At: layer.Place{Dir: 1, Name: filepath.Base(c.Dir)}, Tree: c.Tree, Below: below, Placed: c.Placed}, pw)
		pw.CloseWithError(err)
		done <- result{packed, err}
	}()
	size := &countingReader{r: pr}
	req := layer.UnpackRequest{At: layer.Place{Name: tmp}}
	if len(below) > 0 {
		req.Below = func() ([]layer.Place, error) { return below, nil }
	}
	res, err := b.stage.Unpack(req, size)
	pr.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	packed := <-done
	if err := errors.Join(err, packed.err); err != nil && ctx.Err() == nil {
		if packed.err != nil {
			err = packed.err
		}
		return nil, packed.Packed, fmt.Errorf("read what was changed: %w", err)
	}
	if ctx.Err() != nil {
		return nil, packed.Packed, context.Cause(ctx)
	}
	if packed.Entries == 0 {
		return nil, packed.Packed, nil
	}
	l, err := c.adopt(ctx, b, tmp, res)
	if err != nil {
		return nil, packed.Packed, err
	}
	l.Size = size.n.Load()
	return l, packed.Packed, nil
}

// adopt gives a layer its name in the store, unless it is there already, and no check has found that one damaged.
func (c *committer) adopt(ctx context.Context, b *build, tmp string, res layer.Result) (*store.LayerRecord, error) {
	diffID := oci.Digest(res.DiffID)
	if err := diffID.Check(); err != nil {
		return nil, err
	}
	dir := diffID.Encoded()
	if res.Dependent {
		chain := chainNames(append(slices.Clone(c.parsed.RootFS.DiffIDs), diffID))
		dir = chain[len(chain)-1].Encoded()
	}
	if err := b.add.LockLayers(ctx, []oci.Digest{diffID}); err != nil {
		return nil, err
	}
	// A listing begins with the diffID, which is known only now.
	list, err := b.add.TempList(tmp)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	listed, err := b.stage.List(layer.Place{Name: tmp}, list, string(diffID))
	if err != nil {
		return nil, err
	}
	if !c.Store.Whole(b.key, dir) {
		if err := b.add.PublishLayers(map[string]string{tmp: dir}); err != nil {
			return nil, err
		}
	}
	return &store.LayerRecord{Digest: diffID, DiffID: diffID, Dir: dir, Bytes: res.Bytes, Entries: res.Entries, Disk: listed.Disk}, nil
}

// publish writes the documents, and makes the image known under its names.
func (c *committer) publish(add *store.Adding, rec *store.Record, l *store.LayerRecord) error {
	config, err := c.newConfig(rec, l)
	if err != nil {
		return err
	}
	m := oci.Manifest{Versioned: oci.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeManifest,
		Config: oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: oci.FromBytes(config), Size: int64(len(config))}, Layers: []oci.Descriptor{}}
	for _, d := range c.manifest.Layers {
		m.Layers = append(m.Layers, oci.Descriptor{MediaType: ociLayerType(d.MediaType), Digest: d.Digest, Size: d.Size, Annotations: d.Annotations})
	}
	if l != nil {
		m.Layers = append(m.Layers, oci.Descriptor{MediaType: Uncompressed.mediaType(), Digest: l.DiffID, Size: l.Size})
	}
	manifest, err := json.Marshal(&m)
	if err != nil {
		return err
	}
	rec.Manifest, rec.MediaType, rec.ConfigID = oci.FromBytes(manifest), oci.MediaTypeManifest, m.Config.Digest
	rec.Created, rec.Pulled = &c.Created, time.Now().UTC()
	for d, data := range map[oci.Digest][]byte{rec.Manifest: manifest, rec.ConfigID: config} {
		if err := add.PutBlob(d, data); err != nil {
			return err
		}
	}
	name := store.Name{Ref: c.names[0], Platform: c.platform(), Manifest: rec.Manifest}
	if c.Setup != nil {
		rec.Setup, name.Platform, name.Base = c.Setup, c.rec.Platform, c.rec.Manifest
	}
	for _, typed := range c.names {
		if err := add.PutRecord(rec, name, typed); err != nil {
			return err
		}
	}
	return nil
}

// platform is the one that the image is asked for as: this machine's, where it serves that.
func (c *committer) platform() string {
	mine, err := oci.ParsePlatform("")
	have, err2 := oci.ParsePlatform(c.rec.Platform)
	if err == nil && err2 == nil && have.Serves(mine) > 0 {
		return mine.String()
	}
	return c.rec.Platform
}

// newConfig is the base's config with what has changed.
func (c *committer) newConfig(rec *store.Record, l *store.LayerRecord) ([]byte, error) {
	run := c.parsed.Config
	for _, ch := range c.changes {
		ch.apply(&run)
	}
	rec.Config = run
	history := append(slices.Clone(c.parsed.History), oci.History{Created: &c.Created, CreatedBy: c.Command, Author: c.Author, Comment: c.Message, EmptyLayer: l == nil})
	diffIDs := slices.Clone(c.parsed.RootFS.DiffIDs)
	if l != nil {
		diffIDs = append(diffIDs, l.DiffID)
	}
	set := map[string]any{"created": c.Created, "history": history, "rootfs": oci.RootFS{Type: "layers", DiffIDs: diffIDs}}
	if c.Author != "" {
		set["author"] = c.Author
	}
	if len(c.changes) > 0 {
		merged, err := mergeConfig(c.config["config"], &run)
		if err != nil {
			return nil, err
		}
		set["config"] = merged
	}
	for key, value := range set {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		c.config[key] = data
	}
	return json.Marshal(c.config)
}

// mergeConfig lays the fields that are known here over those that are there.
func mergeConfig(old json.RawMessage, run *oci.ImageConfig) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	if len(old) > 0 {
		if err := json.Unmarshal(old, &out); err != nil {
			return nil, jsonError("config", err)
		}
	}
	data, err := json.Marshal(run)
	if err != nil {
		return nil, err
	}
	known := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, err
	}
	for _, key := range []string{"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"} {
		delete(out, key)
		if v, ok := known[key]; ok {
			out[key] = v
		}
	}
	return out, nil
}

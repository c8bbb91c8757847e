package fetch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/fetch/wire"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a layer is sent.
type Compression string

// What layers are compressed with.
const (
	Gzip         Compression = "gzip"
	Zstd         Compression = "zstd"
	Uncompressed Compression = ""
)

// ShareOptions say how an image leaves the store.
type ShareOptions struct {
	Store       *store.Store
	Platform    string // "os/arch[/variant]"; "" is this machine's, or the only one there
	Compression Compression
	Progress    func(Event) // may be nil; called from several goroutines, one at a time
	AuthFile    string      // else REGISTRY_AUTH_FILE and the usual files
	Wire        wire.Settings
}

// Shared says what an image is where it went.
type Shared struct {
	Ref      string     `json:"ref"`      // where it went
	Digest   oci.Digest `json:"digest"`   // of the manifest there; "" in a docker archive, which has none
	ID       oci.Digest `json:"id"`       // of the config there
	Platform string     `json:"platform"` //
	Packed   int        `json:"packed"`   // layers that were packed again, and so have other digests than they came with
	Kept     int        `json:"kept"`     // layers that are there as they came
}

// A sharer takes one image out of the store. Of a layer the store has the files, and not the blob that they came in.
// Where the target has that blob it is named; otherwise the layer is packed again, which gives another diffID, and the
// config has to name that.
type sharer struct {
	o       ShareOptions
	img     *store.Picked
	doc     *oci.Manifest
	config  *oci.Image
	release func()

	start sync.Once
	stage *layer.Session
	serr  error
	mu    sync.Mutex // of Progress
}

// A parcel is one layer, ready to go.
type parcel struct {
	desc   oci.Descriptor
	diffID oci.Digest
	file   *os.File // with the blob; nil where it is there already
}

func (p *parcel) close() {
	if p != nil && p.file != nil {
		p.file.Close()
	}
}

// newSharer finds the image and keeps it from being collected until close.
func newSharer(ref string, o ShareOptions) (*sharer, error) {
	img, err := o.Store.Pick(ref, o.Platform)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(img.Manifest, "")
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	s := &sharer{o: o, img: img, doc: &oci.Manifest{}}
	if s.config, err = parseConfig(img.Config, len(doc.Layers)); err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	if err := json.Unmarshal(img.Manifest, s.doc); err != nil {
		return nil, jsonError("manifest", err)
	}
	if len(img.Record.Layers) != len(doc.Layers) {
		return nil, fmt.Errorf("image %q: %d layers are recorded, its manifest names %d", ref, len(img.Record.Layers), len(doc.Layers))
	}
	if s.release, err = o.Store.Use(img.Handle); err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	return s, nil
}

func (s *sharer) close() error {
	defer s.release()
	if s.stage != nil {
		return s.stage.Close()
	}
	return nil
}

func (s *sharer) event(e Event) {
	if s.o.Progress != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.o.Progress(e)
	}
}

// session starts the stage when the first layer is to be packed, with the ids that the layers were made with.
func (s *sharer) session(ctx context.Context) (*layer.Session, error) {
	s.start.Do(func() {
		s.stage, s.serr = layer.Start(ctx, s.img.Record.IDMap, s.o.Store.LayersDir(s.img.Handle.Key))
		if s.serr == nil {
			context.AfterFunc(ctx, s.stage.Interrupt)
		}
	})
	return s.stage, s.serr
}

// pack packs layer n into a file without a name.
func (s *sharer) pack(ctx context.Context, n int, c Compression) (_ *parcel, err error) {
	stage, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	file, err := nameless(filepath.Join(s.o.Store.Dir(), "tmp"))
	if err != nil {
		return nil, fmt.Errorf("make a temporary file in the store: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	rec := s.img.Record.Layers[n]
	if err := s.check(stage, &rec); err != nil {
		return nil, err
	}
	buffered := bufio.NewWriterSize(file, 1<<20)
	sum, size := oci.NewHash("sha256"), &counter{}
	z, err := c.writer(io.MultiWriter(buffered, sum, size))
	if err != nil {
		return nil, err
	}
	diff := rec.DiffID.Hash()
	res, err := stage.Pack(layer.PackRequest{At: layer.Place{Name: rec.Dir}, Tree: layer.TreeLayer}, io.MultiWriter(diff, z))
	if err == nil {
		err = errors.Join(z.Close(), buffered.Flush())
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("pack layer %d in %s: %w", n+1, s.o.Store.Dir(), err)
	}
	if left := res.Changing + res.Devices + res.Names + res.Sockets; left > 0 {
		return nil, fmt.Errorf("pack layer %d: %d files there are none that cove has unpacked: the store is damaged", n+1, left)
	}
	d := oci.Descriptor{MediaType: c.mediaType(), Digest: oci.FromHash(sum), Size: size.n}
	return &parcel{desc: d, diffID: oci.FromHash(diff), file: file}, nil
}

// check compares a layer with the listing that was written when it came: what the disk has lost since would go out under a
// digest that is right. Of one that an older cove unpacked nothing is known.
func (s *sharer) check(stage *layer.Session, l *store.LayerRecord) error {
	list, err := s.o.Store.OpenList(s.img.Handle.Key, l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer list.Close()
	res, err := stage.Check(layer.Place{Name: l.Dir}, list, string(l.DiffID))
	if err != nil {
		return fmt.Errorf("check it before it is packed: %w", err)
	}
	if res.Found == 0 {
		return nil
	}
	f := res.Findings[0]
	return fmt.Errorf("%w: %s (%s), and %d more; `cove image verify` names all, and what mends it",
		ErrDamaged, oci.Short(string(f.Path)), f.Kind, res.Found-1)
}

// ErrDamaged says that a layer in the store is not what it was when it came.
var ErrDamaged = errors.New("it is damaged in the store")

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func (c Compression) mediaType() string {
	const plain = "application/vnd.oci.image.layer.v1.tar"
	if c == Uncompressed {
		return plain
	}
	return plain + "+" + string(c)
}

// writer compresses so that the same bytes become the same bytes.
func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewWriter(w), nil
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	case Uncompressed:
		return nopCloser{w}, nil
	}
	return nil, fmt.Errorf("compression %q is none (gzip, zstd)", string(c))
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// packers is how many layers are packed, or sent, at once. Compression takes a processor each.
const packers = 3

// all makes a parcel of every layer, some side by side. One that occurs twice is made once.
func (s *sharer) all(ctx context.Context, do func(ctx context.Context, n int) (*parcel, error)) ([]*parcel, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	layers := s.img.Record.Layers
	parcels := make([]*parcel, len(layers))
	firsts := map[string]int{}
	slots := make(chan struct{}, packers)
	var wg sync.WaitGroup
	for n, l := range layers {
		if _, again := firsts[l.Dir]; again {
			continue
		}
		firsts[l.Dir] = n
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			var err error
			if parcels[n], err = do(ctx, n); err != nil {
				cancel(fmt.Errorf("layer %d (%s): %w", n+1, l.Digest, err))
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		closeAll(parcels)
		return nil, err
	}
	for n, l := range layers {
		parcels[n] = parcels[firsts[l.Dir]]
	}
	return parcels, nil
}

func closeAll(parcels []*parcel) {
	for _, p := range parcels {
		p.close()
	}
}

// manifest is the image's, of layers as they are there now; changed tells whether it is another than the one here.
func (s *sharer) manifest(parcels []*parcel) (manifest, config []byte, changed bool, err error) {
	descs := make([]oci.Descriptor, len(parcels))
	diffIDs := make([]oci.Digest, len(parcels))
	sameIDs := true
	for n, p := range parcels {
		descs[n], diffIDs[n] = p.desc, p.diffID
		changed = changed || p.desc.Digest != s.doc.Layers[n].Digest
		sameIDs = sameIDs && p.diffID == s.config.RootFS.DiffIDs[n]
	}
	if !changed {
		return s.img.Manifest, s.img.Config, false, nil
	}
	config = s.img.Config
	if !sameIDs {
		if config, err = withDiffIDs(config, diffIDs); err != nil {
			return nil, nil, true, err
		}
	}
	for n := range descs {
		descs[n].MediaType = ociLayerType(descs[n].MediaType)
		descs[n].URLs, descs[n].Data = nil, nil
	}
	m := oci.Manifest{Versioned: oci.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeManifest,
		Config: oci.Descriptor{MediaType: oci.MediaTypeConfig, Digest: oci.FromBytes(config), Size: int64(len(config))},
		Layers: descs, Annotations: s.doc.Annotations}
	manifest, err = json.Marshal(&m)
	return manifest, config, true, err
}

// withDiffIDs is the config with other diffIDs, and all else as it is, whatever it may hold.
func withDiffIDs(config []byte, diffIDs []oci.Digest) ([]byte, error) {
	var c map[string]json.RawMessage
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, jsonError("config", err)
	}
	rootfs, err := json.Marshal(oci.RootFS{Type: "layers", DiffIDs: diffIDs})
	if err != nil {
		return nil, err
	}
	c["rootfs"] = rootfs
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(c); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// ociLayerType is the type that OCI manifests have for what docker calls otherwise.
func ociLayerType(t string) string {
	switch t {
	case "application/vnd.docker.image.rootfs.diff.tar":
		return Uncompressed.mediaType()
	case "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.container.image.rootfs.diff+x-gtar":
		return Gzip.mediaType()
	case "application/vnd.docker.image.rootfs.diff.tar.zstd":
		return Zstd.mediaType()
	}
	return t
}

package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/fetch/wire"
)

// parallel is how many layers are on the wire at once.
const parallel = 6

// A job is one layer of the image being pulled.
type job struct {
	n      int
	blob   oci.Descriptor
	diffID oci.Digest
	chain  oci.Digest // what it is called in the store when own
	first  *job       // the lowest layer with the same diffID, when that is another

	done chan struct{} // closed when the rest is set
	err  error
	tmp  string // where it was unpacked; "" when the store had it
	dir  string // what it is called in the end
	res  layer.Result
	own  bool // the result is right on these lower layers only
}

// build is the making of one image's layers.
type build struct {
	*puller
	add  *store.Adding
	key  string
	jobs []*job

	bytes atomic.Int64 // unpacked so far, of all layers
	start sync.Once
	stage *layer.Session
	serr  error
	tempM sync.Mutex

	damaged int // the lowest layer that a check has found damaged; as many as there are when none is
}

// layers brings the image's layers into the store and makes it known.
func (p *puller) layers(ctx context.Context, name store.Name) (_ *Image, err error) {
	add, err := p.o.Store.Begin(ctx, p.o.IDMap)
	if err != nil {
		return nil, err
	}
	b := &build{puller: p, add: add, key: p.o.IDMap.Key(), jobs: p.newJobs()}
	b.damaged = len(b.jobs)
	defer func() { err = errors.Join(err, b.end()) }()
	if err := add.LockLayers(ctx, p.config.RootFS.DiffIDs); err != nil {
		return nil, err
	}
	// With the locks in hand: another process may have just done it all.
	h := store.Handle{Manifest: p.man.Digest, Key: b.key}
	rec, err := p.o.Store.Record(h)
	if errors.Is(err, store.ErrNotFound) || err == nil && !b.sound(rec) {
		rec, err = b.makeAll(ctx)
	} else if err == nil {
		for n, l := range p.doc.Layers {
			p.event(Event{Kind: LayerDone, Layer: n, Digest: l.Digest, Total: l.Size, Present: true})
		}
	}
	if err != nil {
		return nil, err
	}
	return b.publish(rec, h, name)
}

// sound tells whether a record says what the documents say, which have just been read, and no layer of it has
// been found damaged.
func (b *build) sound(rec *store.Record) bool {
	for n, l := range rec.Layers {
		if !b.o.Store.Whole(b.key, l.Dir) {
			b.damaged = min(b.damaged, n)
		}
	}
	return b.damaged == len(b.jobs) && rec.Agrees(b.record(b.records(rec)))
}

// records are the layers as a new record would have them, with what rec knows of where they are.
func (b *build) records(rec *store.Record) []store.LayerRecord {
	out := make([]store.LayerRecord, len(b.jobs))
	for n, j := range b.jobs {
		out[n] = store.LayerRecord{Digest: j.blob.Digest, Size: j.blob.Size, DiffID: j.diffID}
		if n < len(rec.Layers) && (rec.Layers[n].Dir == j.diffID.Encoded() || rec.Layers[n].Dir == j.chain.Encoded()) {
			out[n].Dir, out[n].Bytes, out[n].Entries, out[n].Disk = rec.Layers[n].Dir, rec.Layers[n].Bytes, rec.Layers[n].Entries, rec.Layers[n].Disk
		}
	}
	return out
}

// chainNames are what layers are called that are right on those below them only.
func chainNames(diffIDs []oci.Digest) []oci.Digest {
	chains := chainIDs(diffIDs)
	if len(chains) > 0 {
		// By itself, the lowest layer's chainID is its diffID; here a name that says "on nothing" is needed.
		chains[0] = oci.FromString(" " + string(diffIDs[0]))
	}
	return chains
}

func (p *puller) newJobs() []*job {
	diffIDs := p.config.RootFS.DiffIDs
	chains := chainNames(diffIDs)
	jobs := make([]*job, len(diffIDs))
	firsts := map[oci.Digest]*job{}
	for n, d := range diffIDs {
		jobs[n] = &job{n: n, blob: p.doc.Layers[n], diffID: d, chain: chains[n], first: firsts[d], done: make(chan struct{})}
		if firsts[d] == nil {
			firsts[d] = jobs[n]
		}
	}
	return jobs
}

// makeAll makes the layers that are not there, side by side, and publishes them all at once.
func (b *build) makeAll(ctx context.Context) (*store.Record, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	// Workers take jobs from the lowest up, and a job waits only for lower ones: some worker
	// always has one that waits for none.
	for range min(parallel, len(b.jobs)) {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(b.jobs) {
					return
				}
				j := b.jobs[n]
				if j.err = b.make(ctx, j); j.err != nil {
					cancel(fmt.Errorf("layer %d (%s): %w", n+1, j.blob.Digest, j.err))
				}
				close(j.done)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	final := map[string]string{}
	records := make([]store.LayerRecord, len(b.jobs))
	for n, j := range b.jobs {
		if j.tmp != "" {
			final[j.tmp] = j.dir
		}
		records[n] = store.LayerRecord{Digest: j.blob.Digest, Size: j.blob.Size, DiffID: j.diffID, Dir: j.dir,
			Bytes: j.res.Bytes, Entries: j.res.Entries, Disk: j.res.Disk}
	}
	return b.record(records), b.add.PublishLayers(final)
}

// make makes one layer: it is in the store already, or the same as a lower one, or can be copied
// from another mapping's, or is fetched.
func (b *build) make(ctx context.Context, j *job) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, d := range []oci.Digest{j.diffID, j.chain} {
		// What took something from a damaged layer below may have taken the damage.
		if d != j.diffID && j.n > b.damaged {
			continue
		}
		if b.o.Store.Whole(b.key, d.Encoded()) {
			j.dir, j.own = d.Encoded(), d != j.diffID
			j.res = b.known(j)
			b.event(Event{Kind: LayerDone, Layer: j.n, Digest: j.blob.Digest, Total: j.blob.Size, Present: true})
			return nil
		}
	}
	if j.first != nil {
		select {
		case <-j.first.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if j.first.err == nil && !j.first.own {
			j.dir, j.res = j.first.dir, j.first.res
			b.event(Event{Kind: LayerDone, Layer: j.n, Digest: j.blob.Digest, Total: j.blob.Size, Present: true})
			return nil
		}
	}
	return b.fetch(ctx, j)
}

// known returns what the store knows of a layer that it has.
func (b *build) known(j *job) layer.Result {
	i := b.o.Store.LayerInfo(b.key, j.dir, j.diffID)
	return layer.Result{Bytes: i.Bytes, Entries: i.Entries, Disk: i.Disk}
}

// fetch gets one layer, from wherever it comes as it should.
func (b *build) fetch(ctx context.Context, j *job) error {
	stage, err := b.session(ctx)
	if err != nil {
		return err
	}
	for {
		err := b.unpack(ctx, stage, j)
		if err == nil || ctx.Err() != nil || j.tmp == "" || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
			!b.src.other(j.blob.Digest) {
			return err
		}
		if err := stage.Remove(layer.Place{Name: j.tmp}); err != nil {
			return err
		}
	}
}

// unpack unpacks one layer as it comes off the wire.
func (b *build) unpack(ctx context.Context, stage *layer.Session, j *job) (err error) {
	b.tempM.Lock()
	j.tmp, err = b.add.TempLayer()
	b.tempM.Unlock()
	if err != nil {
		return err
	}
	list, err := b.add.TempList(j.tmp)
	if err != nil {
		return err
	}
	defer list.Close()
	b.event(Event{Kind: LayerStart, Layer: j.n, Digest: j.blob.Digest, Total: j.blob.Size})
	var got int64
	body := newBlobReader(ctx, b.src, j.blob, "layer", wire.NewRetry(b.o.Wire), func(n int64) {
		got += n
		b.event(Event{Kind: LayerBytes, Layer: j.n, Digest: j.blob.Digest, Bytes: got, Total: j.blob.Size})
	})
	defer body.Close()
	// A read that waits for a server that says nothing ends with the pull.
	stop := context.AfterFunc(ctx, func() { _ = body.Close() })
	defer stop()
	req := layer.UnpackRequest{At: layer.Place{Name: j.tmp}, Limits: b.o.Limits, Digest: j.diffID.Algorithm(), List: list, Label: string(j.diffID)}
	if j.n > 0 {
		req.Below = func() ([]layer.Place, error) { return b.below(ctx, j) }
	}
	if j.res, err = stage.Unpack(req, body); err != nil {
		return err
	}
	if got := oci.Digest(j.res.DiffID); got != j.diffID {
		return &DigestError{"layer, unpacked,", j.diffID, got}
	}
	// The limit is the image's: 500 layers, each just below it, are a way around.
	if most := b.o.Limits.MaxBytes(); b.bytes.Add(j.res.Bytes) > most {
		return &layer.LimitError{What: "bytes", Max: most}
	}
	j.dir, j.own = j.diffID.Encoded(), j.res.Dependent
	if j.own {
		j.dir = j.chain.Encoded()
	}
	b.event(Event{Kind: LayerDone, Layer: j.n, Digest: j.blob.Digest, Bytes: j.blob.Size, Total: j.blob.Size})
	return nil
}

// below waits for the layers below j and says where they are.
func (b *build) below(ctx context.Context, j *job) ([]layer.Place, error) {
	var out []layer.Place
	for _, l := range b.jobs[:j.n] {
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if l.err != nil {
			return nil, l.err
		}
		at := l.tmp
		if at == "" && l.first != nil && l.first.dir == l.dir {
			at = l.first.tmp
		}
		if at == "" {
			at = l.dir
		}
		out = append(out, layer.Place{Name: at})
	}
	return out, nil
}

// session starts the stage when the first layer needs it.
func (b *build) session(ctx context.Context) (*layer.Session, error) {
	b.start.Do(func() { b.stage, b.serr = layer.Start(ctx, b.o.IDMap, b.add.LayersDir()) })
	return b.stage, b.serr
}

// publish makes the image known: documents, then the record, then its names.
func (b *build) publish(rec *store.Record, h store.Handle, name store.Name) (*Image, error) {
	for d, data := range b.docs {
		if err := b.add.PutBlob(d, data); err != nil {
			return nil, err
		}
	}
	rec.Sign(b.signed...)
	if err := b.add.PutRecord(rec, name, b.t.Text); err != nil {
		return nil, err
	}
	return image.Of(b.o.Store, name.Ref, h, rec), nil
}

// end removes what was not published, by way of the stage that made it, or a new one where that
// has ended.
func (b *build) end() error {
	var errs []error
	if left := b.add.Leftovers(); len(left) > 0 && b.stage != nil {
		if b.removeAll(left) != nil {
			b.stage.Close()
			if b.stage, b.serr = layer.Start(context.Background(), b.o.IDMap, b.add.LayersDir()); b.serr == nil {
				b.serr = b.removeAll(left)
			}
			errs = append(errs, b.serr)
		}
	}
	if b.stage != nil {
		errs = append(errs, b.stage.Close())
	}
	b.add.End()
	return errors.Join(errs...)
}

func (b *build) removeAll(names []string) error {
	var errs []error
	for _, tmp := range names {
		errs = append(errs, b.stage.Remove(layer.Place{Name: tmp}))
	}
	return errors.Join(errs...)
}

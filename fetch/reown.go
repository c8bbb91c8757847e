package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/userns"
)

// reownKnown makes the image for this id mapping out of the same one for another mapping of the
// same user, without asking anybody: who runs an image as its own USER learns the id mapping
// only after a first pull.
func (p *puller) reownKnown(ctx context.Context) (*Image, error) {
	name, err := p.knownName()
	if err != nil {
		return nil, err
	}
	h := store.Handle{Manifest: name.Manifest, Key: p.o.IDMap.Key()}
	others, err := p.o.Store.Others(h)
	if err != nil {
		return nil, err
	}
	for _, rec := range others {
		if !covers(p.o.IDMap, rec.IDMap) || !p.whole(rec) || p.known(rec) != nil {
			continue
		}
		img, err := p.reown(ctx, rec, h, name)
		if err == nil || ctx.Err() != nil {
			return img, err
		}
	}
	return nil, store.ErrNotFound
}

// known tells whether the store knows that the image is signed as is demanded.
func (p *puller) known(rec *store.Record) error {
	if len(p.o.Demands) == 0 {
		return nil
	}
	ref, err := p.t.CalledAs(p.o.Store, p.want)
	if err != nil {
		return err
	}
	return image.CheckSigned(rec, ref, p.o.Demands)
}

// knownName is what the reference named when it was last pulled.
func (p *puller) knownName() (store.Name, error) {
	if p.o.Locked != nil && (p.t.Asked != "" || p.t.Pinned == "") {
		return p.t.LockedName(p.o.local(), p.want)
	}
	platform := p.want.String()
	if d := p.t.Pinned; d != "" {
		name := store.Name{Ref: p.t.Text, Platform: platform, Manifest: d}
		if data, err := p.o.Store.Blob(d); err == nil {
			if doc, err := parseDocument(data, ""); err == nil && doc.IsIndex() {
				m, err := oci.Choose(doc.Manifests, p.want)
				if err != nil {
					return name, err
				}
				name.Manifest, name.Index = m.Digest, d
			}
		}
		return name, name.Manifest.Check()
	}
	name, err := p.o.Store.Resolve(p.t.Text, platform)
	if err == nil && name.Stamp != p.t.Stamp() {
		err = store.ErrNotFound
	}
	return name, err
}

// covers tells whether every host id of was is mapped in m too, so that a stage with m may read
// files made under was.
func covers(m, was userns.IDMap) bool {
	return within(m.UIDs, was.UIDs) && within(m.GIDs, was.GIDs)
}

func within(have, want []userns.Range) bool {
	for _, w := range want {
		// Step from range to range of have: what one holds of w is done, the rest is next.
		at, end := uint64(w.HostID), uint64(w.HostID)+uint64(w.Size)
		for at < end {
			next := at
			for _, h := range have {
				if lo, hi := uint64(h.HostID), uint64(h.HostID)+uint64(h.Size); lo <= at && at < hi {
					next = min(hi, end)
				}
			}
			if next == at {
				return false
			}
			at = next
		}
	}
	return true
}

// reown copies the layers of rec for this mapping.
func (p *puller) reown(ctx context.Context, rec *store.Record, h store.Handle, name store.Name) (_ *Image, err error) {
	was := store.Handle{Manifest: h.Manifest, Key: rec.IDMap.Key()}
	release, err := p.o.Store.Use(was)
	if err != nil {
		return nil, err
	}
	defer release()
	add, err := p.o.Store.Begin(ctx, p.o.IDMap)
	if err != nil {
		return nil, err
	}
	b := &build{puller: p, add: add, key: h.Key}
	defer func() { err = errors.Join(err, b.end()) }()
	var diffIDs []oci.Digest
	for _, l := range rec.Layers {
		diffIDs = append(diffIDs, l.DiffID)
	}
	if err := p.o.Locked.Check(h.Manifest, diffIDs); err != nil {
		return nil, err
	}
	if err := add.LockLayers(ctx, diffIDs); err != nil {
		return nil, err
	}
	if b.stage, err = layer.Start(ctx, p.o.IDMap, add.LayersDir(), p.o.Store.LayersDir(was.Key)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, b.stage.Interrupt)
	defer stop()
	if err := b.copyAll(rec); err != nil {
		return nil, err
	}
	own := *rec
	own.IDMap, own.Pulled = p.o.IDMap, time.Now().UTC()
	return b.publish(&own, h, name)
}

// copyAll copies the layers of rec that this mapping lacks.
func (b *build) copyAll(rec *store.Record) error {
	final := map[string]string{}
	copied := map[string]bool{}
	for n, l := range rec.Layers {
		if copied[l.Dir] || b.o.Store.Whole(b.key, l.Dir) {
			continue
		}
		copied[l.Dir] = true
		tmp, err := b.add.TempLayer()
		if err != nil {
			return err
		}
		if _, err := b.stage.Copy(layer.Place{Dir: 1, Name: l.Dir}, layer.Place{Name: tmp}, rec.IDMap); err != nil {
			return fmt.Errorf("copy layer %d (%s) for other ids: %w", n+1, l.DiffID, err)
		}
		if err := b.copyList(rec.IDMap.Key(), l, tmp); err != nil {
			return fmt.Errorf("copy layer %d (%s) for other ids: %w", n+1, l.DiffID, err)
		}
		final[tmp] = l.Dir
	}
	return b.add.PublishLayers(final)
}

// copyList copies a layer's listing, which speaks of the ids inside: it is as true of the copy, and finds what the copying
// may have done to it. A layer without one, from an older cove, stays without.
func (b *build) copyList(key string, l store.LayerRecord, tmp string) error {
	from, err := b.o.Store.OpenList(key, l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := b.add.TempList(tmp)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// whole tells whether no layer of another mapping's image has been found damaged.
func (p *puller) whole(rec *store.Record) bool {
	for _, l := range rec.Layers {
		if !p.o.Store.Whole(rec.IDMap.Key(), l.Dir) {
			return false
		}
	}
	return true
}

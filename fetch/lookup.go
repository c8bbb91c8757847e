package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cove/fetch/store"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Lookup finds an image without a network and without reading its layers. The error is
// store.ErrNotFound when it has to be pulled: because it is not there, not for this id mapping,
// or, for an archive or a layout on this machine, because that has changed since.
func Lookup(ref string, o Options) (*Image, error) {
	t, err := parse(ref)
	if err != nil {
		return nil, err
	}
	want, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	img, err := t.lookup(o, want)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	return img, nil
}

// Use keeps the image in the store until release, or until this process ends, whatever is
// collected. store.ErrNotFound: it is gone already.
func (i *Image) Use(s *store.Store) (release func(), err error) {
	if i.Kind != Stored {
		return func() {}, nil
	}
	return s.Use(i.handle)
}

func (t *target) lookup(o Options, want v1.Platform) (*Image, error) {
	switch t.via {
	case viaHost:
		return &Image{Ref: t.text, Kind: Host, Platform: platformString(want)}, nil
	case viaDir:
		return t.plainDir(want)
	}
	if d, ok := t.wantDigest(); ok {
		return t.byDigest(o, want, d)
	}
	name, err := o.Store.Resolve(t.text, platformString(want))
	if err != nil {
		return nil, err
	}
	if o.Policy != Never && t.stamp() != name.Stamp {
		return nil, store.ErrNotFound
	}
	return fromStore(o, name.Ref, name.Manifest)
}

// byDigest finds what a pinned reference names, under whatever name it came.
func (t *target) byDigest(o Options, want v1.Platform, d digest.Digest) (*Image, error) {
	for range maxIndexDepth {
		img, err := fromStore(o, t.text, d)
		if err == nil {
			if have, perr := parsePlatform(img.Platform); perr == nil && serves(have, want) == 0 {
				return nil, &PlatformError{Want: platformString(want), Have: []string{img.Platform}}
			}
			return img, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		data, err := o.Store.Blob(d)
		if err != nil {
			return nil, store.ErrNotFound
		}
		var doc document
		if json.Unmarshal(data, &doc) != nil || !doc.isIndex() {
			return nil, store.ErrNotFound
		}
		next, err := choose(doc.Manifests, want)
		if err != nil {
			return nil, err
		}
		d = next.Digest
	}
	return nil, store.ErrNotFound
}

// fromStore makes an Image of a record.
func fromStore(o Options, ref string, manifest digest.Digest) (*Image, error) {
	if err := checkDigest(manifest); err != nil {
		return nil, err
	}
	h := store.Handle{Manifest: manifest, Key: o.IDMap.Key()}
	rec, err := o.Store.Record(h)
	if err != nil {
		return nil, err
	}
	return imageOf(o.Store, ref, h, rec), nil
}

func imageOf(s *store.Store, ref string, h store.Handle, rec *store.Record) *Image {
	return &Image{
		Ref: ref, Kind: Stored, Digest: rec.Manifest, ID: rec.ConfigID, Platform: rec.Platform,
		Config: rec.Config, Layers: s.LayerPaths(h, rec), handle: h,
	}
}

func (t *target) plainDir(want v1.Platform) (*Image, error) {
	st, err := os.Stat(t.path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", t.path)
	}
	return &Image{Ref: t.text, Kind: Dir, Platform: platformString(want), Layers: []string{t.path}}, nil
}

// stamp tells whether a layout or an archive is still the one that was read: "" for registries,
// which are asked only when the policy says so.
func (t *target) stamp() string {
	path := t.path
	switch t.via {
	case viaOCI:
		path = filepath.Join(path, "index.json")
	case viaOCIArchive, viaDockerArchive:
	default:
		return ""
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "missing"
	}
	return fmt.Sprintf("%d.%d.%d.%d", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}

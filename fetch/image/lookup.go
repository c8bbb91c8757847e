package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cove/fetch/oci"
	"cove/fetch/store"

	"golang.org/x/sys/unix"
)

// MaxIndexDepth is how many documents may lie between a reference and a manifest.
const MaxIndexDepth = 4

// Find finds the image that fetch.Pull would return for ref without asking anybody. It returns that
// one or an error, and never an older image, or another one of the same name: ErrUnresolved when only
// Pull can tell, store.ErrNotFound when Pull would have to fetch or copy it, and else what Pull would say.
// A reference that is none is ErrUnresolved too: Pull says what is wrong with it.
//
// An image that is here is used whatever policy.json and registries.conf say now: they are about
// what comes in, and for that Pull asks them.
func Find(ref string, o Options) (*Image, error) {
	t, err := Parse(ref, func(name string) (*Target, error) { return o.Locked.Target(name, ParseName) })
	if err != nil {
		return nil, err
	}
	want, err := oci.ParsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	img, err := t.Lookup(o, want)
	if err == nil && !img.Final(o.Policy) {
		err = ErrUnresolved
	}
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	return img, nil
}

// Final tells whether an image that was looked up is the answer under that policy, or whether its
// source is to be asked first.
func (i *Image) Final(p Policy) bool { return i.Kind != Stored || p == Missing || p == Never }

// Lookup finds the image without a network and without reading its layers. The error is
// store.ErrNotFound when it has to be pulled: because it is not there, not for this id mapping,
// or, for an archive or a layout on this machine, because that has changed since. It is an UnsignedError
// when the image is there, and has to be pulled to know whether it is signed as o demands.
func (t *Target) Lookup(o Options, want oci.Platform) (*Image, error) {
	if len(o.Demands) > 0 && t.Via != ViaRegistry {
		return nil, &UnsignableError{t.Text, o.Demands[0].By}
	}
	img, err := t.find(o, want)
	if err == nil && len(o.Demands) > 0 {
		err = t.checkSigned(o, want, img)
	}
	if err != nil {
		return nil, err
	}
	return img, nil
}

func (t *Target) find(o Options, want oci.Platform) (*Image, error) {
	switch t.Via {
	case ViaHost:
		return &Image{Ref: t.Text, Kind: Host, Platform: want.String()}, nil
	case ViaDir:
		return t.plainDir(want)
	}
	if o.Locked != nil {
		return t.locked(o, want)
	}
	if t.Pinned != "" {
		return t.byDigest(o, want, t.Pinned)
	}
	name, err := o.Store.Resolve(t.Text, want.String())
	if err != nil {
		return nil, err
	}
	if o.Policy != Never && t.Stamp() != name.Stamp {
		return nil, store.ErrNotFound
	}
	return fromStore(o, name.Ref, name.Manifest)
}

// byDigest finds what a pinned reference names, under whatever name it came.
func (t *Target) byDigest(o Options, want oci.Platform, d oci.Digest) (*Image, error) {
	const deepest = 64 // whatever bound it was pulled with
	for range deepest + 1 {
		img, err := fromStore(o, t.Text, d)
		if err == nil {
			if have, perr := oci.ParsePlatform(img.Platform); perr == nil && have.Serves(want) == 0 {
				return nil, &oci.PlatformError{Want: want.String(), Have: []string{img.Platform}}
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
		var doc oci.Document
		if json.Unmarshal(data, &doc) != nil || !doc.IsIndex() {
			return nil, store.ErrNotFound
		}
		next, err := oci.Choose(doc.Manifests, want)
		if err != nil {
			return nil, err
		}
		d = next.Digest
	}
	return nil, store.ErrNotFound
}

func fromStore(o Options, ref string, manifest oci.Digest) (*Image, error) {
	if err := manifest.Check(); err != nil {
		return nil, err
	}
	h := store.Handle{Manifest: manifest, Key: o.IDMap.Key()}
	rec, err := o.Store.Record(h)
	if err != nil {
		return nil, err
	}
	return Of(o.Store, ref, h, rec), nil
}

func (t *Target) plainDir(want oci.Platform) (*Image, error) {
	st, err := os.Stat(t.Path)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", t.Path)
	}
	return &Image{Ref: t.Text, Kind: Dir, Platform: want.String(), Layers: []string{t.Path}}, nil
}

// Stamp tells whether a layout or an archive is still the one that was read: "" for registries,
// which are asked only when the policy says so.
func (t *Target) Stamp() string {
	path := t.Path
	switch t.Via {
	case ViaOCI:
		path = filepath.Join(path, "index.json")
	case ViaOCIArchive, ViaDockerArchive:
	default:
		return ""
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "missing"
	}
	return fmt.Sprintf("%d.%d.%d.%d", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}

package image

import (
	"errors"
	"fmt"
	"strings"

	"cove/fetch/oci"
	"cove/fetch/store"
)

// Locked is what an image has to be, whatever its reference names by now.
type Locked struct {
	Manifest oci.Digest
	Layers   []oci.Digest // diffIDs, lowest first
	Index    oci.Digest   // that named the manifest when it was locked, or ""; a signature may be on it
	By       string       // what says so, for messages: "cove.lock"
}

// A LockedError says that an image is another than it is to be.
type LockedError struct {
	By, What  string
	Want, Got string
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("the image is not the one in %s: %s %s is there, and %s is locked", e.By, e.What, e.Got, e.Want)
}

// Target takes a registry's reference apart, with the manifest that is locked in place of its tag. A reference with a
// digest of its own stays what it is, and has to come to what is locked. l may be nil.
func (l *Locked) Target(name string, parse func(name string) (*Target, error)) (*Target, error) {
	asked, err := parse(name)
	if err != nil || l == nil || asked.Pinned != "" {
		return asked, err
	}
	t, err := parse(l.pin(name))
	if err == nil {
		t.Asked, t.Typed = asked.Text, tagOf(name)
	}
	return t, err
}

// pin is a reference with the manifest's digest for its tag.
func (l *Locked) pin(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name + "@" + string(l.Manifest)
}

// tagOf is a reference's ":TAG", which stays part of what a locked image is called.
func tagOf(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[i:]
	}
	return ":latest"
}

// Check compares an image with what it has to be; nil has no wishes.
func (l *Locked) Check(manifest oci.Digest, layers []oci.Digest) error {
	if l == nil {
		return nil
	}
	if manifest != l.Manifest {
		return &LockedError{l.By, "manifest", string(l.Manifest), string(manifest)}
	}
	for i := range min(len(layers), len(l.Layers)) {
		if layers[i] != l.Layers[i] {
			return &LockedError{l.By, fmt.Sprintf("layer %d with diffID", i+1), string(l.Layers[i]), string(layers[i])}
		}
	}
	if len(layers) != len(l.Layers) {
		return &LockedError{l.By, "of manifest " + string(manifest) + " a number of layers of", fmt.Sprint(len(l.Layers)), fmt.Sprint(len(layers))}
	}
	return nil
}

// locked finds the image that is locked, whatever became of its reference since.
func (t *Target) locked(o Options, want oci.Platform) (*Image, error) {
	manifest := o.Locked.Manifest
	if t.Via == ViaRegistry && t.Asked == "" {
		img, err := t.byDigest(o, want, t.Pinned)
		if err != nil {
			return nil, err
		}
		manifest = img.Digest
	} else if _, err := t.LockedName(o, want); err != nil {
		return nil, err
	}
	h := store.Handle{Manifest: manifest, Key: o.IDMap.Key()}
	rec, err := o.Store.Record(h)
	if err != nil {
		return nil, err
	}
	layers := make([]oci.Digest, len(rec.Layers))
	for i, l := range rec.Layers {
		layers[i] = l.DiffID
	}
	if err := o.Locked.Check(rec.Manifest, layers); err != nil {
		return nil, err
	}
	return Of(o.Store, t.Text, h, rec), nil
}

// LockedName is how the store knows the image that is locked, or store.ErrNotFound. It has to have come by the reference
// itself, by the tag or from the same repository by its digest, or from the same file: a lock comes with a project, and is no
// way to an image in the store that the project does not name.
func (t *Target) LockedName(o Options, want oci.Platform) (store.Name, error) {
	for _, text := range []string{t.Text, t.Asked} {
		name, err := o.Store.Resolve(text, want.String())
		if err == nil && name.Manifest == o.Locked.Manifest {
			return name, nil
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return name, err
		}
	}
	return store.Name{}, store.ErrNotFound
}

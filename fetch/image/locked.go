package image

import (
	"fmt"
	"strings"

	"cove/fetch/oci"
	"cove/fetch/store"
)

// Locked is what an image has to be, whatever its reference names by now.
type Locked struct {
	Manifest oci.Digest
	Layers   []oci.Digest // diffIDs, lowest first
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

// Pin makes a registry's reference name the manifest that is locked, and leaves it as it is when none is.
func (l *Locked) Pin(name string) string {
	if l == nil {
		return name
	}
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name + "@" + string(l.Manifest)
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

// locked finds the image that is locked, under whatever name it came and whatever became of that since.
func (t *Target) locked(o Options, want oci.Platform) (*Image, error) {
	h := store.Handle{Manifest: o.Locked.Manifest, Key: o.IDMap.Key()}
	rec, err := o.Store.Record(h)
	if err != nil {
		return nil, err
	}
	if have, perr := oci.ParsePlatform(rec.Platform); perr == nil && have.Serves(want) == 0 {
		return nil, &oci.PlatformError{Want: want.String(), Have: []string{rec.Platform}}
	}
	layers := make([]oci.Digest, len(rec.Layers))
	for i, l := range rec.Layers {
		layers[i] = l.DiffID
	}
	return Of(o.Store, t.Text, h, rec), o.Locked.Check(rec.Manifest, layers)
}

package image

import (
	"errors"

	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/userns"
)

// ErrUnresolved says that a reference is for package fetch to answer: it names an image in a way that
// takes the whole of the reference grammar to read, or the policy asks for more than what is here.
var ErrUnresolved = errors.New("cannot be told without asking further")

// Policy says when the network is asked for an image.
type Policy int

const (
	Missing Policy = iota // when the store lacks it
	Always                // always; layers that are there are not fetched again
	Never                 // never: from the store, or an error
	Newer                 // as Always, but what is in the store serves when the source cannot be reached
)

// Options say which of the images that a reference may stand for is wanted.
type Options struct {
	Store    *store.Store // may be nil for references that nothing is stored of: Host and Dir
	IDMap    userns.IDMap
	Platform string // "os/arch[/variant]"; "" is this machine's
	Policy   Policy
	Locked   *Locked // what it has to be; nil when the reference alone says which one is meant
	Demands  []Demand
}

// Kind is where an image's root file system comes from.
type Kind int

const (
	Stored Kind = iota // layers in the store
	Host               // this machine's own
	Dir                // a plain directory
)

// Image is what one pulled reference stands for.
type Image struct {
	Ref      string
	Kind     Kind
	Digest   oci.Digest // of the manifest
	ID       oci.Digest // of the config
	Platform string
	Config   oci.ImageConfig
	Layers   []string // absolute directories, lowest first

	handle store.Handle
}

// Of makes an Image of a record.
func Of(s *store.Store, ref string, h store.Handle, rec *store.Record) *Image {
	return &Image{
		Ref: ref, Kind: Stored, Digest: rec.Manifest, ID: rec.ConfigID, Platform: rec.Platform,
		Config: rec.Config, Layers: s.LayerPaths(h, rec), handle: h,
	}
}

// Handle names what the store is to keep while the image is in use; false when nothing of the store is.
func (i *Image) Handle() (store.Handle, bool) { return i.handle, i.Kind == Stored }

// Use keeps the image in the store until release, or until this process ends, whatever is
// collected. store.ErrNotFound: it is gone already.
func (i *Image) Use(s *store.Store) (release func(), err error) {
	if i.Kind != Stored {
		return func() {}, nil
	}
	return s.Use(i.handle)
}

package fetch

import (
	"cove/fetch/layer"
	"cove/fetch/store"
	"cove/userns"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullPolicy says when the network is asked for an image.
type PullPolicy int

const (
	Missing PullPolicy = iota // when the store lacks it
	Always                    // always; layers that are there are not fetched again
	Never                     // never: from the store, or an error
	Newer                     // as Always, but what is in the store serves when the source cannot be reached
)

// Options say how to pull.
type Options struct {
	Store    *store.Store
	IDMap    userns.IDMap
	Platform string // "os/arch[/variant]"; "" is this machine's
	Policy   PullPolicy
	Progress func(Event) // may be nil; called from several goroutines, one at a time
	AuthFile string      // else REGISTRY_AUTH_FILE and the usual files
	Limits   layer.Limits
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
	Digest   digest.Digest // of the manifest
	ID       digest.Digest // of the config
	Platform string
	Config   v1.ImageConfig
	Layers   []string // absolute directories, lowest first

	handle store.Handle
}

// EventKind tells what an Event reports.
type EventKind int

const (
	Resolved   EventKind = iota // Ref, Digest, Layers: how many there are
	LayerStart                  // Layer, Digest, Total
	LayerBytes                  // Layer, Bytes so far of Total
	LayerDone                   // Layer; Present when nothing had to be fetched
	Finished                    // Digest
)

// Event is one step of a pull, as data: the caller draws it.
type Event struct {
	Kind    EventKind
	Ref     string
	Digest  digest.Digest
	Layer   int // from 0, the lowest
	Layers  int
	Bytes   int64 // as sent
	Total   int64 // -1 when unknown
	Present bool
}

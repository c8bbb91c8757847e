package fetch

import (
	"time"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/fetch/wire"
	"cove/userns"
)

// What an image is, and when to ask for it, is package image's to say.
type (
	Image         = image.Image
	Kind          = image.Kind
	PullPolicy    = image.Policy
	PlatformError = oci.PlatformError
)

// The kinds and policies under this package's name.
const (
	Stored, Host, Dir             = image.Stored, image.Host, image.Dir
	Missing, Always, Never, Newer = image.Missing, image.Always, image.Never, image.Newer
)

// Options say how to pull.
type Options struct {
	Store    *store.Store
	IDMap    userns.IDMap
	Platform string // "os/arch[/variant]"; "" is this machine's
	Policy   PullPolicy
	Locked   *image.Locked  // what the image has to be; nil when ref alone says which one is meant
	Demands  []image.Demand // which signatures it has to have, all of them
	Offline  bool           // no registry is asked, nor anything else that takes a network
	Progress func(Event)    // may be nil; called from several goroutines, one at a time
	AuthFile string         // else REGISTRY_AUTH_FILE and the usual files
	Limits   layer.Limits

	MaxManifest int64         // bytes of a manifest or an index; 0 is 4 MiB
	MaxDepth    int           // how many indexes may lie above a manifest; 0 is image.MaxIndexDepth
	MaxTime     time.Duration // of all that is fetched; 0 is 12 hours
	Wire        wire.Settings
}

func (o Options) maxManifest() int64 {
	if o.MaxManifest > 0 {
		return o.MaxManifest
	}
	return maxManifest
}

func (o Options) maxDepth() int {
	if o.MaxDepth > 0 {
		return o.MaxDepth
	}
	return image.MaxIndexDepth
}

func (o Options) maxTime() time.Duration {
	if o.MaxTime > 0 {
		return o.MaxTime
	}
	return 12 * time.Hour
}

// local is the part of the options that needs no network.
func (o Options) local() image.Options {
	return image.Options{Demands: o.Demands, Store: o.Store, IDMap: o.IDMap, Platform: o.Platform, Policy: o.Policy, Locked: o.Locked}
}

// EventKind tells what an Event reports.
type EventKind int

const (
	Resolved   EventKind = iota // Ref, Digest, Layers: how many there are
	LayerStart                  // Layer, Digest, Total
	LayerBytes                  // Layer, Bytes so far of Total
	LayerDone                   // Layer; Present when nothing had to be fetched
	Finished                    // Digest
	Waiting                     // Wait, Why: before another attempt
	Kept                        // Ref, Why: the source cannot be reached, and what is in the store serves
)

// Event is one step of a pull, as data: the caller draws it.
type Event struct {
	Kind    EventKind
	Ref     string
	Digest  oci.Digest
	Layer   int // from 0, the lowest
	Layers  int
	Bytes   int64 // as sent
	Total   int64 // -1 when unknown
	Present bool
	Wait    time.Duration
	Why     string // fit to be shown
}

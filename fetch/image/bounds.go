package image

import "time"

// Bounds are what an image may be that comes in. An image is a stranger's: without them it fills the disk, or keeps
// who asked for it waiting for ever. Zero is the default, which hardly any image is above.
type Bounds struct {
	Bytes    int64         // of all that it unpacks to: 64 GiB
	Entries  int64         // of a layer: 4 million
	Ratio    int64         // how many times larger than as sent a layer unpacks, beyond 256 MiB: 200
	Manifest int64         // bytes of a manifest or an index: 4 MiB
	Depth    int           // indexes above a manifest: 4
	Time     time.Duration // of all that is fetched: 12 h
}

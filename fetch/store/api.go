package store

import (
	"time"

	"cove/userns"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Record is one image for one id mapping, as the store keeps it.
type Record struct {
	Manifest  digest.Digest  `json:"manifest"`
	MediaType string         `json:"mediaType"`
	ConfigID  digest.Digest  `json:"config"`
	Platform  string         `json:"platform"`
	Created   *time.Time     `json:"created,omitempty"` // by the image's own word
	Pulled    time.Time      `json:"pulled"`
	IDMap     userns.IDMap   `json:"idmap"`
	Config    v1.ImageConfig `json:"imageConfig"`
	Layers    []LayerRecord  `json:"layers"` // lowest first
}

// LayerRecord is one layer of a Record.
type LayerRecord struct {
	Digest  digest.Digest `json:"digest"` // of the blob
	Size    int64         `json:"size"`   // of the blob
	DiffID  digest.Digest `json:"diffID"`
	Dir     string        `json:"dir"`   // its name under layers/KEY/
	Bytes   int64         `json:"bytes"` // unpacked
	Entries int64         `json:"entries"`
}

// Handle names a Record: what Use takes.
type Handle struct {
	Manifest digest.Digest
	Key      string // of the id mapping
}

// Summary is one line of a list of images.
type Summary struct {
	Names    []string      `json:"names"`
	Digest   digest.Digest `json:"digest"`
	ID       digest.Digest `json:"id"`
	Platform string        `json:"platform"`
	Created  *time.Time    `json:"created,omitempty"`
	Pulled   time.Time     `json:"pulled"`
	Size     int64         `json:"size"` // unpacked bytes, layers shared with other images counted too
	Layers   int           `json:"layers"`
	InUse    bool          `json:"inUse"`
}

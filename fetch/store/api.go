package store

import (
	"time"

	"cove/fetch/oci"
	"cove/userns"
)

// Record is one image for one id mapping, as the store keeps it.
type Record struct {
	Manifest  oci.Digest      `json:"manifest"`
	MediaType string          `json:"mediaType"`
	ConfigID  oci.Digest      `json:"config"`
	Platform  string          `json:"platform"`
	Created   *time.Time      `json:"created,omitempty"` // by the image's own word
	Pulled    time.Time       `json:"pulled"`
	IDMap     userns.IDMap    `json:"idmap"`
	Config    oci.ImageConfig `json:"imageConfig"`
	Layers    []LayerRecord   `json:"layers"` // lowest first
}

// LayerRecord is one layer of a Record.
type LayerRecord struct {
	Digest  oci.Digest `json:"digest"` // of the blob
	Size    int64      `json:"size"`   // of the blob
	DiffID  oci.Digest `json:"diffID"`
	Dir     string     `json:"dir"`   // its name under layers/KEY/
	Bytes   int64      `json:"bytes"` // unpacked
	Entries int64      `json:"entries"`
	Disk    int64      `json:"disk,omitempty"` // blocks in use; not known of what older coves have unpacked
}

// Handle names a Record: what Use takes.
type Handle struct {
	Manifest oci.Digest
	Key      string // of the id mapping
}

// Summary is one line of a list of images.
type Summary struct {
	Names    []string   `json:"names"`
	Digest   oci.Digest `json:"digest"`
	ID       oci.Digest `json:"id"`
	Platform string     `json:"platform"`
	Created  *time.Time `json:"created,omitempty"`
	Pulled   time.Time  `json:"pulled"`
	Size     int64      `json:"size"` // unpacked bytes, layers shared with other images counted too
	Layers   int        `json:"layers"`
	InUse    bool       `json:"inUse"`
}

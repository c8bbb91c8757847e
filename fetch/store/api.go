package store

import (
	"slices"
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
	Signed    []Signed        `json:"signed,omitempty"`
	Setup     *Setup          `json:"setup,omitempty"` // what it was made by, of an image that was set up
}

// Signed is a signature of an image that was found right when it was pulled.
type Signed struct {
	Key      oci.Digest `json:"key"`      // of the file that the key was read from
	By       string     `json:"by"`       // the fingerprint of the key that made it
	Ref      string     `json:"ref"`      // what the image was called by who asked
	Document oci.Digest `json:"document"` // what it is of: the manifest, or an index that led there
	Identity string     `json:"identity"` // the name in it
	Time     time.Time  `json:"time"`     // when it was checked
}

// IsSigned tells whether a signature by a key, for the image under a name, was found right.
func (r *Record) IsSigned(key oci.Digest, ref string) bool {
	return slices.ContainsFunc(r.Signed, func(s Signed) bool { return s.Key == key && s.Ref == ref })
}

// Sign notes signatures; the last one by a key for a name stays.
func (r *Record) Sign(signed ...Signed) {
	for _, s := range signed {
		r.Signed = slices.DeleteFunc(slices.Clone(r.Signed), func(old Signed) bool { return old.Key == s.Key && old.Ref == s.Ref })
		r.Signed = append(r.Signed, s)
	}
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
	Setup    *Setup     `json:"setup,omitempty"` // of an image that a profile's setup has made
}

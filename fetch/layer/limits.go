package layer

import (
	"fmt"
	"time"

	"cove/fetch/oci"
)

// Limits bound what one layer may become, and Bytes all those of an image together. A zero field means the default.
type Limits struct {
	Bytes   int64 `json:"bytes"`   // unpacked: file contents, holes included, and the tar around them; default 64 GiB
	Entries int64 `json:"entries"` // default 4 million
	// Ratio is how many times larger than as sent a layer may become, once it is beyond RatioFrom
	// bytes. What people ship stays under 20; a bomb of zeros has 1000 (gzip) or more (zstd).
	Ratio     int64 `json:"ratio"`     // default 200
	RatioFrom int64 `json:"ratioFrom"` // default 256 MiB
	// NameBytes bounds the names of a layer's entries, and the paths that the stage writes down to come back to them: four
	// million entries with long names take time, and room on the disk. Default 256 MiB.
	NameBytes int64 `json:"nameBytes"`
	// CPUSeconds is how much of the processor the unpacking of an image may take. Default two hours, of which 64 GiB
	// take a small part.
	CPUSeconds int64 `json:"cpuSeconds"`
}

// WithDefaults fills in what is not set.
func (l Limits) WithDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 64 << 30
	}
	if l.Entries <= 0 {
		l.Entries = 4_000_000
	}
	if l.Ratio <= 0 {
		l.Ratio = 200
	}
	if l.RatioFrom <= 0 {
		l.RatioFrom = 256 << 20
	}
	if l.NameBytes <= 0 {
		l.NameBytes = 256 << 20
	}
	if l.CPUSeconds <= 0 {
		l.CPUSeconds = 2 * 60 * 60
	}
	return l
}

// MaxBytes is Bytes or its default.
func (l Limits) MaxBytes() int64 { return l.WithDefaults().Bytes }

// A LimitError says which limit a layer went over, or an image.
type LimitError struct {
	What string // "bytes", "entries", "ratio", "names", "processor"; of an image "manifest" (bytes), "depth", "time" (nanoseconds)
	Max  int64
}

func (e *LimitError) Error() string {
	switch e.What {
	case "entries":
		return fmt.Sprintf("more than %d entries", e.Max)
	case "names":
		return fmt.Sprintf("the names of its entries have more than %d bytes", e.Max)
	case "processor":
		return fmt.Sprintf("unpacking took more than %d seconds of the processor", e.Max)
	case "ratio":
		return fmt.Sprintf("unpacks to more than %d times its size", e.Max)
	case "manifest":
		return fmt.Sprintf("a manifest of more than %d bytes", e.Max)
	case "depth":
		return fmt.Sprintf("more than %d indexes, one in the other", e.Max)
	case "time":
		return fmt.Sprintf("not done after %v", time.Duration(e.Max))
	}
	return fmt.Sprintf("unpacks to more than %d bytes", e.Max)
}

// An UnmappedIDError says that an entry's owner lies outside the id mapping.
type UnmappedIDError struct {
	Entry string
	GID   bool // the group's id, not the user's
	ID    int64
}

func (e *UnmappedIDError) Error() string {
	kind := "uid"
	if e.GID {
		kind = "gid"
	}
	return fmt.Sprintf("entry %s belongs to %s %d, which is not mapped", oci.Short(e.Entry), kind, e.ID)
}

package store

import (
	"context"
	"iter"
	"maps"

	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// Usage says what disk the store takes. Layers' sizes were written down when they were unpacked: to tell them no
// layer is read.
type Usage struct {
	Images []ImageUsage `json:"images"`
	// Disk is of all layers and documents, each counted once, and Reclaimable what Collect would give back, leftovers of
	// killed commands among it. Running sandboxes' own files are in neither.
	Disk        int64 `json:"disk"`
	Reclaimable int64 `json:"reclaimable"`
	Free        int64 `json:"free"` // on the file system, for this user
}

// ImageUsage is an image with what it takes on the disk.
type ImageUsage struct {
	Summary
	Disk   int64 `json:"disk"`   // Shared and Unique
	Shared int64 `json:"shared"` // layers that other images have too
	Unique int64 `json:"unique"` // what removing it would give back
}

// Usage looks at what there is now. While a pull is at work, what is left of another one is not told from what it
// makes, and not counted as reclaimable.
func (s *Store) Usage(ctx context.Context) (*Usage, error) {
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	layers := map[string]*layerUse{}
	for _, h := range handles {
		rec := &Record{}
		if readJSON(s.recordPath(h), rec) != nil {
			continue
		}
		for _, l := range rec.Layers {
			name := h.Key + "/" + l.Dir
			if layers[name] == nil {
				layers[name] = &layerUse{size: s.disk(h.Key, l), images: map[oci.Digest]bool{}}
			}
			layers[name].images[h.Manifest] = true
		}
	}
	u := &Usage{Images: []ImageUsage{}}
	parts := divide(maps.Values(layers))
	for _, i := range images {
		one := ImageUsage{Summary: i}
		if part := parts[i.Digest]; part != nil {
			one.Shared, one.Unique = part.shared, part.unique
		}
		one.Disk = one.Shared + one.Unique
		u.Images = append(u.Images, one)
	}
	for _, l := range layers {
		u.Disk += l.size
	}
	u.Disk += s.documents()
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err == nil {
		u.Free = int64(st.Bavail) * st.Frsize
	}
	c := collector{s: s, dry: true, w: remover{ctx: ctx}}
	if err := c.sweep(true); err != nil && !readOnly(err) {
		return nil, err
	}
	if err := c.collect(ctx, false); err != nil && !readOnly(err) {
		return nil, err
	}
	u.Reclaimable = c.r.Bytes
	return u, nil
}

// layerUse is a layer with the images that have it.
type layerUse struct {
	size   int64
	images map[oci.Digest]bool
}

// part is an image's part of the disk.
type part struct{ shared, unique int64 }

// divide tells each image's part. It looks at each layer once, however many images there are.
func divide(layers iter.Seq[*layerUse]) map[oci.Digest]*part {
	out := map[oci.Digest]*part{}
	for l := range layers {
		for d := range l.images {
			if out[d] == nil {
				out[d] = &part{}
			}
			if len(l.images) > 1 {
				out[d].shared += l.size
			} else {
				out[d].unique += l.size
			}
		}
	}
	return out
}

// documents is what all but layers takes.
func (s *Store) documents() (n int64) {
	for _, dir := range []string{"names", "images", "blobs", "lists"} {
		d := diskUse{}
		_ = d.walk(s.path(dir)) // what has just gone takes nothing
		n += d.bytes
	}
	return n
}

package store

import (
	"context"

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
	sizes, users := map[string]int64{}, map[string]map[oci.Digest]bool{}
	for _, h := range handles {
		rec := &Record{}
		if readJSON(s.recordPath(h), rec) != nil {
			continue
		}
		for _, l := range rec.Layers {
			name := h.Key + "/" + l.Dir
			if users[name] == nil {
				users[name], sizes[name] = map[oci.Digest]bool{}, s.disk(h.Key, l)
			}
			users[name][h.Manifest] = true
		}
	}
	u := &Usage{Images: []ImageUsage{}}
	for _, i := range images {
		one := ImageUsage{Summary: i}
		for name, by := range users {
			switch {
			case by[i.Digest] && len(by) > 1:
				one.Shared += sizes[name]
			case by[i.Digest]:
				one.Unique += sizes[name]
			}
		}
		one.Disk = one.Shared + one.Unique
		u.Images = append(u.Images, one)
	}
	for _, n := range sizes {
		u.Disk += n
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

// documents is what all but layers takes.
func (s *Store) documents() (n int64) {
	for _, dir := range []string{"names", "images", "blobs", "lists"} {
		d := diskUse{}
		_ = d.walk(s.path(dir)) // what has just gone takes nothing
		n += d.bytes
	}
	return n
}

package store

import (
	"errors"
	"fmt"
	"slices"

	"cove/fetch/oci"
)

// Picked is the one image that is meant, to be taken elsewhere.
type Picked struct {
	Handle   Handle
	Record   *Record
	Manifest []byte // as it came, or was made
	Config   []byte
	Refs     []string // the canonical names that lead to it
}

// Pick finds the image that ref means (see Find) for a platform, "" being this machine's where there are several.
func (s *Store) Pick(ref, platform string) (*Picked, error) {
	found, err := s.Find(ref)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("image %q: %w", ref, ErrNotFound)
	}
	one, err := choosePlatform(found, platform)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	for _, h := range handles {
		if h.Manifest != one.Digest {
			continue
		}
		rec, err := s.Record(h)
		if err != nil {
			continue // half of it is gone for that mapping
		}
		p := &Picked{Handle: h, Record: rec, Refs: one.Names}
		if p.Manifest, err = s.Blob(rec.Manifest); err != nil {
			return nil, fmt.Errorf("image %q: manifest: %w", ref, err)
		}
		if p.Config, err = s.Blob(rec.ConfigID); err != nil {
			return nil, fmt.Errorf("image %q: config: %w", ref, err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("image %q: %w", ref, ErrNotFound)
}

// choosePlatform picks the one for the platform. Without one a single image is it, whatever it is for.
func choosePlatform(found []Summary, platform string) (*Summary, error) {
	if platform == "" && len(found) == 1 {
		return &found[0], nil
	}
	want, err := oci.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	var best *Summary
	fit := 0
	var have []string
	for i := range found {
		p, err := oci.ParsePlatform(found[i].Platform)
		if err != nil {
			continue
		}
		have = append(have, found[i].Platform)
		if f := p.Serves(want); f > fit {
			best, fit = &found[i], f
		} else if f == fit && f > 0 {
			return nil, errors.New("several images are meant: give more of the digest")
		}
	}
	if best == nil {
		return nil, &oci.PlatformError{Want: want.String(), Have: have}
	}
	return best, nil
}

// Holders are, for each of some blobs, the names of the images here that have a layer of which that was the blob: where they
// came from, it is. The images are looked at once for all blobs.
func (s *Store) Holders(blobs []oci.Digest) (map[oci.Digest][]string, error) {
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	holds := map[oci.Digest][]oci.Digest{} // by the manifest
	for _, h := range handles {
		rec := &Record{}
		if holds[h.Manifest] != nil || readJSON(s.recordPath(h), rec) != nil {
			continue
		}
		for _, l := range rec.Layers {
			if slices.Contains(blobs, l.Digest) {
				holds[h.Manifest] = append(holds[h.Manifest], l.Digest)
			}
		}
	}
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	out := map[oci.Digest][]string{}
	for _, n := range names {
		for _, blob := range holds[n.Manifest] {
			out[blob] = append(out[blob], n.Ref)
		}
	}
	for blob, refs := range out {
		slices.Sort(refs)
		out[blob] = slices.Compact(refs)
	}
	return out, nil
}

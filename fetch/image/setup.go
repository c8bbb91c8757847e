package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"cove/fetch/store"
)

// SetupKey names what the commands of a profile make of an image: by its manifest, its platform, the id mapping that its
// files are owned by, and the commands, exactly. apart is "" for nearly all: it is what a profile has asked for that other
// profiles with the same commands must not have the outcome of (config.Profile.SetupApart). Length by length, so that no two
// lists read the same.
func (i *Image) SetupKey(text []string, apart string) string {
	h := sha256.New()
	parts := []string{"cove setup 1", string(i.Digest), i.Platform, i.handle.Key}
	if apart != "" {
		parts[0] = "cove setup 1 apart"
		parts = append(parts, apart)
	}
	for _, part := range append(parts, text...) {
		fmt.Fprintf(h, "%d:", len(part))
		_, _ = io.WriteString(h, part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// SetUp is the image that the commands have made of this one, under its name. store.ErrNotFound: they have not yet.
func (i *Image) SetUp(s *store.Store, text []string, apart string) (*Image, *store.Setup, error) {
	name, err := s.Resolve(store.SetupName(i.SetupKey(text, apart)), i.Platform)
	if err != nil {
		return nil, nil, err
	}
	h := store.Handle{Manifest: name.Manifest, Key: i.handle.Key}
	rec, err := s.Record(h)
	if err != nil {
		return nil, nil, err
	}
	if name.Base != i.Digest || rec.Setup == nil || rec.Setup.Base != i.Digest {
		return nil, nil, fmt.Errorf("%s is of another image: %w", name.Ref, store.ErrNotFound)
	}
	return Of(s, i.Ref, h, rec), rec.Setup, nil
}

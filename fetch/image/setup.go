package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"cove/fetch/store"
)

// SetupKey names what the commands of a profile make of an image: by its manifest, its platform, the id mapping that its
// files are owned by, and the commands, exactly. Length by length, so that no two lists read the same.
func (i *Image) SetupKey(text []string) string {
	h := sha256.New()
	for _, part := range append([]string{"cove setup 1", string(i.Digest), i.Platform, i.handle.Key}, text...) {
		fmt.Fprintf(h, "%d:", len(part))
		_, _ = io.WriteString(h, part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// SetUp is the image that the commands have made of this one, under its name. store.ErrNotFound: they have not yet.
func (i *Image) SetUp(s *store.Store, text []string) (*Image, *store.Setup, error) {
	name, err := s.Resolve(store.SetupName(i.SetupKey(text)), i.Platform)
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

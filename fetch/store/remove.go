package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cove/fetch/oci"
)

// Remove takes the image's names away, or that one name when it is one, and then everything
// that only it held. An image in use stays until it is not.
func (s *Store) Remove(ctx context.Context, ref string) (Removed, error) {
	return s.RemoveAll(ctx, []string{ref})
}

// RemoveAll is Remove of several images, each given by what it may be called: the first that means one counts. What the store
// holds is read once for all of them, and collected once: each takes a look at every image there is. It ends at the first that
// cannot be removed; those before it are.
func (s *Store) RemoveAll(ctx context.Context, images ...[]string) (Removed, error) {
	r, err := s.newRemoval()
	if err != nil {
		return Removed{}, err
	}
	for _, refs := range images {
		if err = r.remove(refs); err != nil {
			break
		}
	}
	if err != nil && len(r.gone) == 0 {
		return Removed{}, err
	}
	// A pull at work keeps the store; what is left over then, the next collection finds.
	c := collector{s: s, w: remover{ctx: ctx}}
	err = errors.Join(err, c.collect(ctx, false))
	c.r.Names = r.gone
	return c.r, err
}

// A removal is what is in the store, by what it is asked for.
type removal struct {
	s      *Store
	byName map[string][]Name // by Ref, and by Typed
	byID   map[oci.Digest][]Name
	images []Summary // where a ref is no name; read says that they are
	read   bool

	taken map[Name]bool
	told  map[string]bool
	gone  []string // references
}

func (s *Store) newRemoval() (*removal, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	r := &removal{s: s, byName: map[string][]Name{}, byID: map[oci.Digest][]Name{}, taken: map[Name]bool{}, told: map[string]bool{}}
	for _, n := range names {
		r.byName[n.Ref] = append(r.byName[n.Ref], n)
		if n.Typed != "" && n.Typed != n.Ref {
			r.byName[n.Typed] = append(r.byName[n.Typed], n)
		}
		r.byID[n.Manifest] = append(r.byID[n.Manifest], n)
	}
	return r, nil
}

// remove takes away what the first of refs means that means something.
func (r *removal) remove(refs []string) error {
	for _, ref := range refs {
		names, err := r.means(ref)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		for i := 0; err == nil && i < len(names); i++ {
			err = r.take(names[i])
		}
		if err != nil {
			return fmt.Errorf("remove image %q: %w", ref, err)
		}
		return nil
	}
	return fmt.Errorf("remove image %q: %w", refs[0], ErrNotFound)
}

// means returns the names that go with what ref means: those of the reference that it is, or of the image whose digest it is.
func (r *removal) means(ref string) (out []Name, err error) {
	found, id := false, digits(ref)
	for _, n := range r.byName[ref] {
		if r.taken[n] {
			continue
		}
		found = true
		// All that the reference is filed under, for this image: other forms, and other platforms of it.
		for _, o := range r.byName[n.Ref] {
			if o.Ref == n.Ref && o.Manifest == n.Manifest {
				out = append(out, o)
			}
		}
	}
	if found {
		return out, nil
	}
	if id == "" {
		return nil, ErrNotFound
	}
	if !r.read {
		if r.images, err = r.s.Images(); err != nil {
			return nil, err
		}
		r.read = true
	}
	var image *Summary
	more := 0
	for i := range r.images {
		if one := &r.images[i]; strings.HasPrefix(one.Digest.Encoded(), id) || strings.HasPrefix(one.ID.Encoded(), id) {
			image, more = one, more+1
		}
	}
	switch {
	case more == 0:
		return nil, ErrNotFound
	case more > 1:
		return nil, fmt.Errorf("it means %d images; give more of the digest", more)
	}
	return r.byID[image.Digest], nil
}

func (r *removal) take(n Name) error {
	if r.taken[n] {
		return nil
	}
	if err := removeIfThere(r.s.namePath(n.key(), n.Platform)); err != nil {
		return err
	}
	r.taken[n] = true
	if !r.told[n.Ref] {
		r.told[n.Ref] = true
		r.gone = append(r.gone, n.Ref)
	}
	return nil
}

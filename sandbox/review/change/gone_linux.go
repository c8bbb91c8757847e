package change

import (
	"errors"
	"slices"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// shutOutside says why nothing is known of what is outside at a path.
const shutOutside = "you may not look into the folder that it is in outside"

// gone lists what is outside at a path that the view does not have any more, and all below it.
func (w *walk) gone(path string) error {
	if slices.Contains(w.skip, path) || w.s.record.Kind == spec.RootFuse && strings.HasPrefix(baseOf(path), ".wh.") {
		return nil // of another view; or what fuse-overlayfs takes for its own, and shows to nobody
	}
	low, err := w.out.lstat(path)
	if errors.Is(err, unix.EACCES) {
		return nil // its folder says so
	}
	if err != nil || low == nil {
		return err
	}
	c := &Change{rel: path, Kind: Deleted, Old: low}
	w.add(c)
	if !low.IsDir() {
		return nil
	}
	return w.goneFrom(c)
}

// goneFrom lists all that is outside in a folder that the view does not have any more.
func (w *walk) goneFrom(c *Change) error {
	names, err := w.out.names(c.rel)
	if errors.Is(err, unix.EACCES) {
		c.Refused = shutOutside
		return nil
	}
	slices.Sort(names)
	for _, name := range names {
		if err = w.gone(join(c.rel, name)); err != nil {
			break
		}
	}
	if errors.Is(err, unix.ENAMETOOLONG) {
		c.Refused, err = "something in it outside has a path that is longer than the kernel takes", nil
	}
	return err
}

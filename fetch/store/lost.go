package store

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"cove/fetch/layer/list"
	"cove/fetch/oci"
)

// errFound ends a walk.
var errFound = errors.New("found")

// Lost returns the first file of an image that has that name, in whatever folder, or any name where it is "", and is in the
// listing of its layer and not in the layer. It is for when something has failed: it reads listings, and takes a while.
// Whatever cannot be told is not lost.
func (s *Store) Lost(h Handle, name string) (file string, layer oci.Digest) {
	rec := &Record{}
	if readJSON(s.recordPath(h), rec) != nil {
		return "", ""
	}
	for n := len(rec.Layers) - 1; n >= 0; n-- {
		l := rec.Layers[n]
		f, err := s.OpenList(h.Key, l.Dir)
		if err != nil {
			continue
		}
		if r, err := list.NewReader(f, string(l.DiffID)); err == nil {
			file = lostIn(r, s.path("layers", h.Key, l.Dir), name)
		}
		f.Close()
		if file != "" {
			return file, l.DiffID
		}
	}
	return "", ""
}

func lostIn(r *list.Reader, dir, name string) (file string) {
	_ = r.Walk(func(p string, e *list.Entry) error {
		if e.Kind == list.Whiteout || name != "" && path.Base(p) != name {
			return nil
		}
		if _, err := os.Lstat(filepath.Join(dir, p)); errors.Is(err, fs.ErrNotExist) {
			file = p
			return errFound
		}
		return nil
	})
	return file
}

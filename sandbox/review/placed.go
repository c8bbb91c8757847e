package review

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Placed are paths in a view that are made to be mounted on: nobody inside has changed anything by them.
type Placed struct {
	views []View
	copy  bool
	paths []placedPath // those above before those below
}

type placedPath struct {
	view int
	rel  string // in the view
}

// Missing notes which of the mounts' targets, relative to the project, are not there, and are going to be made.
func (s *Session) Missing(targets []string) *Placed {
	p := &Placed{views: s.record.Views, copy: s.record.Kind == spec.RootCopy}
	for _, t := range targets {
		view, rel := -1, ""
		for i, v := range s.record.Views { // those above before those below
			if v.Path == "" {
				view, rel = i, t
			} else if r, ok := below(t, v.Path); ok {
				view, rel = i, r
			}
		}
		if view < 0 || rel == "" {
			continue
		}
		parts := strings.Split(rel, "/")
		for i := range parts {
			at := strings.Join(parts[:i+1], "/")
			if isMissing(filepath.Join(p.views[view].Lower, at)) && isMissing(filepath.Join(p.views[view].Upper, at)) {
				p.paths = append(p.paths, placedPath{view, at})
			}
		}
	}
	return p
}

func isMissing(name string) bool {
	_, err := os.Lstat(name)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// Remove removes what is still as it was made, and what was copied up for it alone. What it cannot remove is shown as added,
// and empty.
func (p *Placed) Remove() {
	for i := len(p.paths) - 1; i >= 0; i-- {
		one := p.paths[i]
		upper := p.views[one.view].Upper
		name := filepath.Join(upper, one.rel)
		if removeEmpty(name) != nil {
			continue
		}
		for at := path.Dir(one.rel); at != "." && !p.copy; at = path.Dir(at) {
			above := filepath.Join(upper, at)
			if isMissing(filepath.Join(p.views[one.view].Lower, at)) || isOpaque(above) || os.Remove(above) != nil {
				break
			}
		}
	}
}

// opaqueMarkers are what fuse-overlayfs puts into each folder that it makes.
var opaqueMarkers = []string{".wh..wh..opq", ".wh..opq"}

// removeEmpty removes an empty folder or file.
func removeEmpty(name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() || info.Size() > 0 {
			return fs.ErrExist
		}
		return os.Remove(name)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(opaqueMarkers, e.Name()) {
			return fs.ErrExist
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(name)
}

// isOpaque reports whether an upper directory hides all that lies below it, for an overlay or for fuse-overlayfs. In doubt it does.
func isOpaque(dir string) bool {
	n, err := unix.Llistxattr(dir, nil)
	if err != nil {
		return true
	}
	list := make([]byte, n)
	if n, err = unix.Llistxattr(dir, list); err != nil {
		return true
	}
	// user.overlay.opaque, user.fuseoverlayfs.opaque; others are only the file systems' notes.
	return strings.Contains(string(list[:n]), ".opaque\x00") || !isMissing(filepath.Join(dir, ".wh..wh..opq"))
}

package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"
)

// ident is by what something is known again.
type ident struct {
	Mode  uint32    `json:"mode"`
	Ino   uint64    `json:"ino"`
	Size  int64     `json:"size"`
	Mtime tree.Time `json:"mtime"`
	Ctime tree.Time `json:"ctime"`
}

func identOf(m *Meta) *ident {
	if m == nil {
		return nil
	}
	return &ident{m.Mode, m.Ino, m.Size, m.Mtime, m.Ctime}
}

// same tells that nothing at all was done to it.
func (i *ident) same(o *ident) bool { return i == o || i != nil && o != nil && *i == *o }

// moved tells that it is the same, perhaps under another name or with one more: that changes a ctime.
func (i *ident) moved(o *ident) bool {
	if i == nil || o == nil || i.Ino != o.Ino || i.Mode != o.Mode {
		return i == o
	}
	return i.Mode&typeMask == typeDir || i.Size == o.Size && i.Mtime == o.Mtime
}

const (
	typeMask = 0o170000
	typeDir  = 0o040000
)

// state is what cove knows of a view besides what is in it.
type state struct {
	// applied is what the view had at a path when that was applied; nil: nothing. As long as it has that still, there is
	// nothing to apply.
	applied map[string]*ident
	// ours is what lies outside at a path since cove itself was there last: a file, or a folder in which it put one.
	ours  map[string]*ident
	began int64
}

type stateFile struct {
	Version int         `json:"version"`
	Began   int64       `json:"began"` // when the view was made that Applied is about
	Applied []pathIdent `json:"applied"`
	Ours    []pathIdent `json:"ours"`
}

type pathIdent struct {
	Path  spec.Path `json:"path"`
	Ident *ident    `json:"ident,omitempty"`
}

const stateVersion = 1

// wasApplied tells that what the view has at a path was applied.
func (s *state) wasApplied(path string, in *ident) bool {
	was, ok := s.applied[path]
	if was != nil && was.Mode&typeMask == typeDir {
		return ok && was.moved(in) // its times change with what is in it
	}
	return ok && was.same(in)
}

// isOurs tells that cove itself made what is outside at a path what it is.
func (s *state) isOurs(path string, out *ident) bool {
	was, ok := s.ours[path]
	return ok && was.same(out)
}

// applyDir is the folder in the view's own of all that package change keeps.
func applyDir(dir string) string { return filepath.Join(dir, "apply") }

// readState reads what is kept of a view, and the journal when an apply or an undo was cut short.
func readState(dir string, began int64) (*state, *journal, error) {
	s := &state{applied: map[string]*ident{}, ours: map[string]*ident{}, began: began}
	var f stateFile
	if err := readJSON(filepath.Join(applyDir(dir), "state.json"), &f); err != nil {
		return nil, nil, err
	}
	if f.Version > stateVersion {
		return nil, nil, fmt.Errorf("its state is of format %d, this cove knows %d: a newer cove wrote it", f.Version, stateVersion)
	}
	for _, p := range f.Applied {
		if f.Began != began {
			break // of a view that is gone
		}
		s.applied[string(p.Path)] = p.Ident
	}
	for _, p := range f.Ours {
		s.ours[string(p.Path)] = p.Ident
	}
	j, err := readJournal(dir)
	if err != nil || !j.cutShort() || j.Began != began {
		return s, nil, err
	}
	return s, j, nil
}

func (s *state) write(dir string) error {
	f := stateFile{Version: stateVersion, Began: s.began}
	for p, i := range s.applied {
		f.Applied = append(f.Applied, pathIdent{spec.Path(p), i})
	}
	for p, i := range s.ours {
		f.Ours = append(f.Ours, pathIdent{spec.Path(p), i})
	}
	return writeJSON(filepath.Join(applyDir(dir), "state.json"), f)
}

// readJSON leaves v as it is where there is no file.
func readJSON(name string, v any) error {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// writeJSON replaces a file by one that is on the disk, whole.
func writeJSON(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

package change

import (
	"encoding/json"
	"fmt"
	"iter"
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
	version, of := 0, int64(0)
	list := func(d *json.Decoder, to map[string]*ident) error {
		if version > stateVersion {
			return fmt.Errorf("its state is of format %d, this cove knows %d: a newer cove wrote it", version, stateVersion)
		}
		if err := eachOf(d, func(p pathIdent) { to[string(p.Path)] = p.Ident }); err != nil {
			return err
		}
		return errDecoded
	}
	err := readJSON(filepath.Join(applyDir(dir), "state.json"), func(member string, d *json.Decoder) (any, error) {
		switch member {
		case "version":
			return &version, nil
		case "began": // when the view was made that applied is about
			return &of, nil
		case "applied":
			return nil, list(d, s.applied)
		case "ours":
			return nil, list(d, s.ours)
		}
		return nil, nil
	})
	if err != nil {
		return nil, nil, err
	}
	if of != began {
		clear(s.applied) // of a view that is gone
	}
	j, err := readJournal(dir, func(j *journal) bool { return j.cutShort() && j.Began == began })
	return s, j, err
}

func (s *state) write(dir string) error {
	list := func(m map[string]*ident) iter.Seq[any] {
		return func(yield func(any) bool) {
			for p, i := range m {
				if !yield(pathIdent{spec.Path(p), i}) {
					return
				}
			}
		}
	}
	return writeJSON(filepath.Join(applyDir(dir), "state.json"), member{name: "version", value: stateVersion}, member{name: "began", value: s.began},
		member{name: "applied", list: list(s.applied)}, member{name: "ours", list: list(s.ours)})
}

package change

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"cove/sandbox/spec"
)

// journal is an apply, written down before it begins.
type journal struct {
	Version int
	ID      string // part of the names of temporary files
	Phase   phase
	Began   int64       // when its view was made, in nanoseconds
	Folders []spec.Path // the views' outside
	Paths   []spec.Path // the same, relative to the project
	Steps   []*step

	dir    string
	made   map[int]uint64 // inodes by step, from the file "steps-ID": what the apply has put, or was about to put, in its place
	unmade map[int]uint64 // likewise of the undo
	log    *os.File
	byPath map[string]*step
}

// phase says how far a journal's steps have come.
type phase string

const (
	applying phase = "applying"
	applied  phase = "applied"
	undoing  phase = "undoing"
	undone   phase = "undone"
)

// step is what is done at one path.
type step struct {
	Path spec.Path `json:"path"`
	View int       `json:"view"`
	Rel  spec.Path `json:"rel"` // Path in its view
	Kind Kind      `json:"kind"`
	Old  *was      `json:"old,omitempty"`  // what was there; nil: nothing
	New  *ident    `json:"new,omitempty"`  // what comes there, as the view has it; nil: nothing
	Part bool      `json:"part,omitempty"` // some hunks of it: the rest stays a change
	// Forced is a step over a conflict, which is one again when the step is taken back.
	Forced bool `json:"forced,omitempty"`

	n       int
	expect  *ident  // what is there now, as it was listed
	goal    *ident  // what is to be there: New, or of an undo Old; nil: nothing
	content *source // of New
	change  *Change
	tmp     bool   // its temporary file is there
	put     *ident // of a file: what took its place; nil: not known, for it was done before a kill
	skip    string // why it was not done
	done    bool
	bare    bool // a folder that is there and has not got its mode and attributes yet
}

// was is what was at a path, so that it can come back.
type was struct {
	ident
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Nlink  uint64            `json:"nlink,omitempty"`
	Target spec.Path         `json:"target,omitempty"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"` // of a copy; a link to the file itself has its own
	Saved  string            `json:"saved,omitempty"`  // its name in old/, of a file
	Moved  bool              `json:"moved,omitempty"`  // Saved is the very file, once it has been replaced
}

// note says what a step has put in place, or will in a moment.
type note struct {
	Step int    `json:"step"`
	Ino  uint64 `json:"ino"`
	Undo bool   `json:"undo,omitempty"`
}

func (j *journal) cutShort() bool { return j != nil && (j.Phase == applying || j.Phase == undoing) }

// tmpName is what the n-th step's file is called until it takes its place.
func (j *journal) tmpName(n int) string { return ".cove-" + j.ID + "-" + strconv.Itoa(n) }

func (j *journal) path(name string) string { return filepath.Join(applyDir(j.dir), name) }

// saved is where what was at a step's path is kept.
func (j *journal) saved(name string) string { return filepath.Join(applyDir(j.dir), "old", name) }

// readJournal reads the last apply's journal; nil when there was none, or none that is wanted. That is asked before its steps
// are read: they are as many as the files of that apply.
func readJournal(dir string, wanted func(*journal) bool) (*journal, error) {
	var j journal
	err := readJSON(filepath.Join(applyDir(dir), "journal.json"), func(member string, d *json.Decoder) (any, error) {
		switch member {
		case "version":
			return &j.Version, nil
		case "id":
			return &j.ID, nil
		case "phase":
			return &j.Phase, nil
		case "began":
			return &j.Began, nil
		case "folders":
			return &j.Folders, nil
		case "paths":
			return &j.Paths, nil
		case "steps": // the last
			if j.Version != journalVersion || !wanted(&j) {
				return nil, errEnough
			}
			if err := eachOf(d, func(st *step) { j.Steps = append(j.Steps, st) }); err != nil {
				return nil, err
			}
			return nil, errDecoded
		}
		return nil, nil
	})
	if err != nil || j.Version == 0 {
		return nil, err
	}
	if j.Version != journalVersion {
		return nil, fmt.Errorf("its journal is of format %d, this cove knows %d: another cove wrote it", j.Version, journalVersion)
	}
	if !wanted(&j) {
		return nil, nil
	}
	j.dir, j.made, j.unmade = dir, map[int]uint64{}, map[int]uint64{}
	for n, s := range j.Steps {
		s.n = n
	}
	f, err := os.Open(j.path("steps-" + j.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return &j, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var m note
		if json.Unmarshal(lines.Bytes(), &m) == nil { // else the last line of one that was killed, or had no room
			j.keep(m)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return &j, nil
}

const journalVersion = 1

// write puts the journal on the disk.
func (j *journal) write() error {
	return writeJSON(j.path("journal.json"), member{name: "version", value: j.Version}, member{name: "id", value: j.ID}, member{name: "phase", value: j.Phase},
		member{name: "began", value: j.Began}, member{name: "folders", value: j.Folders}, member{name: "paths", value: j.Paths},
		member{name: "steps", list: elements(slices.Values(j.Steps))})
}

// note writes down under which inode a step's new file is going to take its place.
func (j *journal) note(m note) error {
	if j.log == nil {
		f, err := os.OpenFile(j.path("steps-"+j.ID), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		j.log = f
		if _, err := f.WriteString("\n"); err != nil { // the last line may have no end
			return err
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = j.log.Write(append(b, '\n'))
	j.keep(m)
	return err
}

func (j *journal) keep(m note) {
	if m.Undo {
		j.unmade[m.Step] = m.Ino
	} else {
		j.made[m.Step] = m.Ino
	}
}

func (j *journal) close() error {
	if j.log == nil {
		return nil
	}
	err := j.log.Close()
	j.log = nil
	return err
}

// at finds the step of a path; nil when there is none.
func (j *journal) at(path string) *step {
	if j.byPath == nil {
		j.byPath = map[string]*step{}
		for _, s := range j.Steps {
			j.byPath[string(s.Path)] = s
		}
	}
	return j.byPath[path]
}

package review

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cove/sandbox/spec"
	"cove/userns"
)

// version is that of record.json.
const version = 1

// Record is what a view is of.
type Record struct {
	Project string        // the project's folder outside, absolute, without links in its path
	IDMap   userns.IDMap  // that the view's files were made with
	Kind    spec.RootKind // overlay, fuse-overlayfs or copy: of all Views
	// Began is when the view was made, by the clock that file systems use: what has this ctime or a later one outside was
	// changed there since.
	Began time.Time
	Views []View // the project's own first, then one for each mount inside it, those above before those below
}

// View is the view of one folder: of the project, or of what is mounted inside it.
type View struct {
	Path  string // relative to Project; "" for the project itself
	Lower string // absolute, outside
	Upper string // absolute: overlay's upper directory, or the copy's tree
}

// Info is one project's view, for who lists them.
type Info struct {
	Record
	Dir   string // its folder in the store
	InUse bool
	By    string // the sandbox that uses it; "" where it has said no name
	Err   error  // why it cannot be read; then Record is empty
}

// ErrNone says that there is no view of a project.
var ErrNone = errors.New("there is no view of it: nothing was changed under review")

// An InUseError says that a view is somebody's. By is the sandbox's name; "" where that is not known.
type InUseError struct{ By string }

func (e *InUseError) Error() string {
	if e.By == "" {
		return "its view is in use by another cove"
	}
	return fmt.Sprintf("its view is in use by the sandbox %q", e.By)
}

// A VersionError says that another cove made a view, in a way that this one does not know.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("its view is of format %d, this cove knows %d: a newer cove made it", e.Version, version)
}

// Dir is where the view of a project lies, or would.
func Dir(store, project string) string {
	sum := sha256.Sum256([]byte(project))
	return filepath.Join(store, "reviews", hex.EncodeToString(sum[:12]))
}

// onDisk is a Record as record.json has it: paths may be of any bytes.
type onDisk struct {
	Version int           `json:"version"`
	Project spec.Path     `json:"project"`
	IDMap   userns.IDMap  `json:"idmap"`
	Kind    spec.RootKind `json:"kind"`
	Began   time.Time     `json:"began"`
	Views   []viewOnDisk  `json:"views"`
}

type viewOnDisk struct {
	Path  spec.Path `json:"path"`
	Lower spec.Path `json:"lower"`
	// Upper is not written down: a store may be moved.
}

// viewDir is the folder of the n-th view; upperDir is what Upper names in it.
func viewDir(dir string, n int) string { return filepath.Join(dir, fmt.Sprint(n)) }

func upperDir(dir string, n int, kind spec.RootKind) string {
	if kind == spec.RootCopy {
		return filepath.Join(viewDir(dir, n), "tree")
	}
	return filepath.Join(viewDir(dir, n), "upper")
}

func readRecord(dir string) (Record, error) {
	b, err := os.ReadFile(filepath.Join(dir, "record.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrNone
	}
	if err != nil {
		return Record{}, err
	}
	var d onDisk
	if err := json.Unmarshal(b, &d); err != nil {
		return Record{}, fmt.Errorf("%s: %w", filepath.Join(dir, "record.json"), err)
	}
	if d.Version != version {
		return Record{}, &VersionError{d.Version}
	}
	r := Record{Project: string(d.Project), IDMap: d.IDMap, Kind: d.Kind, Began: d.Began}
	for i, v := range d.Views {
		r.Views = append(r.Views, View{Path: string(v.Path), Lower: string(v.Lower), Upper: upperDir(dir, i, d.Kind)})
	}
	if len(r.Views) == 0 || Dir(filepath.Dir(filepath.Dir(dir)), r.Project) != dir {
		return Record{}, fmt.Errorf("%s: it is of another project", filepath.Join(dir, "record.json"))
	}
	return r, nil
}

// writeRecord makes the view one that counts: whole or not at all.
func writeRecord(dir string, r Record) error {
	d := onDisk{Version: version, Project: spec.Path(r.Project), IDMap: r.IDMap, Kind: r.Kind, Began: r.Began}
	for _, v := range r.Views {
		d.Views = append(d.Views, viewOnDisk{Path: spec.Path(v.Path), Lower: spec.Path(v.Lower)})
	}
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, ".record.json")
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
	return os.Rename(tmp, filepath.Join(dir, "record.json"))
}

// List returns the views that there are, in no order. Leftovers are not among them.
func List(store string) ([]Info, error) {
	entries, err := os.ReadDir(filepath.Join(store, "reviews"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list views: %w", err)
	}
	var out []Info
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		i := Info{Dir: filepath.Join(store, "reviews", e.Name())}
		i.Record, i.Err = readRecord(i.Dir)
		if errors.Is(i.Err, ErrNone) {
			continue
		}
		if lock, err := lockDir(i.Dir); lock != nil {
			lock.Close()
		} else if err == nil {
			i.InUse, i.By = true, usedBy(i.Dir)
		}
		out = append(out, i)
	}
	return out, nil
}

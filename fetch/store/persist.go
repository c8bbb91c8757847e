package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cove/fetch/oci"
	"cove/userns"
)

// Persist names a root file system whose changes are kept between runs: a project's, for one image as the project names
// it, on one platform.
type Persist struct {
	Project  string `json:"project"` // its folder, see ProjectName
	Image    string `json:"image"`
	Platform string `json:"platform"`
}

// Persisted says what it was made on. Changes to other layers, for other ids, or in the form of another kind of root file
// system mean nothing, or something else.
type Persisted struct {
	Persist
	Manifest oci.Digest `json:"manifest"`
	Key      string     `json:"key"`            // of the id mapping
	Kind     string     `json:"kind"`           // of the root file system
	Born     string     `json:"born,omitempty"` // the project's folder, where its file system knows
	Made     time.Time  `json:"made"`
}

// ProjectName is a folder's path as JSON can hold it: one with bytes that are no UTF-8 is quoted.
func ProjectName(dir string) string {
	if utf8.ValidString(dir) {
		return dir
	}
	return strconv.QuoteToASCII(dir)
}

// Folder is the project's folder.
func (p Persist) Folder() string {
	if dir, err := strconv.Unquote(p.Project); err == nil {
		return dir
	}
	return p.Project
}

// Names of what is in its directory, beside what a run's holds.
const (
	persistedName = "persisted.json" // written when all else is there
	holderName    = "holder.json"
)

func (p Persist) name() string {
	h := sha256.New()
	for _, part := range []string{p.Project, p.Image, p.Platform} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (s *Store) persistDir(p Persist) string { return s.path("persist", p.name()) }

// ReadPersisted returns what is kept, nil where nothing is.
func (s *Store) ReadPersisted(p Persist) (*Persisted, error) { return readPersisted(s.persistDir(p)) }

// readPersisted does not take what it cannot read for nothing: somebody's work may lie there.
func readPersisted(dir string) (*Persisted, error) {
	file := filepath.Join(dir, persistedName)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	p := &Persisted{}
	if err == nil && json.Unmarshal(data, p) != nil {
		err = fmt.Errorf("%s is damaged", file)
	}
	return p, err
}

// A Holder is the sandbox that uses a persisted root file system.
type Holder struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Init is its first process, which outlives a parent that is killed by a moment, with all below it.
	Init  int    `json:"init,omitempty"`
	Began string `json:"began,omitempty"` // when that was started, as proc_pid_stat(5) has it
}

// An InUseError says that a sandbox uses a persisted root file system.
type InUseError struct{ Holder Holder }

func (e *InUseError) Error() string {
	if e.Holder.Name == "" {
		return "another sandbox, which is being started, uses it"
	}
	return fmt.Sprintf("the sandbox %q uses it", e.Holder.Name)
}

// OpenPersist takes a persisted root file system for a sandbox, and makes its directory where there is none. What it
// returns is nobody else's until Lock is closed. Persisted is nil of one that is new: Keep is to follow. An InUseError
// says who has it.
func (s *Store) OpenPersist(ctx context.Context, p Persist, m userns.IDMap) (*Run, *Persisted, error) {
	r := &Run{ID: p.name(), Dir: s.persistDir(p)}
	r.Upper, r.Work = r.Dir+"/upper", r.Dir+"/work"
	if err := errors.Join(s.mkdir(s.path("persist")), s.mkdir(r.Dir)); err != nil {
		return nil, nil, err
	}
	if err := r.takeSoon(ctx); err != nil {
		return nil, nil, err
	}
	holder := readHolder(r.Dir)
	if r.Lock == nil {
		return nil, nil, &InUseError{holder}
	}
	have, err := s.readyPersist(ctx, r, holder, m)
	if err != nil {
		r.Lock.Close()
		return nil, nil, err
	}
	return r, have, nil
}

// afterShell is how long one is waited for that is in use: the sandbox of a shell ends a moment after its last shell. One
// whose init is gone already is ending, and waited for longer.
const afterShell = time.Second

// takeSoon takes the directory's lock. It is nil where another keeps it.
func (r *Run) takeSoon(ctx context.Context) (err error) {
	for start := time.Now(); ; {
		if r.Lock, err = tryLockDir(r.Dir); err != nil || r.Lock != nil {
			return err
		}
		holder, waited := readHolder(r.Dir), time.Since(start)
		if ending := holder.Init > 0 && !holder.alive(); waited > afterShell && !ending || waited > lastMoments {
			return nil
		}
		if err := sleep(ctx, 5*pauseFirst); err != nil {
			return err
		}
	}
}

// readyPersist waits for the end of a sandbox whose parent was killed, and takes away what was only begun.
func (s *Store) readyPersist(ctx context.Context, r *Run, last Holder, m userns.IDMap) (*Persisted, error) {
	if !last.gone(ctx) {
		return nil, &InUseError{last}
	}
	if err := removeIfThere(filepath.Join(r.Dir, holderName)); err != nil {
		return nil, err
	}
	have, err := readPersisted(r.Dir)
	if err != nil || have != nil {
		return have, err
	}
	return nil, s.clearPersist(ctx, r, m)
}

// clearPersist empties the directory, in the order in which nothing half of it is believed.
func (s *Store) clearPersist(ctx context.Context, r *Run, m userns.IDMap) error {
	if err := removeIfThere(filepath.Join(r.Dir, persistedName)); err != nil {
		return err
	}
	if err := syncDir(r.Dir); err != nil {
		return err
	}
	names, err := listDir(r.Dir)
	if err != nil {
		return err
	}
	w := remover{ctx: ctx, idmap: &m}
	defer w.close()
	for _, n := range names {
		if err := w.remove(filepath.Join(r.Dir, n)); err != nil {
			return err
		}
	}
	return errors.Join(s.mkdir(r.Upper), s.mkdir(r.Work))
}

// Restart drops what is kept in a directory that OpenPersist has returned.
func (s *Store) Restart(ctx context.Context, r *Run, m userns.IDMap) error {
	return s.clearPersist(ctx, r, m)
}

// Keep says what a new one is made on. What was made in it by others than the sandbox is synced first.
func (s *Store) Keep(r *Run, p Persisted) error {
	if err := s.Sync(); err != nil {
		return err
	}
	return s.writeJSON(filepath.Join(r.Dir, persistedName), &p)
}

// SetHolder says who uses it. It is not synced: a machine that goes down takes the sandbox with it. On a full disk nothing is
// said, for somebody has to get in to make room.
func (r *Run) SetHolder(h Holder) error {
	h.Began = began(h.Init)
	data, err := json.Marshal(&h)
	if err != nil {
		return err
	}
	if err = os.WriteFile(filepath.Join(r.Dir, holderName), data, 0o600); full(err) {
		return removeIfThere(filepath.Join(r.Dir, holderName))
	}
	return err
}

func readHolder(dir string) (h Holder) {
	_ = readJSON(filepath.Join(dir, holderName), &h)
	return h
}

// lastMoments is how long a sandbox may take to die.
const lastMoments = 10 * time.Second

// gone waits until nothing of the sandbox is left that could write: init has been waited for by then, or waits for that,
// when all in its pid namespace has ended (pid_namespaces(7)).
func (h Holder) gone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lastMoments)
	defer cancel()
	for h.alive() {
		if sleep(ctx, pauseFirst) != nil {
			return false
		}
	}
	return true
}

// alive tells whether its init is there.
func (h Holder) alive() bool { return h.Init > 0 && h.Began != "" && began(h.Init) == h.Began }

// began is when a process was started, "" of one that has ended.
func began(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || pid <= 0 {
		return ""
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// PersistUse is a persisted root file system with what it takes on the disk.
type PersistUse struct {
	Persisted
	Bytes int64  `json:"bytes"`
	InUse string `json:"inUse,omitempty"` // by the sandbox of that name
	Gone  bool   `json:"gone,omitempty"`  // the project's folder is not there

	dir string
}

// Persists lists what is kept, by project and image. One that cannot be read is an error beside the others.
func (s *Store) Persists(ctx context.Context) ([]PersistUse, error) {
	names, err := listDir(s.path("persist"))
	if err != nil {
		return nil, err
	}
	w := remover{ctx: ctx}
	defer w.close()
	out, errs := []PersistUse{}, []error{}
	for _, n := range names {
		u := PersistUse{dir: s.path("persist", n)}
		p, err := readPersisted(u.dir)
		if err != nil || p == nil {
			errs = append(errs, err)
			continue
		}
		u.Persisted, u.Bytes = *p, w.disk(u.dir)
		_, err = os.Stat(p.Folder())
		u.Gone = errors.Is(err, fs.ErrNotExist)
		if lock, err := tryLockDir(u.dir); err == nil && lock == nil {
			u.InUse = readHolder(u.dir).Name
		} else if lock != nil {
			lock.Close()
		}
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b PersistUse) int {
		return strings.Compare(a.Project+"\x00"+a.Image+"\x00"+a.Platform, b.Project+"\x00"+b.Image+"\x00"+b.Platform)
	})
	return out, errors.Join(errs...)
}

// DropPersisted removes what is kept for a project, with dry only tells it. One that is in use stays: an InUseError.
func (s *Store) DropPersisted(ctx context.Context, project string, dry bool) ([]PersistUse, error) {
	all, err := s.Persists(ctx)
	if err != nil {
		return nil, err
	}
	w := remover{ctx: ctx}
	defer w.close()
	var gone []PersistUse
	for _, u := range all {
		if u.Project != project {
			continue
		}
		if !dry {
			if err := s.dropPersist(&w, u.dir); err != nil {
				return gone, err
			}
		}
		gone = append(gone, u)
	}
	return gone, nil
}

func (s *Store) dropPersist(w *remover, dir string) error {
	lock, err := tryLockDir(dir)
	if err != nil {
		return err
	}
	if lock == nil {
		return &InUseError{readHolder(dir)}
	}
	defer lock.Close()
	if !readHolder(dir).gone(w.ctx) {
		return &InUseError{readHolder(dir)}
	}
	if err := removeIfThere(filepath.Join(dir, persistedName)); err != nil {
		return err
	}
	return w.remove(dir)
}

// sweepPersists removes what was begun by commands that were killed, and holds nothing of anybody's.
func (c *collector) sweepPersists() error {
	names, err := listDir(c.s.path("persist"))
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		dir := c.s.path("persist", n)
		if p, err := readPersisted(dir); err != nil || p != nil {
			continue
		}
		lock, err := tryLockDir(dir)
		if err != nil || lock == nil {
			errs = append(errs, err)
			continue
		}
		if p, err := readPersisted(dir); err == nil && p == nil && readHolder(dir).gone(c.w.ctx) {
			errs = append(errs, c.take(dir, true))
		}
		lock.Close()
	}
	return errors.Join(errs...)
}

// persistsOn are the images on which changes are kept; nil where it cannot be told of all changes what they are of.
func (s *Store) persistsOn() map[oci.Digest]bool {
	names, err := listDir(s.path("persist"))
	if err != nil {
		return nil
	}
	on := map[oci.Digest]bool{}
	for _, n := range names {
		p, err := readPersisted(s.path("persist", n))
		if err != nil {
			return nil
		}
		if p != nil {
			on[p.Manifest] = true
		}
	}
	return on
}

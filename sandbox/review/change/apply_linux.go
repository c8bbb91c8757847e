package change

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cove/sandbox/spec"
)

// Options say what is applied.
type Options struct {
	Paths  []string // relative to the project, with all that is in them; none: everything
	Force  bool     // conflicts too, and setuid bits are kept
	DryRun bool     // nothing is done
	// Picked are changes to apply instead of Paths, each whole or, where there is a text, as far as it goes.
	Picked map[*Change]*string
}

// Result says what an apply or an undo did.
type Result struct {
	Done    []*Change // as they were listed
	Skipped []Skipped
	Left    int // changes that there still are
}

// Skipped is a change that was not carried over.
type Skipped struct {
	Path spec.Path `json:"path"`
	Why  string    `json:"why"`
}

// Shown is the path as people read it.
func (s Skipped) Shown() string { return shown(string(s.Path)) }

// A ConflictError says what is not applied, or taken back, without being forced. Nothing was done.
type ConflictError struct {
	Conflicts []Skipped
	Undo      bool
}

func (e *ConflictError) Error() string {
	var b strings.Builder
	what := "apply"
	if e.Undo {
		what = "undo"
	}
	fmt.Fprintf(&b, "%s: %s in conflict; nothing was done", what, count(len(e.Conflicts), "path is", "paths are"))
	for i, c := range e.Conflicts {
		if i == 20 {
			fmt.Fprintf(&b, "\nand %d more", len(e.Conflicts)-i)
			break
		}
		fmt.Fprintf(&b, "\n%q: %s", c.Shown(), c.Why)
	}
	return b.String()
}

func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + more
}

// A NoChangeError says that there is no change at a path that was named.
type NoChangeError struct{ Path string }

func (e *NoChangeError) Error() string { return fmt.Sprintf("%q: nothing is changed there", e.Path) }

// ErrNothing says that there is nothing to apply.
var ErrNothing = errors.New("nothing is changed")

// Choose returns the changes at some paths and below them; all without paths.
func (s *Set) Choose(paths []string) ([]*Change, error) {
	if len(paths) == 0 {
		return slices.Clone(s.Changes), nil
	}
	chosen := map[*Change]bool{}
	for _, p := range paths {
		found := p == ""
		for _, c := range s.Changes {
			if below(c.name(), p) || c.From != "" && below(string(c.From), p) {
				chosen[c], found = true, true
			}
		}
		if !found {
			return nil, &NoChangeError{p}
		}
	}
	var out []*Change
	for _, c := range s.Changes {
		if chosen[c] {
			out = append(out, c)
		}
	}
	return out, nil
}

// Apply carries changes over to the project. The list of s is what is left afterwards.
func (s *Set) Apply(ctx context.Context, opts Options) (*Result, error) {
	if err := s.clearUp(ctx, opts); err != nil {
		return nil, err
	}
	var chosen []*Change
	if opts.Picked != nil {
		for _, c := range s.Changes {
			if _, ok := opts.Picked[c]; ok {
				chosen = append(chosen, c)
			}
		}
	} else {
		var err error
		if chosen, err = s.Choose(opts.Paths); err != nil {
			return nil, err
		}
	}
	res := &Result{}
	chosen = s.needed(chosen)
	chosen = s.possible(chosen, res)
	if len(chosen) == 0 && s.journal != nil && !opts.DryRun {
		return res, s.conclude(ctx, res)
	}
	if len(chosen) == 0 && len(res.Skipped) == 0 {
		return nil, ErrNothing
	}
	if !opts.Force {
		e := &ConflictError{}
		for _, c := range chosen {
			if c.Conflict != "" {
				e.Conflicts = append(e.Conflicts, Skipped{c.Path, c.Conflict})
			}
		}
		if len(e.Conflicts) > 0 {
			return nil, e
		}
	}
	if opts.DryRun {
		res.Done, res.Left = chosen, len(s.Changes)-len(chosen)
		return res, nil
	}
	if len(chosen) == 0 {
		res.Left = len(s.Changes)
		return res, nil
	}
	return res, s.apply(ctx, chosen, opts, res)
}

// conclude ends an apply that was cut short when there was nothing left to do but to say so.
func (s *Set) conclude(ctx context.Context, res *Result) error {
	w := &work{s: s, j: s.journal}
	for _, st := range w.j.Steps {
		done, err := s.wasDone(w.j, st)
		if err != nil {
			return err
		}
		st.done = done
	}
	s.journal = nil
	return errors.Join(w.finish(ctx, applied, nil, res), w.j.close())
}

// needed adds the folders that what is chosen lies in, where they are new too.
func (s *Set) needed(chosen []*Change) []*Change {
	at := map[string]*Change{}
	for _, c := range s.Changes {
		if c.New.IsDir() && (c.Kind == Added || c.Kind == Type) {
			at[c.name()] = c
		}
	}
	have := map[*Change]bool{}
	for _, c := range chosen {
		have[c] = true
	}
	for _, c := range slices.Clone(chosen) {
		if c.New == nil {
			continue
		}
		for dir := parentOf(c.name()); dir != ""; dir = parentOf(dir) {
			if up := at[dir]; up != nil && !have[up] {
				have[up] = true
				chosen = append(chosen, up)
			}
		}
	}
	sortChanges(chosen)
	return chosen
}

// possible leaves out what cannot be applied, and says so.
func (s *Set) possible(chosen []*Change, res *Result) []*Change {
	have := map[*Change]bool{}
	for _, c := range chosen {
		have[c] = c.Refused == ""
	}
	for i, c := range s.Changes {
		if c.Kind != Type || !c.Old.IsDir() || !have[c] {
			continue
		}
		for _, d := range s.Changes[i+1:] {
			if !below(d.name(), c.name()) {
				break // they come by path
			}
			if d.New == nil && !have[d] {
				have[c] = false
				res.Skipped = append(res.Skipped, Skipped{c.Path, "the folder that is there keeps something that is not to go"})
				break
			}
		}
	}
	var out []*Change
	for _, c := range chosen {
		switch {
		case c.Refused != "":
			res.Skipped = append(res.Skipped, Skipped{c.Path, c.Refused})
		case have[c]:
			out = append(out, c)
		}
	}
	return out
}

// work is an apply or an undo at work.
type work struct {
	s     *Set
	j     *journal
	force bool
	undo  bool
	clean map[string]bool // folders in which only cove has made changes so far
	names map[linked]name // files with several names, and the first of them that was made
	batch []*step         // whose temporary files are there
	bytes int64           // of them
	sync  bool            // one file after the other; else whole file systems
	// copied says that there are copies of what was there that are not on the disk yet.
	copied bool
}

// linked is a file of a view that has several names.
type linked struct {
	view int
	ino  uint64
}

type name struct {
	view      int
	rel, name string // the folder it is in; what it is called there now
	ino       uint64
}

func (s *Set) apply(ctx context.Context, chosen []*Change, opts Options, res *Result) (err error) {
	if err := os.MkdirAll(filepath.Join(applyDir(s.dir), "old"), 0o700); err != nil {
		return err
	}
	j, err := s.newJournal()
	if err != nil {
		return err
	}
	w := &work{s: s, j: j, force: opts.Force, clean: map[string]bool{}, names: map[linked]name{}}
	defer func() { err = errors.Join(err, j.close()) }()
	if j.Steps, err = s.steps(chosen, opts); err != nil {
		return err
	}
	w.sync = len(j.Steps) <= fewSteps
	if err := w.save(ctx); err != nil {
		s.dropSaved(j)
		return err
	}
	if s.journal != nil {
		if err := w.takeUp(s.journal); err != nil {
			return err
		}
	} else if err := s.Settle(); err != nil { // what can be undone no more need not be kept
		return err
	}
	if err := j.write(); err != nil {
		return err
	}
	s.journal = nil
	s.dropOthers(j)
	w.remember()
	err = w.run(ctx, w.ordered())
	return errors.Join(err, w.finish(ctx, applied, chosen, res))
}

func (s *Set) newJournal() (*journal, error) {
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	j := &journal{Version: journalVersion, ID: hex.EncodeToString(id[:]), Phase: applying, Began: s.record.Began.UnixNano(), dir: s.dir, made: map[int]uint64{}, unmade: map[int]uint64{}}
	for _, v := range s.record.Views {
		j.Folders, j.Paths = append(j.Folders, spec.Path(v.Lower)), append(j.Paths, spec.Path(v.Path))
	}
	return j, nil
}

// steps makes a step of each change, and two of what was renamed.
func (s *Set) steps(chosen []*Change, opts Options) (_ []*step, err error) {
	var out []*step
	add := func(c *Change, kind Kind, old, now *Meta) *step {
		st := &step{n: len(out), Path: c.Path, View: c.view, Rel: spec.Path(c.rel), Kind: kind, expect: identOf(old), New: identOf(now), goal: identOf(now), change: c, Forced: c.Conflict != ""}
		if old != nil {
			st.Old = &was{ident: *identOf(old), UID: old.uid, GID: old.gid, Nlink: old.nlink, Target: old.Target}
		}
		out = append(out, st)
		return st
	}
	for _, c := range chosen {
		if c.Kind == Renamed {
			add(c.old, Deleted, c.old.Old, nil)
		}
		old := c.Old
		if c.Kind == Renamed {
			old = nil
		}
		st := add(c, c.Kind, old, c.New)
		if c.Kind == Renamed {
			st.Kind = Added
		}
		if text := opts.Picked[c]; text != nil {
			st.Part = true
			if st.content, err = s.textSource(c, *text); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// remember tells the folders in which nobody but cove has changed anything since the view began, before cove does.
func (w *work) remember() {
	for _, st := range w.j.Steps {
		for rel := parentOf(string(st.Rel)); ; rel = parentOf(rel) {
			at := join(w.s.record.Views[st.View].Path, rel)
			if _, ok := w.clean[at]; ok {
				break
			}
			m, err := w.s.outside[st.View].lstat(rel)
			w.clean[at] = err == nil && (m == nil || w.s.before(m.Ctime) || w.s.state.isOurs(at, identOf(m)))
			if rel == "" {
				break
			}
		}
	}
}

// ordered puts the steps into an order in which each is possible: first what is deleted where a file takes a folder's place,
// the deepest first; then all that is made, folders first; then what else is deleted.
func (w *work) ordered() []*step {
	replaced := map[string]bool{}
	for _, st := range w.j.Steps {
		if st.Old != nil && st.New != nil && st.Old.Mode&typeMask == typeDir && st.New.Mode&typeMask != typeDir {
			replaced[string(st.Path)] = true
		}
	}
	var first, made, last []*step
	for _, st := range w.j.Steps {
		switch {
		case st.change == nil: // taken up, and done
		case st.New != nil:
			made = append(made, st)
		case underAny(string(st.Path), replaced):
			first = append(first, st)
		default:
			last = append(last, st)
		}
	}
	sortSteps := func(list []*step) {
		slices.SortStableFunc(list, func(a, b *step) int { return byPath(string(a.Path), string(b.Path)) })
	}
	sortSteps(first)
	sortSteps(made)
	sortSteps(last)
	slices.Reverse(first)
	slices.Reverse(last)
	return slices.Concat(first, made, last)
}

func underAny(path string, dirs map[string]bool) bool {
	if len(dirs) == 0 {
		return false
	}
	for dir := parentOf(path); dir != ""; dir = parentOf(dir) {
		if dirs[dir] {
			return true
		}
	}
	return false
}

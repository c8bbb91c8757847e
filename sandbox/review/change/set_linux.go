package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cove/sandbox/review"
	"cove/sandbox/review/tree"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Set is a view with all that differs in it. Close ends it.
type Set struct {
	Changes []*Change // by path

	record  review.Record
	dir     string // STORE/reviews/KEY
	tree    *tree.Tree
	outside []*outside // by view
	state   *state
	journal *journal  // of an apply or undo that was cut short; else nil
	ready   tree.Time // of a copy: what has no later ctime is as it was copied
	began   tree.Time

	revealed map[spot]bool // see reveal, by the path in the view; nil: nothing is remembered

	warn func(string)
}

// Session is what package review has of a view.
type Session interface {
	Record() review.Record
	Dir() string
}

// Open compares a view with its project. Warn is told what the user should know of; it may be nil.
func Open(ctx context.Context, session Session, warn func(string)) (_ *Set, err error) {
	r := session.Record()
	if warn == nil {
		warn = func(string) {}
	}
	s := &Set{record: r, dir: session.Dir(), warn: warn, began: tree.FromSpec(unix.NsecToTimespec(r.Began.UnixNano()))}
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx) // the stage ends with it, and can only say that it did
		}
		if err != nil {
			err = fmt.Errorf("look at the view of %q: %w", r.Project, err)
			s.Close()
		}
	}()
	var uppers []string
	for _, v := range r.Views {
		o, err := openOutside(v.Lower)
		if err != nil {
			return nil, err
		}
		s.outside, uppers = append(s.outside, o), append(uppers, v.Upper)
	}
	if r.Kind == spec.RootCopy {
		if s.ready, err = ctimeOf(filepath.Join(s.dir, "record.json")); err != nil {
			return nil, err
		}
	}
	if s.state, s.journal, err = readState(s.dir, r.Began.UnixNano()); err != nil {
		return nil, err
	}
	if s.tree, err = tree.Start(ctx, r.IDMap, r.Kind, uppers...); err != nil {
		return nil, err
	}
	if err := s.list(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func ctimeOf(path string) (tree.Time, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return tree.Time{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return tree.FromSpec(st.Ctim), nil
}

// Close ends the stage and closes what is open. It may be called twice.
func (s *Set) Close() error {
	for _, o := range s.outside {
		o.close()
	}
	t := s.tree
	s.outside, s.tree = nil, nil
	if t == nil {
		return nil
	}
	return t.Close()
}

// list makes the list anew.
func (s *Set) list(ctx context.Context) error {
	s.Changes = nil
	for i, v := range s.record.Views {
		w := &walk{s: s, view: i, at: v.Path, skip: s.nested(i), dirs: map[string]dirState{"": {}}}
		w.out = s.outside[i]
		w.out.forget()
		err := s.tree.Walk(i, w.skip, func(f tree.Folder) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return w.folder(f)
		})
		if err != nil {
			return err
		}
		// Not before: the stage does one thing at a time.
		for _, c := range w.unsure {
			if err := w.settle(ctx, c); err != nil {
				return err
			}
		}
	}
	sortChanges(s.Changes)
	s.findRenamed()
	ignored := s.readIgnored()
	for _, c := range s.Changes {
		c.Warnings = warnings(c)
		c.Conflict = s.conflict(c)
		if len(c.Warnings) == 0 {
			c.Ignored = spec.Path(ignored.match(c.name(), c.New.IsDir() || c.New == nil && c.Old.IsDir()))
		}
	}
	return nil
}

// nested are the paths of other views inside the i-th, relative to it.
func (s *Set) nested(i int) []string {
	var out []string
	at := s.record.Views[i].Path
	for j, v := range s.record.Views {
		if j == i || v.Path == at || !below(v.Path, at) {
			continue
		}
		out = append(out, strings.TrimPrefix(v.Path[len(at):], "/"))
	}
	return out
}

// walk compares one view.
type walk struct {
	s    *Set
	view int
	at   string // the view's path in the project
	out  *outside
	skip []string
	dirs map[string]dirState // of folders that are still to come
	seen map[string]bool     // the names of the folder that is being looked at, where all count
	// unsure are files that may be no different, of which the content has to be read.
	unsure []*Change
}

type dirState struct {
	hides   bool // nothing of the folder below shows through
	touched bool // of a copy: it, or a folder above it, may have been moved here, with what is in it
	moved   bool // of a copy: something was put in or taken out
}

func (w *walk) copied() bool { return w.s.record.Kind == spec.RootCopy }

func (w *walk) folder(f tree.Folder) error {
	dir := f.Dir.Path
	st := w.dirs[dir]
	if dir == "" {
		st = dirState{moved: w.copied() && f.Dir.Ctime.After(w.s.ready)}
		if w.seen == nil {
			if err := w.rootEntry(f.Dir); err != nil {
				return err
			}
		}
	}
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	whole := st.hides || st.moved
	for i := range f.Entries {
		e := &f.Entries[i]
		if whole {
			w.seen[baseOf(e.Path)] = true
		}
		if err := w.entry(e, st); err != nil {
			return err
		}
	}
	if !f.Last {
		return nil
	}
	seen := w.seen
	w.seen = nil
	delete(w.dirs, dir)
	if !whole {
		return nil
	}
	names, err := w.out.names(dir)
	if errors.Is(err, unix.EACCES) {
		return nil // what is in it is not known, and so not deleted either
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if !seen[name] {
			if err := w.gone(join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rootEntry compares the view's own folder: an overlay's upper directory begins with the attributes of the lower one.
func (w *walk) rootEntry(e tree.Entry) error {
	low, err := w.out.lstat("")
	if err != nil || low == nil {
		return err
	}
	return w.compare(&e, low)
}

func (w *walk) add(c *Change) {
	c.view = w.view
	c.Path = spec.Path(join(w.at, c.rel))
	var in *ident
	if c.New != nil {
		in = identOf(c.New)
	}
	if w.s.state.wasApplied(c.name(), in) {
		return
	}
	if c.New != nil && special(c.New) && c.New.kind() != unix.S_IFIFO && c.Refused == "" {
		c.Refused = "a " + c.New.What() + " is not made outside"
	}
	if c.New != nil && c.New.laden && c.Refused == "" {
		c.Refused = "it has more extended attributes than are looked at"
	}
	w.s.Changes = append(w.s.Changes, c)
}

func (w *walk) entry(e *tree.Entry, parent dirState) error {
	if e.Gone {
		return w.gone(e.Path)
	}
	untouched := w.copied() && !parent.touched && !e.Ctime.After(w.s.ready)
	low, err := w.out.lstat(e.Path)
	if errors.Is(err, unix.EACCES) {
		if !untouched {
			w.add(&Change{rel: e.Path, Kind: Added, New: metaOf(e), Refused: shutOutside})
		}
		return nil
	}
	if err != nil {
		return err
	}
	if e.IsDir() && !e.Deep {
		st := dirState{hides: parent.hides || e.Opaque || !low.IsDir()}
		if w.copied() {
			moved := e.Ctime.After(w.s.ready)
			st = dirState{touched: parent.touched || moved, moved: parent.touched || moved}
		}
		w.dirs[e.Path] = st
	}
	if !e.IsDir() && w.s.state.wasApplied(join(w.at, e.Path), identOf(metaOf(e))) {
		return nil // its content need not be read
	}
	if untouched {
		return nil // whatever is outside now: nothing was done to it inside
	}
	if low == nil {
		c := &Change{rel: e.Path, Kind: Added, New: metaOf(e)}
		if e.Deep {
			c.Refused = "its path is longer than the kernel takes, and nothing in it was looked at"
		}
		w.add(c)
		return nil
	}
	return w.compare(e, low)
}

// compare tells in what way e differs from what lies below, if it does.
func (w *walk) compare(e *tree.Entry, low *Meta) error {
	c := &Change{rel: e.Path, Old: low, New: metaOf(e)}
	switch {
	case low.kind() != c.New.kind():
		c.Kind = Type
	case c.New.IsLink():
		if low.Target == c.New.Target {
			return nil
		}
		c.Kind = Target
	case c.New.IsFile() && low.Size != c.New.Size:
		c.Kind = Changed
	case c.New.IsFile():
		w.unsure = append(w.unsure, c)
		return nil
	case low.Mode != c.New.Mode:
		c.Kind = Mode
	case c.New.IsDir():
		return w.compareXattrs(c)
	default:
		return nil
	}
	w.add(c)
	if low.IsDir() && c.Kind == Type {
		return w.goneFrom(c)
	}
	return nil
}

// settle compares the contents of files of one size.
func (w *walk) settle(ctx context.Context, c *Change) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	same, err := w.s.same(w.view, c.rel, w.view, c.rel)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE):
		return nil // gone meanwhile: of a view that is in use, or of a project that others work in
	case errors.Is(err, unix.EACCES):
		c.Kind = Changed // nobody can tell; who copied it up had a reason
	case err != nil:
		return err
	case !same:
		c.Kind = Changed
	case c.Old.Mode != c.New.Mode:
		c.Kind = Mode
	default:
		return w.compareXattrs(c)
	}
	w.add(c)
	return nil
}

func (w *walk) compareXattrs(c *Change) error {
	xattrs, err := w.out.xattrs(c.rel)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if c.New.laden || tree.Sum(xattrs) != c.New.sum {
		c.Kind = Xattr
		w.add(c)
	}
	return nil
}

// same compares a file of a view with one outside.
func (s *Set) same(view int, path string, outView int, outPath string) (bool, error) {
	_, in, err := s.tree.Open(view, path)
	if err != nil {
		return false, err
	}
	if in == nil {
		return false, nil
	}
	defer in.Close()
	out, err := s.outside[outView].open(outPath)
	if err != nil {
		return false, err
	}
	defer out.Close()
	return tree.SameContent(int(in.Fd()), int(out.Fd()))
}

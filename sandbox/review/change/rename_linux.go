package change

// What bounds the search for files that were only renamed: it is a convenience, and a program may have left any number of
// files that are all of one size.
const (
	maxCompared = 256 << 20 // bytes that are read
	maxTries    = 20_000    // files that are compared
	triesEach   = 4         // with one file, of one name and of any
)

// likeness is what two files have in common before they are read.
type likeness struct {
	size int64
	mode uint32
	name string // "": whatever it is
}

// renames looks for deleted files with the content of added ones.
type renames struct {
	s           *Set
	deleted     map[likeness][]*Change
	gone        map[*Change]bool
	bytes, left int64
}

// findRenamed makes one change of a deleted file and an added one that has its content, its mode and, where there is a
// choice, its name.
func (s *Set) findRenamed() {
	r := &renames{s: s, deleted: map[likeness][]*Change{}, gone: map[*Change]bool{}, bytes: maxCompared, left: maxTries}
	for _, c := range s.Changes {
		if c.Kind == Deleted && c.Old.IsFile() && c.Old.Size > 0 {
			for _, name := range []string{"", baseOf(c.name())} {
				k := likeness{c.Old.Size, c.Old.Mode, name}
				r.deleted[k] = append(r.deleted[k], c)
			}
		}
	}
	if len(r.deleted) == 0 {
		return
	}
	for _, c := range s.Changes {
		if c.Kind != Added || !c.New.IsFile() || c.New.Size == 0 {
			continue
		}
		k := likeness{c.New.Size, c.New.Mode, baseOf(c.name())}
		d := r.find(c, k)
		if k.name = ""; d == nil {
			d = r.find(c, k)
		}
		if d != nil {
			r.gone[d] = true
			c.Kind, c.From, c.Old, c.old = Renamed, d.Path, d.Old, d
		}
	}
	list := s.Changes[:0]
	for _, c := range s.Changes {
		if !r.gone[c] {
			list = append(list, c)
		}
	}
	s.Changes = list
}

// find returns one of the deleted files that are like c; nil when none of the first has its content.
func (r *renames) find(c *Change, k likeness) *Change {
	candidates := r.deleted[k]
	for len(candidates) > 0 && r.gone[candidates[0]] {
		candidates = candidates[1:]
	}
	r.deleted[k] = candidates
	for _, d := range candidates[:min(len(candidates), triesEach)] {
		if r.gone[d] {
			continue
		}
		if r.left--; r.left < 0 || r.bytes < c.New.Size {
			return nil
		}
		r.bytes -= c.New.Size
		if same, err := r.s.same(c.view, c.rel, d.view, d.rel); err == nil && same {
			return d
		}
	}
	return nil
}

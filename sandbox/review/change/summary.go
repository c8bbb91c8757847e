package change

import "cove/sandbox/spec"

// Summary is a set of changes for people: what there is of each kind, and which to look at.
type Summary struct {
	Counts  map[Kind]int
	Bytes   int64 // of the files that are new or other
	Changes []*Change
	Folded  []Folded // what .gitignore names, a line each
	Warned  int
	Total   int
}

// Folded is a folder, or a file, that git ignores, with how much in it changed.
type Folded struct {
	Path    spec.Path
	Changes int
	Bytes   int64
}

// Summarize counts changes. With all nothing is folded.
func Summarize(changes []*Change, all bool) *Summary {
	s := &Summary{Counts: map[Kind]int{}, Total: len(changes)}
	folded := map[spec.Path]int{}
	for _, c := range changes {
		s.Counts[c.Kind]++
		bytes := int64(0)
		if c.New.IsFile() && c.Kind != Mode && c.Kind != Xattr && c.Kind != Renamed {
			bytes = c.New.Size
		}
		s.Bytes += bytes
		if len(c.Warnings) > 0 {
			s.Warned++
		}
		if c.Ignored == "" || all || c.Conflict != "" || c.Refused != "" {
			s.Changes = append(s.Changes, c)
			continue
		}
		i, ok := folded[c.Ignored]
		if !ok {
			i = len(s.Folded)
			folded[c.Ignored] = i
			s.Folded = append(s.Folded, Folded{Path: c.Ignored})
		}
		s.Folded[i].Changes++
		s.Folded[i].Bytes += bytes
	}
	return s
}

// Kinds are all kinds, in the order in which they are told.
var Kinds = []Kind{Added, Changed, Deleted, Renamed, Type, Target, Mode, Xattr}

// Letter is how `git diff --name-status` calls a kind.
func (k Kind) Letter() string {
	switch k {
	case Added:
		return "A"
	case Deleted:
		return "D"
	case Renamed:
		return "R100"
	case Type:
		return "T"
	}
	return "M"
}

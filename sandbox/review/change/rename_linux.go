package change

// maxCompared bounds how many bytes are read to find out what was only renamed: it is a convenience.
const maxCompared = 256 << 20

// findRenamed makes one change of a deleted file and an added one that has its content, its mode and, where there is a
// choice, its name.
func (s *Set) findRenamed() error {
	type key struct {
		size int64
		mode uint32
	}
	deleted := map[key][]*Change{}
	for _, c := range s.Changes {
		if c.Kind == Deleted && c.Old.IsFile() && c.Old.Size > 0 {
			k := key{c.Old.Size, c.Old.Mode}
			deleted[k] = append(deleted[k], c)
		}
	}
	if len(deleted) == 0 {
		return nil
	}
	left := int64(maxCompared)
	gone := map[*Change]bool{}
	for _, c := range s.Changes {
		if c.Kind != Added || !c.New.IsFile() || c.New.Size == 0 {
			continue
		}
		candidates := deleted[key{c.New.Size, c.New.Mode}]
		const most = 50 // of files that all have one size and mode
		for n, pass := 0, 0; pass < 2; pass++ {
			for _, d := range candidates {
				sameName := baseOf(d.name()) == baseOf(c.name())
				if gone[d] || sameName != (pass == 0) || n == most || left < c.New.Size {
					continue
				}
				n, left = n+1, left-c.New.Size
				if same, err := s.same(c.view, c.rel, d.view, d.rel); err != nil || !same {
					continue
				}
				gone[d] = true
				c.Kind, c.From, c.Old = Renamed, d.Path, d.Old
				c.old = d
				break
			}
			if c.Kind == Renamed {
				break
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	list := s.Changes[:0]
	for _, c := range s.Changes {
		if !gone[c] {
			list = append(list, c)
		}
	}
	s.Changes = list
	return nil
}

package change

import "cove/sandbox/review/tree"

// before tells that nothing was done to it since the view began.
func (s *Set) before(t tree.Time) bool { return s.began.After(t) }

// conflict says why a change is not applied without being forced; "" where there is no reason.
func (s *Set) conflict(c *Change) string {
	if c.old != nil { // renamed
		if why := s.conflict(c.old); why != "" {
			return why
		}
	}
	if s.accepted(c) {
		return ""
	}
	old := c.Old
	if c.Kind == Renamed {
		old = nil
	}
	switch {
	case old == nil && c.Kind == Added:
		return s.vanished(c)
	case old == nil:
		return ""
	case old.IsDir() && c.Kind != Mode && c.Kind != Xattr:
		return "" // what is in it is looked at by itself; a folder in which something is left stays
	case s.before(old.Ctime) || s.state.isOurs(c.name(), identOf(old)):
		return ""
	case old.IsDir():
		return "the folder changed outside since the view began"
	case c.Kind == Added:
		return "it appeared outside since the view began"
	}
	return "it changed outside since the view began"
}

// vanished tells of something that the view has and the project has not, whether it may have been there: what was copied up
// from below says so, and the folder that it was in has changed since.
func (s *Set) vanished(c *Change) string {
	if !c.New.origin {
		return ""
	}
	out := s.outside[c.view]
	for dir := parentOf(c.rel); ; dir = parentOf(dir) {
		m, err := out.lstat(dir)
		if err == nil && m != nil {
			at := join(s.record.Views[c.view].Path, dir)
			if s.before(m.Ctime) || s.state.isOurs(at, identOf(m)) {
				return ""
			}
			return "it may have been deleted or moved outside since the view began"
		}
		if dir == "" {
			return ""
		}
	}
}

// accepted tells that an apply which was cut short has looked at what is outside, and that it is that still.
func (s *Set) accepted(c *Change) bool {
	if s.journal == nil {
		return false
	}
	st := s.journal.at(c.name())
	if st == nil {
		return false
	}
	var now *ident
	if c.Kind != Renamed {
		now = identOf(c.Old)
	}
	if ino, ok := s.journal.made[st.n]; ok && now != nil && ino == now.Ino && st.New != nil && s.asLeft(c.name(), st.New, now) {
		return true // what that apply has made; a folder may lack its mode yet
	}
	if st.Old == nil {
		return now == nil
	}
	return st.Old.ident.moved(now)
}

package stage

import "golang.org/x/sys/unix"

// links are the first names of files that have several, by a hash of the inode.
type links struct {
	t table
	p trail
}

func newLinks(s *spill) links { return links{table{s: s}, trail{s: s}} }

// first returns the name that the file st had when it came for the first time, or "" and makes it path.
func (l *links) first(st *unix.Stat_t, path string) string {
	key := spread(spread(st.Dev) ^ st.Ino)
	if at := l.t.get(key); at != 0 {
		return l.p.at(int64(at))
	}
	l.t.set(key, uint64(l.p.add(nil, path)))
	return ""
}

package stage

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// A mark is something that an unpacking knows of a path in its layer. It goes with what is there: see forget.
type mark uint64

const (
	markDir      mark = 1 << iota // a directory of this layer, by its real path
	markTimed                     // one that gets its times at the end
	markCopied                    // a file that is here only because a hard link needed it from below
	markBorrowed                  // a directory that no entry is in so far, only such files and markers
	markOpaque                    // a directory below which nothing lower shows
	markEmptied                   // of them, those that an opaque marker names
	markWhiteout
)

// marks know paths by a hash. Two paths of one hash, one pair in 10^19, would be one in what is made of them: a layer that is
// wrong in one place, and nothing outside. Those marks that are gone through at the end have trails of the paths.
type marks struct {
	s      *spill
	seed   maphash.Seed
	t      table
	n      [8]int // of each mark
	trails map[mark]*trail
	bytes  int64 // that were written in them
	most   int64
}

func newMarks(s *spill, most int64) *marks {
	m := &marks{s: s, seed: maphash.MakeSeed(), t: table{s: s}, trails: map[mark]*trail{}, most: most}
	for _, k := range []mark{markTimed, markCopied, markBorrowed, markWhiteout} {
		m.trails[k] = &trail{s: s}
	}
	return m
}

func (m *marks) hash(path string) uint64 { return maphash.String(m.seed, path) }

func (m *marks) count(k mark) *int { return &m.n[bits.TrailingZeros64(uint64(k))] }

// any tells whether anything has that mark.
func (m *marks) any(k mark) bool { return *m.count(k) > 0 }

func (m *marks) has(path string, k mark) bool {
	return m.any(k) && m.t.get(m.hash(path))&uint64(k) != 0
}

// add marks a path.
func (m *marks) add(path string, k mark) error {
	if !m.put(path, k) || m.trails[k] == nil {
		return m.s.err
	}
	return m.write(k, nil, path)
}

func (m *marks) put(path string, k mark) (isNew bool) {
	key := m.hash(path)
	old := m.t.get(key)
	if old&uint64(k) != 0 {
		return false
	}
	m.t.set(key, old|uint64(k))
	*m.count(k)++
	return true
}

func (m *marks) write(k mark, head []byte, path string) error {
	if m.bytes += int64(len(path)) + aroundName; m.bytes > m.most {
		return &layer.LimitError{What: "names", Max: m.most}
	}
	m.trails[k].add(head, path)
	return m.s.err
}

// aroundName is what a name takes beside its bytes.
const aroundName = 40

func (m *marks) drop(path string, k mark) {
	if !m.any(k) {
		return
	}
	key := m.hash(path)
	if old := m.t.get(key); old&uint64(k) != 0 {
		m.t.set(key, old&^uint64(k))
		*m.count(k)--
	}
}

// forget takes all marks off a path.
func (m *marks) forget(path string) {
	key := m.hash(path)
	old := m.t.get(key)
	if old == 0 {
		return
	}
	m.t.set(key, 0)
	for i := range m.n {
		m.n[i] -= int(old >> i & 1)
	}
}

// time notes the times that the directory path gets at the end, instead of those before.
func (m *marks) time(path string, t times) error {
	m.put(path, markTimed)
	a, c := timespec(t.atime), timespec(t.mtime)
	var head [headSize]byte
	for i, n := range []int64{a.Sec, a.Nsec, c.Sec, c.Nsec} {
		binary.LittleEndian.PutUint64(head[8*i:], uint64(n))
	}
	return m.write(markTimed, head[:], path)
}

const headSize = 4 * 8

// take goes through the paths that have a mark, the latest first, and takes it off them: what was made in a directory comes
// before it. What a directory is marked with once more after it has been removed comes once.
func (m *marks) take(k mark, f func(path string) error) error {
	return m.records(k, 0, func(path string, _ []byte) error { return f(path) })
}

// takeTimes is take for directories and their times.
func (m *marks) takeTimes(f func(path string, ts []unix.Timespec) error) error {
	return m.records(markTimed, headSize, func(path string, head []byte) error {
		n := func(i int) int64 { return int64(binary.LittleEndian.Uint64(head[8*i:])) }
		return f(path, []unix.Timespec{{Sec: n(0), Nsec: n(1)}, {Sec: n(2), Nsec: n(3)}})
	})
}

func (m *marks) records(k mark, head int, f func(path string, head []byte) error) error {
	err := m.trails[k].back(func(record []byte) error {
		path := string(record[head:])
		if !m.has(path, k) {
			return m.s.err
		}
		m.drop(path, k)
		return f(path, record[:head])
	})
	if err == nil {
		err = m.s.err
	}
	return err
}

package stage

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A directory may hold millions of names. Who needs no order takes them as they come; who needs them in order gets them from
// a sorter, which has as many as it may in memory: the least of those that have not had their turn. For the others it reads
// the directory again.

// eachName calls f with the names in the directory fd, without "." and "..". It may remove them: those that are left out by
// that, as POSIX lets a file system do, are found by who reads the directory again.
func eachName(fd int, f func(name string) error) error {
	buf := make([]byte, 4<<10) // little: a tree may be 2000 deep
	for {
		n, err := getdents(fd, buf)
		if n == 0 || err != nil {
			return err
		}
		for b := buf[:n]; len(b) > 0; {
			var name []byte
			if name, b = dirent(b); name == nil {
				continue
			}
			if err := f(string(name)); err != nil {
				return err
			}
		}
	}
}

func getdents(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Getdents(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// dirent takes the first name off what getdents64(2) has given. It is nil for what is none, and for "." and "..".
func dirent(b []byte) (name, rest []byte) {
	const nameAt = 8 + 8 + 2 + 1
	if len(b) < nameAt {
		return nil, nil
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < nameAt || size > len(b) {
		return nil, nil
	}
	name, rest = b[nameAt:size], b[size:]
	if end := bytes.IndexByte(name, 0); end >= 0 {
		name = name[:end]
	}
	if binary.NativeEndian.Uint64(b) == 0 || string(name) == "." || string(name) == ".." {
		name = nil
	}
	return name, rest
}

// heap is the memory of a sorter: names, each after its length.
type heap struct {
	text []byte
	at   []uint32 // where each begins
}

// manyNames is the one large heap of a stage. Who has it waits for nobody who might.
var manyNames struct {
	sync.Mutex
	heap
}

// name is that which begins at i.
func (h *heap) name(i uint32) []byte { return h.text[i+1 : i+1+uint32(h.text[i])] }

func (h *heap) sort() { slices.SortFunc(h.at, h.compare) }

func (h *heap) compare(a, b uint32) int { return bytes.Compare(h.name(a), h.name(b)) }

// least puts the k least names first, in no order (quickselect, which takes a part of the time that sorting does).
func (h *heap) least(k int) {
	for at := h.at; k > 0 && k < len(at); {
		// At random: of any other choice an image could make the worst.
		pivot, lo, hi := at[rand.IntN(len(at))], 0, len(at)-1
		for lo <= hi {
			for h.compare(at[lo], pivot) < 0 {
				lo++
			}
			for h.compare(at[hi], pivot) > 0 {
				hi--
			}
			if lo <= hi {
				at[lo], at[hi] = at[hi], at[lo]
				lo, hi = lo+1, hi-1
			}
		}
		switch { // up to hi is no more than the pivot, from lo on no less, and what is between is it
		case k <= hi:
			at = at[:hi+1]
		case k >= lo:
			at, k = at[lo:], k-lo
		default:
			return
		}
	}
}

func (h *heap) add(name []byte) {
	h.at = append(h.at, uint32(len(h.text)))
	h.text = append(append(h.text, byte(len(name))), name...)
}

// size is what the names come to.
func (h *heap) size() int { return len(h.text) + 4*len(h.at) }

func (h *heap) reset() { h.text, h.at = h.text[:0], h.at[:0] }

// A sorter gives the names in a directory in the order of their bytes: that in which a directory is read is the file
// system's own, and another one tomorrow.
type sorter struct {
	fd   int
	h    *heap
	big  bool // h is the large one
	next int
	more bool   // there are names above those in h
	last []byte // of those that were in h before
}

// openSorted opens the directory path. Its names are in the order of their bytes.
func openSorted(path string) (*sorter, error) {
	fd, err := openRetry(unix.AT_FDCWD, orDot(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &sorter{fd: fd, h: &heap{}}
	if err := s.fill(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sorter) close() {
	if s.big {
		manyNames.Unlock()
	}
	unix.Close(s.fd)
}

// peek returns the next name without taking it; nil at the end. It is good until the next take.
func (s *sorter) peek() ([]byte, error) {
	if s.next == len(s.h.at) {
		if !s.more {
			return nil, nil
		}
		s.last = append(s.last[:0], s.h.name(s.h.at[s.next-1])...)
		if _, err := unix.Seek(s.fd, 0, unix.SEEK_SET); err != nil {
			return nil, err
		}
		if err := s.fill(); err != nil || len(s.h.at) == 0 {
			return nil, err
		}
	}
	return s.h.name(s.h.at[s.next]), nil
}

func (s *sorter) take() { s.next++ }

// fill reads the directory, from its beginning, for the least names above the last.
func (s *sorter) fill() error {
	s.h.reset()
	s.next, s.more = 0, false
	var cut []byte // what is above it has to wait
	buf := make([]byte, 32<<10)
	for {
		n, err := getdents(s.fd, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			s.h.sort()
			return nil
		}
		for b := buf[:n]; len(b) > 0; {
			var name []byte
			if name, b = dirent(b); name == nil || s.last != nil && bytes.Compare(name, s.last) <= 0 {
				continue
			}
			if cut != nil && bytes.Compare(name, cut) > 0 {
				continue
			}
			if s.full() {
				cut = s.shrink(cut)
				if bytes.Compare(name, cut) > 0 {
					continue
				}
			}
			s.h.add(name)
		}
	}
}

// full tells whether there is no room for another name, with the large heap too.
func (s *sorter) full() bool {
	if !s.big && s.h.size() > bounds.names {
		few := s.h
		manyNames.Lock()
		if s.h = &manyNames.heap; s.h.text == nil {
			s.h.text, s.h.at = make([]byte, 0, bounds.many/5*4+256), make([]uint32, 0, bounds.many/20+1)
		}
		s.h.reset()
		s.h.text, s.h.at = append(s.h.text, few.text...), append(s.h.at, few.at...)
		s.big = true
	}
	return s.big && len(s.h.at) > 1 && (len(s.h.text) > bounds.many/5*4 || len(s.h.at) > bounds.many/20)
}

// shrink takes out the greatest quarter of the names, and returns the greatest of the others.
func (s *sorter) shrink(cut []byte) []byte {
	keep := max(len(s.h.at)/4*3, 1)
	s.h.least(keep)
	s.h.at = s.h.at[:keep]
	s.more = true
	cut = append(cut[:0], s.h.name(slices.MaxFunc(s.h.at, s.h.compare))...)
	// In the order of where they begin each can be moved down.
	slices.Sort(s.h.at)
	end := uint32(0)
	for i, at := range s.h.at {
		n := uint32(s.h.text[at]) + 1
		copy(s.h.text[end:], s.h.text[at:at+n])
		s.h.at[i] = end
		end += n
	}
	s.h.text = s.h.text[:end]
	return cut
}

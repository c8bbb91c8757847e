package stage

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"cove/fetch/layer"
)

// What an unpacking remembers grows with the layer, and a stage with hundreds of thousands of folders on its mind would
// take more memory than all the rest of a pull. So it remembers in memory what ordinary layers come to, and beyond that
// in files that have no name, on the layer's own file system.

// bounds are those of what is in memory. Tests have others.
var bounds = struct {
	tables  int64 // entries of all tables of a stage
	trail   int   // bytes of a trail
	names   int   // bytes of a directory's names, of each directory that is read
	many    int   // and of one directory at a time
	subdirs int   // bytes of the names of directories that are still to be listed
}{200_000, 128 << 10, 256 << 10, 8 << 20, 1 << 20}

// adjust lets a test set bounds for a stage.
var adjust = func(layer.Hello) {}

// A spill makes the files for what one unpacking remembers. The first error stays, and what is remembered after it is
// worth nothing: who asks looks at err in time.
type spill struct {
	file func() (*os.File, error) // makes an empty file that has no name
	room *atomic.Int64            // entries that may still be in memory, of all tables
	open []*os.File
	held int64 // of room, by this one's tables
	err  error
}

func (s *spill) fail(err error) {
	if s.err == nil && err != nil {
		s.err = fmt.Errorf("remember names on the disk: %w", err)
	}
}

func (s *spill) make() *os.File {
	f, err := s.file()
	if err != nil {
		s.fail(err)
		return nil
	}
	s.open = append(s.open, f)
	return f
}

// take asks for room for n entries in memory, and gives it back where n is negative.
func (s *spill) take(n int64) bool {
	if s.room.Add(-n) < 0 && n > 0 {
		s.room.Add(n)
		return false
	}
	s.held += n
	return true
}

func (s *spill) close() {
	for _, f := range s.open {
		f.Close()
	}
	s.open = nil
	s.take(-s.held)
}

// A table maps numbers to numbers that are not 0: hashes, which are spread evenly. In a file it is a row of slots, in which
// a key's is the first that has it from where its upper bits point.
type table struct {
	s    *spill
	mem  map[uint64]uint64
	file *os.File
	bits uint // of the number of slots
	used int  // slots that have a key
}

const (
	slotSize = 16
	window   = 16 // slots that are read at once
)

// get returns 0 for what is not there.
func (t *table) get(key uint64) uint64 {
	if t.file == nil {
		return t.mem[key]
	}
	value, _, _ := t.seek(key)
	return value
}

// set takes a key out when the value is 0.
func (t *table) set(key, value uint64) {
	if t.file == nil && t.setMem(key, value) || t.s.err != nil {
		return
	}
	_, at, there := t.seek(key)
	if !there && value == 0 {
		return
	}
	var slot [slotSize]byte
	binary.LittleEndian.PutUint64(slot[:], max(key, 1))
	binary.LittleEndian.PutUint64(slot[8:], value)
	if _, err := t.file.WriteAt(slot[:], at); err != nil {
		t.s.fail(err)
		return
	}
	if !there {
		if t.used++; t.used > 1<<t.bits/2 {
			t.grow()
		}
	}
}

// setMem is set in memory, as long as there is room.
func (t *table) setMem(key, value uint64) bool {
	_, there := t.mem[key]
	switch {
	case there && value == 0:
		delete(t.mem, key)
		t.s.take(-1)
	case there:
		t.mem[key] = value
	case value == 0:
	case t.s.take(1):
		if t.mem == nil {
			t.mem = map[uint64]uint64{}
		}
		t.mem[key] = value
	default:
		t.spill()
		return false
	}
	return true
}

// spill moves the table into a file.
func (t *table) spill() {
	for t.bits = 12; 1<<t.bits < 8*len(t.mem); t.bits++ {
	}
	if !t.newFile() {
		return
	}
	mem := t.mem
	t.mem = nil
	t.s.take(-int64(len(mem)))
	for key, value := range mem {
		t.set(key, value)
	}
}

func (t *table) newFile() bool {
	f := t.s.make()
	if f == nil {
		return false
	}
	t.s.fail(f.Truncate(slotSize << t.bits))
	t.file, t.used = f, 0
	return t.s.err == nil
}

// seek returns a key's value and slot, or the slot in which it would be.
func (t *table) seek(key uint64) (value uint64, at int64, there bool) {
	var buf [window * slotSize]byte
	slots := uint64(1) << t.bits
	key = max(key, 1) // 0 marks a free slot
	for i := key >> (64 - t.bits); t.s.err == nil; {
		part := buf[:min(window, slots-i)*slotSize]
		if _, err := t.file.ReadAt(part, int64(i*slotSize)); err != nil {
			t.s.fail(err)
			break
		}
		for ; len(part) > 0; part, i = part[slotSize:], i+1 {
			switch binary.LittleEndian.Uint64(part) {
			case key:
				return binary.LittleEndian.Uint64(part[8:]), int64(i * slotSize), true
			case 0:
				return 0, int64(i * slotSize), false
			}
		}
		i %= slots
	}
	return 0, 0, false
}

// grow moves the table into a file four times as large, without the keys that were taken out.
func (t *table) grow() {
	old, size := t.file, int64(slotSize)<<t.bits
	if t.bits += 2; !t.newFile() {
		return
	}
	buf := make([]byte, 16<<10)
	for off := int64(0); off < size && t.s.err == nil; off += int64(len(buf)) {
		if _, err := old.ReadAt(buf, off); err != nil {
			t.s.fail(err)
			return
		}
		for b := buf; len(b) > 0; b = b[slotSize:] {
			if value := binary.LittleEndian.Uint64(b[8:]); value != 0 {
				t.set(binary.LittleEndian.Uint64(b), value)
			}
		}
	}
	old.Close()
}

// A trail is a row of records, which is read from its end: the latest word on something comes first.
type trail struct {
	s    *spill
	file *os.File
	size int64 // of the file
	buf  []byte
}

// add adds a record, which is head and text. Where it ends is never 0.
func (t *trail) add(head []byte, text string) (end int64) {
	t.buf = append(append(t.buf, head...), text...)
	t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(len(head)+len(text)))
	end = t.size + int64(len(t.buf))
	if len(t.buf) > bounds.trail {
		t.flush()
	}
	return end
}

// at returns the record that ends there.
func (t *trail) at(end int64) string {
	b := t.buf
	if end > t.size {
		b = b[:end-t.size]
	} else {
		b = make([]byte, min(end, maxRecord))
		if _, err := t.file.ReadAt(b, end-int64(len(b))); err != nil {
			t.s.fail(err)
			return ""
		}
	}
	n := len(b) - 2 - int(binary.LittleEndian.Uint16(b[len(b)-2:]))
	return string(b[n : len(b)-2])
}

// maxRecord is more than a path and what goes with it.
const maxRecord = 8 << 10

func (t *trail) flush() {
	if t.file == nil {
		t.file = t.s.make()
	}
	if t.s.err != nil {
		return
	}
	if _, err := t.file.WriteAt(t.buf, t.size); err != nil {
		t.s.fail(err)
		return
	}
	t.size += int64(len(t.buf))
	t.buf = t.buf[:0]
}

// back calls f with each record, from the last to the first.
func (t *trail) back(f func(record []byte) error) error {
	if _, err := backward(t.buf, f); err != nil || t.file == nil {
		return err
	}
	block := make([]byte, 64<<10) // a record has a path at most, and a little more
	for end := t.size; end > 0; {
		start := max(0, end-int64(len(block)))
		part := block[:end-start]
		if _, err := t.file.ReadAt(part, start); err != nil {
			t.s.fail(err)
			return t.s.err
		}
		left, err := backward(part, f)
		if err != nil {
			return err
		}
		if end = start + int64(left); left == len(part) {
			return fmt.Errorf("remember names on the disk: what is read is not what was written")
		}
	}
	return nil
}

// backward gives the records at the end of b, and returns how much comes before them.
func backward(b []byte, f func([]byte) error) (left int, err error) {
	for len(b) >= 2 {
		n := int(binary.LittleEndian.Uint16(b[len(b)-2:])) + 2
		if n > len(b) {
			break
		}
		if err := f(b[len(b)-n : len(b)-2]); err != nil {
			return 0, err
		}
		b = b[:len(b)-n]
	}
	return len(b), nil
}

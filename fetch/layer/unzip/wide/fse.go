package wide

import "math/bits"

// A state is one of an FSE decoder's: a symbol, and how the next state is read (RFC 8878 4.1).
type state struct {
	symbol uint8
	bits   uint8  // to read
	base   uint16 // to add to them
}

// A table is an FSE decoder's states, two to the power of log of them; none: it is not set.
type table struct {
	states []state
	log    uint8
}

const maxLog = 9 // no table of a sequence has more

// single is the table of one symbol, over and over.
func (t *table) single(symbol uint8) {
	t.states, t.log = append(t.states[:0], state{symbol: symbol}), 0
}

// read reads a table's description and returns how many bytes it took.
func (t *table) read(in []byte, most int, mostLog uint8) (int, error) {
	f := &forward{in: in}
	log := uint8(f.peek(4)) + 5
	f.at += 4
	if log > mostLog {
		return 0, errCorrupt
	}
	var counts [64]int16
	n, left := 0, 1<<log
	for left > 0 {
		if n > most {
			return 0, errCorrupt
		}
		count := f.count(left)
		counts[n] = count
		n++
		if count < 0 {
			left--
		}
		left -= max(int(count), 0)
		if count != 0 {
			continue
		}
		for more := uint32(3); more == 3; { // zeros that follow
			more = f.peek(2)
			f.at += 2
			if n += int(more); n > most {
				return 0, errCorrupt
			}
		}
	}
	took, err := f.end()
	if err != nil {
		return 0, err
	}
	return took, t.build(counts[:n], log)
}

// count reads how many of the left states a symbol has; -1 is "less than one". What cannot be
// more than left takes no more bits than that needs, and the smaller ones among them one less.
func (f *forward) count(left int) int16 {
	n := bits.Len(uint(left + 1))
	v := int(f.peek(n))
	low, spare := 1<<(n-1)-1, 1<<n-1-(left+1)
	if v&low < spare {
		f.at += n - 1
		return int16(v&low) - 1
	}
	f.at += n
	if v > low {
		v -= spare
	}
	return int16(v) - 1
}

// build spreads the symbols over the states.
func (t *table) build(counts []int16, log uint8) error {
	size := 1 << log
	if cap(t.states) < size {
		t.states = make([]state, size, 1<<maxLog)
	}
	t.states, t.log = t.states[:size], log
	var next [64]uint16
	high := size
	for s, c := range counts {
		next[s] = uint16(max(c, 0))
		if c < 0 {
			high--
			t.states[high].symbol = uint8(s)
			next[s] = 1
		}
	}
	step, at := size>>1+size>>3+3, 0
	for s, c := range counts {
		for range c {
			t.states[at].symbol = uint8(s)
			at = (at + step) & (size - 1)
			for at >= high {
				at = (at + step) & (size - 1)
			}
		}
	}
	if at != 0 {
		return errCorrupt
	}
	for i := range t.states {
		s := &t.states[i]
		n := next[s.symbol]
		next[s.symbol]++
		s.bits = log - uint8(bits.Len16(n)-1)
		s.base = n<<s.bits - uint16(size)
	}
	return nil
}

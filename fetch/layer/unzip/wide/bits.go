package wide

import (
	"encoding/binary"
	"math/bits"
)

// padding is what must be readable beyond the end of what a reader reads.
const padding = 8

// A backward reads a bit stream from its end, as FSE and its users write it (RFC 8878 4.1).
type backward struct {
	in   []byte // padding beyond its length
	left int    // bits not read yet; below zero when more were read than there are
}

// newBackward finds the last bit: the highest that is set is padding and no part of the stream.
func newBackward(in []byte) (backward, error) {
	if len(in) == 0 || in[len(in)-1] == 0 {
		return backward{}, errCorrupt
	}
	return backward{in, len(in)*8 - bits.LeadingZeros8(in[len(in)-1]) - 1}, nil
}

// read returns the next n bits, n being below 57. Beyond the start there are zeros, and left tells.
func (b *backward) read(n uint8) uint64 {
	b.left -= int(n)
	at, mask := b.left, uint64(1)<<n-1
	if at < 0 {
		if at+int(n) <= 0 {
			return 0
		}
		return binary.LittleEndian.Uint64(b.in[:padding]) << -at & mask
	}
	i := at >> 3
	return binary.LittleEndian.Uint64(b.in[i:i+8:cap(b.in)]) >> (at & 7) & mask
}

// A forward reads a bit stream from its start: an FSE table's description is written so.
type forward struct {
	in []byte
	at int // in bits
}

func (f *forward) peek(n int) uint32 {
	var v uint32
	for i := f.at >> 3; i <= (f.at+n-1)>>3; i++ {
		if i < len(f.in) {
			v |= uint32(f.in[i]) << (i*8 - f.at&^7)
		}
	}
	return v >> (f.at & 7) & (1<<n - 1)
}

// end returns how many bytes were read, the last one perhaps in part.
func (f *forward) end() (int, error) {
	n := (f.at + 7) >> 3
	if n > len(f.in) {
		return 0, errCorrupt
	}
	return n, nil
}

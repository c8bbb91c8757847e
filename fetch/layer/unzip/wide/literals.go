package wide

import (
	"github.com/klauspost/compress/huff0"
)

// literals reads a block's literals section (RFC 8878 3.1.1.3.1) and returns the literals and what follows it.
func (d *Decoder) literals(in []byte) (literals, rest []byte, err error) {
	if len(in) == 0 {
		return nil, nil, errCorrupt
	}
	kind, format := in[0]&3, in[0]>>2&3
	if kind > 1 {
		return d.huffman(in, kind == 3, format)
	}
	header, shift := 1, 3
	switch format {
	case 1:
		header, shift = 2, 4
	case 3:
		header, shift = 3, 4
	}
	bits, err := little(in, header)
	if err != nil {
		return nil, nil, err
	}
	size := int(bits >> shift)
	in = in[header:]
	if size > maxBlock {
		return nil, nil, errCorrupt
	}
	if kind == 0 {
		if size > len(in) {
			return nil, nil, errCorrupt
		}
		return in[:size], in[size:], nil
	}
	if len(in) == 0 {
		return nil, nil, errCorrupt
	}
	literals = d.lits[:size]
	for i := range literals {
		literals[i] = in[0]
	}
	return literals, in[1:], nil
}

// huffman reads literals in one stream or four, with a table of their own or, again, the one before.
func (d *Decoder) huffman(in []byte, again bool, format byte) (literals, rest []byte, err error) {
	header, width := 3, 10
	switch format {
	case 2:
		header, width = 4, 14
	case 3:
		header, width = 5, 18
	}
	bits, err := little(in, header)
	if err != nil {
		return nil, nil, err
	}
	size, packed := int(bits>>4&(1<<width-1)), int(bits>>(4+width))
	in = in[header:]
	if size > maxBlock || packed > len(in) {
		return nil, nil, errCorrupt
	}
	in, rest = in[:packed:packed], in[packed:]
	if !again {
		d.hasHuff = false
		if d.huff, in, err = huff0.ReadTable(in, d.huff); err != nil {
			return nil, nil, errCorrupt
		}
		d.hasHuff = true
	}
	if !d.hasHuff {
		return nil, nil, errCorrupt
	}
	if format == 0 {
		literals, err = d.huff.Decoder().Decompress1X(d.lits[:0:size], in)
	} else {
		literals, err = d.huff.Decoder().Decompress4X(d.lits[:0:size], in)
	}
	if err != nil || len(literals) != size {
		return nil, nil, errCorrupt
	}
	return literals, rest, nil
}

// little reads n bytes, the lowest first.
func little(in []byte, n int) (v uint64, err error) {
	if len(in) < n {
		return 0, errCorrupt
	}
	for i := range n {
		v |= uint64(in[i]) << (8 * i)
	}
	return v, nil
}

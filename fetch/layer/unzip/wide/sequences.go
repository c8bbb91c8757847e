package wide

import "sync"

// A code's base value and how many extra bits are added to it (RFC 8878 3.1.1.3.2.1.1).
type code struct {
	base uint32
	bits uint8
}

// A kind is what one of a sequence's three numbers is coded with.
type kind struct {
	codes    []code
	log      uint8 // the most that a table of its own has
	standard table // which it has when the block says nothing else
}

const literalLength, offset, matchLength = 0, 1, 2 // in the order of their tables

// kinds are the RFC's tables (3.1.1.3.2.2).
var kinds = sync.OnceValue(func() *[3]kind {
	k := &[3]kind{
		literalLength: {log: 9, codes: codes(16, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)},
		offset:        {log: 8},
		matchLength:   {log: 9, codes: codes(32, 3, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)},
	}
	for n := range uint8(32) {
		k[offset].codes = append(k[offset].codes, code{1 << n, n})
	}
	standards := [3][]int16{
		literalLength: {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1},
		offset:        {1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1},
		matchLength: {1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
			-1, -1, -1, -1, -1, -1, -1},
	}
	for i, log := range []uint8{6, 5, 6} {
		if k[i].standard.build(standards[i], log) != nil {
			panic("the RFC's own tables are sound")
		}
	}
	return k
})

// codes has plain codes that are a value each, from first, and then some with extra bits, each one starting where the
// one before ends.
func codes(plain int, first uint32, extra ...uint8) []code {
	out := make([]code, 0, plain+len(extra))
	for range plain {
		out = append(out, code{first, 0})
		first++
	}
	for _, n := range extra {
		out = append(out, code{first, n})
		first += 1 << n
	}
	return out
}

// sequences carries out a block's sequences section: literals and matches in turn, appended to the history.
func (d *Decoder) sequences(in, literals []byte) error {
	count, in, err := sequenceCount(in)
	if err != nil {
		return err
	}
	if count == 0 {
		if len(in) != 0 {
			return errCorrupt
		}
		d.history.literals(literals)
		return nil
	}
	if in, err = d.readTables(in); err != nil {
		return err
	}
	bits, err := newBackward(in)
	if err != nil {
		return err
	}
	ll, of, ml := d.tables[literalLength], d.tables[offset], d.tables[matchLength]
	lls, ofs, mls := bits.read(ll.log), bits.read(of.log), bits.read(ml.log)
	k := kinds()
	for n := range count {
		l, o, m := ll.states[lls], of.states[ofs], ml.states[mls]
		oc, mc, lc := k[offset].codes[o.symbol], k[matchLength].codes[m.symbol], k[literalLength].codes[l.symbol]
		distance := int64(oc.base) + int64(bits.read(oc.bits))
		match := int(mc.base) + int(bits.read(mc.bits))
		plain := int(lc.base) + int(bits.read(lc.bits))
		if bits.left < 0 || plain > len(literals) || d.history.block()+plain+match > maxBlock {
			return errCorrupt
		}
		d.history.literals(literals[:plain])
		literals = literals[plain:]
		if distance = d.repeated(distance, plain == 0); distance == 0 || uint64(distance) > d.window {
			return errCorrupt
		}
		if err := d.history.match(distance, match); err != nil {
			return err
		}
		if n < count-1 {
			lls = uint64(l.base) + bits.read(l.bits)
			mls = uint64(m.base) + bits.read(m.bits)
			ofs = uint64(o.base) + bits.read(o.bits)
		}
	}
	if bits.left != 0 || d.history.block()+len(literals) > maxBlock {
		return errCorrupt
	}
	d.history.literals(literals)
	return nil
}

func sequenceCount(in []byte) (int, []byte, error) {
	switch {
	case len(in) >= 1 && in[0] < 128:
		return int(in[0]), in[1:], nil
	case len(in) >= 2 && in[0] < 255:
		return int(in[0]-128)<<8 + int(in[1]), in[2:], nil
	case len(in) >= 3:
		return int(in[1]) + int(in[2])<<8 + 0x7f00, in[3:], nil
	}
	return 0, nil, errCorrupt
}

// readTables reads which tables the block has, and those that are new.
func (d *Decoder) readTables(in []byte) ([]byte, error) {
	if len(in) == 0 || in[0]&3 != 0 {
		return nil, errCorrupt
	}
	modes := in[0]
	in = in[1:]
	for i, k := range kinds() {
		switch modes >> (6 - 2*i) & 3 {
		case 0:
			d.tables[i].states, d.tables[i].log = append(d.tables[i].states[:0], k.standard.states...), k.standard.log
		case 1:
			if len(in) == 0 || int(in[0]) >= len(k.codes) {
				return nil, errCorrupt
			}
			d.tables[i].single(in[0])
			in = in[1:]
		case 2:
			n, err := d.tables[i].read(in, len(k.codes)-1, k.log)
			if err != nil {
				return nil, err
			}
			in = in[n:]
		case 3:
			if len(d.tables[i].states) == 0 {
				return nil, errCorrupt
			}
		}
	}
	return in, nil
}

// repeated turns an offset's value into a distance: the first three values are distances that came last (RFC 8878
// 3.1.1.5), shifted by one where no literals come before the match. 0 is no distance.
func (d *Decoder) repeated(value int64, noLiterals bool) int64 {
	last := &d.last
	if value > 3 {
		last[0], last[1], last[2] = value-3, last[0], last[1]
		return last[0]
	}
	if noLiterals {
		value++
	}
	switch value {
	case 2:
		last[0], last[1] = last[1], last[0]
	case 3:
		last[0], last[1], last[2] = last[2], last[0], last[1]
	case 4:
		last[0], last[1], last[2] = last[0]-1, last[0], last[1]
	}
	return last[0]
}

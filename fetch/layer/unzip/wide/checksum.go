package wide

import (
	"encoding/binary"
	"math/bits"
)

// checksum is XXH64 with the seed 0, of which a frame may hold the lower half (RFC 8878 3.1.1).
type checksum struct {
	lanes [4]uint64
	total uint64
	rest  []byte // less than a stripe
}

const (
	stripe = 32
	prime1 = 0x9E3779B185EBCA87
	prime2 = 0xC2B2AE3D27D4EB4F
	prime3 = 0x165667B19E3779F9
	prime4 = 0x85EBCA77C2B2AE63
	prime5 = 0x27D4EB2F165667C5
)

func newChecksum() *checksum {
	one, two := uint64(prime1), uint64(prime2)
	return &checksum{lanes: [4]uint64{one + two, two, 0, -one}, rest: make([]byte, 0, stripe)}
}

func round(lane, v uint64) uint64 { return bits.RotateLeft64(lane+v*prime2, 31) * prime1 }

func (c *checksum) write(b []byte) {
	c.total += uint64(len(b))
	if len(c.rest) > 0 {
		n := min(stripe-len(c.rest), len(b))
		c.rest = append(c.rest, b[:n]...)
		if b = b[n:]; len(c.rest) < stripe {
			return
		}
		c.stripe(c.rest)
		c.rest = c.rest[:0]
	}
	for ; len(b) >= stripe; b = b[stripe:] {
		c.stripe(b)
	}
	c.rest = append(c.rest, b...)
}

func (c *checksum) stripe(b []byte) {
	for i := range c.lanes {
		c.lanes[i] = round(c.lanes[i], binary.LittleEndian.Uint64(b[8*i:]))
	}
}

func (c *checksum) value() uint64 {
	h := uint64(prime5)
	if c.total >= stripe {
		h = 0
		for i, n := range []int{1, 7, 12, 18} {
			h += bits.RotateLeft64(c.lanes[i], n)
		}
		for _, lane := range c.lanes {
			h = (h^round(0, lane))*prime1 + prime4
		}
	}
	h += c.total
	b := c.rest
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64(h^round(0, binary.LittleEndian.Uint64(b)), 27)*prime1 + prime4
	}
	if len(b) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(b))*prime1, 23)*prime2 + prime3
		b = b[4:]
	}
	for _, v := range b {
		h = bits.RotateLeft64(h^uint64(v)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

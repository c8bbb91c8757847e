package outside

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// What PulseAudio's control packets are made of (its tagstruct.h): values, each behind a byte that says of which type it is.
const (
	tagString     = 't'
	tagNoString   = 'N'
	tagU32        = 'L'
	tagU8         = 'B'
	tagU64        = 'R'
	tagS64        = 'r'
	tagSampleSpec = 'a'
	tagArbitrary  = 'x'
	tagTrue       = '1'
	tagFalse      = '0'
	tagTime       = 'T'
	tagUsec       = 'U'
	tagChannelMap = 'm'
	tagVolumes    = 'v'
	tagProperties = 'P'
	tagVolume     = 'V'
	tagFormat     = 'f'
)

var errTagstruct = errors.New("not a packet of PulseAudio's")

// knownProperties are the names of properties that tell what is heard, or with a dot at the end their beginnings. By others a client asks the
// server for more: by filter.want and filter.apply.* to load a module with parameters, which is to run a program of its choice; by media.class,
// which PipeWire takes for its own, to be a microphone that others listen to.
var knownProperties = []string{"media.name", "media.title", "media.artist", "media.copyright", "media.software", "media.language", "media.filename",
	"media.icon", "media.icon_name", "media.role", "application.", "format.", "window.", "event."}

func isKnown(property string) bool {
	return slices.ContainsFunc(knownProperties, func(k string) bool {
		return k == property || strings.HasSuffix(k, ".") && strings.HasPrefix(property, k)
	})
}

// cleanPacket walks through a packet and returns it without the properties that are not known.
func cleanPacket(b []byte) ([]byte, error) {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		var err error
		var n int
		switch b[0] {
		case tagProperties:
			if out, b, err = cleanProperties(out, b); err != nil {
				return nil, err
			}
			continue
		case tagFormat: // an encoding, and properties
			if len(b) < 4 || b[1] != tagU8 || b[3] != tagProperties {
				return nil, errTagstruct
			}
			n = 3
		default:
			if n, err = tagSize(b); err != nil {
				return nil, err
			}
		}
		out, b = append(out, b[:n]...), b[n:]
	}
	return out, nil
}

// tagSize is how long the value that b begins with is.
func tagSize(b []byte) (int, error) {
	fixed := map[byte]int{tagNoString: 1, tagTrue: 1, tagFalse: 1, tagU8: 2, tagU32: 5, tagVolume: 5, tagU64: 9, tagS64: 9, tagTime: 9, tagUsec: 9, tagSampleSpec: 7}
	n, ok := fixed[b[0]]
	switch b[0] {
	case tagString:
		end := bytes.IndexByte(b, 0)
		n, ok = end+1, end > 0
	case tagChannelMap:
		if ok = len(b) > 1; ok {
			n = 2 + int(b[1])
		}
	case tagVolumes:
		if ok = len(b) > 1; ok {
			n = 2 + 4*int(b[1])
		}
	case tagArbitrary:
		if ok = len(b) > 4 && binary.BigEndian.Uint32(b[1:]) <= maxPacket; ok {
			n = 5 + int(binary.BigEndian.Uint32(b[1:]))
		}
	}
	if !ok || n > len(b) {
		return 0, errTagstruct
	}
	return n, nil
}

// cleanProperties copies a list of properties: each a name, the length of its value, and the value; behind the last there is no name.
func cleanProperties(out, b []byte) (copied, rest []byte, err error) {
	out, b = append(out, tagProperties), b[1:]
	for {
		if len(b) == 0 {
			return nil, nil, errTagstruct
		}
		if b[0] == tagNoString {
			return append(out, tagNoString), b[1:], nil
		}
		var size int
		for i, want := range []byte{tagString, tagU32, tagArbitrary} {
			if size >= len(b) || b[size] != want {
				return nil, nil, errTagstruct
			}
			n, err := tagSize(b[size:])
			if err != nil {
				return nil, nil, err
			}
			if i == 2 && binary.BigEndian.Uint32(b[size-4:]) != binary.BigEndian.Uint32(b[size+1:]) {
				return nil, nil, errTagstruct
			}
			size += n
		}
		if isKnown(string(b[1:bytes.IndexByte(b, 0)])) {
			out = append(out, b[:size]...)
		}
		b = b[size:]
	}
}

// u32At is the n-th of the unsigned numbers that a packet begins with.
func u32At(b []byte, n int) (uint32, bool) {
	if len(b) < 5*(n+1) {
		return 0, false
	}
	for i := range n + 1 {
		if b[5*i] != tagU32 {
			return 0, false
		}
	}
	return binary.BigEndian.Uint32(b[5*n+1:]), true
}

func appendU32(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(append(b, tagU32), v)
	}
	return b
}

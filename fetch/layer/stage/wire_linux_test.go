package stage

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/fetch/layer"

	"github.com/klauspost/compress/zstd"
)

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderCRC(true))
	if err == nil {
		_, err = w.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// skippableFrame is one of zstd's that holds no data (RFC 8878 3.1.2), as zstd:chunked has at its end.
func skippableFrame(kind byte, body string) []byte {
	out := binary.LittleEndian.AppendUint32([]byte{0x50 | kind, 0x2a, 0x4d, 0x18}, uint32(len(body)))
	return append(out, body...)
}

// emptyMember is a gzip member of no data with an extra field: the footer that ends an eStargz blob.
func emptyMember(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Extra = append([]byte{'S', 'G', 22, 0}, "0000000000000400STARGZ"...)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// How the same tar may lie on the wire: in pieces compressed one by one, cut at any byte, with frames and members of
// no data before, between and after them.
func TestWireForms(t *testing.T) {
	b := newBench(t, testMap(t))
	whole := tarOf(t, map[string]string{"a": strings.Repeat("a", 5000), "b": "b"}, file("a"), file("b"))
	bare := bytes.TrimRight(whole, "\x00")
	bare = append(bare, make([]byte, -len(bare)&511)...)
	var members, frames []byte
	for i := 0; i < len(whole); i += 700 {
		piece := whole[i:min(i+700, len(whole))]
		members = append(members, gz(t, piece)...)
		frames = append(append(frames, zst(t, piece)...), skippableFrame(byte(i%16), "between")...)
	}
	cat := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	for name, stream := range map[string][]byte{
		"members":                    members,
		"members and eStargz footer": cat(members, emptyMember(t)),
		"empty members":              cat(gz(t, nil), members, gz(t, nil)),
		"frames":                     frames,
		"zstd:chunked":               cat(frames, skippableFrame(0, strings.Repeat("manifest", 500)), skippableFrame(0, "footer")),
		"skippable first, and empty": cat(skippableFrame(15, ""), zst(t, nil), frames),
		"no end blocks":              bare,
		"no end blocks, gzip":        gz(t, bare),
		"one end block":              append(bytes.Clone(bare), make([]byte, 512)...),
		"zeros after":                append(bytes.Clone(whole), make([]byte, 1<<20)...),
		"bytes after":                append(bytes.Clone(whole), "what no one reads"...),
		"bytes after, zstd":          zst(t, append(bytes.Clone(whole), "what no one reads"...)),
		"another tar after":          cat(whole, tarOf(t, nil, file("never"))),
	} {
		_, path, res, err := b.unpack(stream)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := os.ReadFile(path + "/a"); err != nil || len(got) != 5000 || res.Entries != 2 {
			t.Errorf("%s: %d bytes, %+v, %v", name, len(got), res, err)
		}
		if got := tree(t, path); got != "a, b" {
			t.Errorf("%s: %s", name, got)
		}
	}
	for name, stream := range map[string][]byte{
		"no bytes": nil, "end blocks": make([]byte, 1024), "gzip of nothing": gz(t, nil), "zstd of nothing": zst(t, nil),
		"a skippable frame alone": skippableFrame(3, "x"),
	} {
		_, path, res, err := b.unpack(stream)
		if err != nil || res.Entries != 0 || tree(t, path) != "" {
			t.Errorf("%s: %+v %v", name, res, err)
		}
	}
}

// raw makes one block of a tar by hand, for what a decent writer does not write.
func raw(typ byte, name string, size int64, set func(block []byte)) []byte {
	block := make([]byte, 512)
	copy(block, name)
	copy(block[100:], "0000755\x00")
	copy(block[108:], "0000000\x000000000\x00")
	copy(block[124:], fmt.Sprintf("%011o\x00", size))
	copy(block[136:], "00000000000\x00")
	block[156] = typ
	copy(block[257:], "ustar\x0000")
	if set != nil {
		set(block)
	}
	sign(block)
	return block
}

// sign sets a block's checksum.
func sign(block []byte) {
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block[:512] {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// record is a PAX header of those records, as an entry of its own type.
func record(typ byte, records ...string) []byte {
	var body string
	for _, r := range records {
		n := len(r) + 3
		for len(fmt.Sprint(n))+len(r)+2 != n {
			n++
		}
		body += fmt.Sprintf("%d %s\n", n, r)
	}
	out := raw(typ, "pax", int64(len(body)), nil)
	out = append(out, body...)
	return append(out, make([]byte, -len(body)&511)...)
}

// What lies in a tar but is not to be believed, or not to be had.
func TestRefusedStreams(t *testing.T) {
	b := newBench(t, testMap(t))
	check := canaries(t, b)
	x := raw('0', "x", 0, nil)
	body := raw('0', "x", 5, nil)
	body = append(body, append([]byte("hello"), make([]byte, 507)...)...)
	whole := append(bytes.Clone(body), make([]byte, 1024)...)
	longName := func(n int) []byte { // a GNU long name
		return append(append(raw('L', "././@LongLink", int64(n), nil), bytes.Repeat([]byte("n/"), (n+1023)/1024*512)...), x...)
	}
	crc := gz(t, whole)
	binary.LittleEndian.PutUint32(crc[len(crc)-8:], crc32.ChecksumIEEE([]byte("another")))
	length := gz(t, whole)
	binary.LittleEndian.PutUint32(length[len(length)-4:], 7)
	zsum := zst(t, whole)
	zsum[len(zsum)-1] ^= 1
	cat := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	for name, c := range map[string]struct {
		stream []byte
		want   string // in the error
	}{
		"bad checksum":            {append(append(bytes.Clone(whole[:10]), 'y'), whole[11:]...), "read tar"},
		"negative size":           {raw('0', "x", 0, func(h []byte) { copy(h[124:], bytes.Repeat([]byte{0xff}, 12)) }), "read tar"},
		"a size that is a lie":    {raw('0', "x", 1<<30, nil), "unexpected EOF"},
		"a size beyond the limit": {raw('0', "x", 0, func(h []byte) { copy(h[124:], "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff") }), "bytes"},
		"a negative PAX size":     {cat(record('x', "size=-5"), x), "read tar"},
		"a PAX size that is none": {cat(record('x', "size=many"), x), "read tar"},
		"giant PAX header":        {cat(raw('x', "pax", 2<<20, nil), make([]byte, 2<<20), x), "read tar"},
		"PAX header of a lie":     {raw('x', "pax", 1<<40, nil), "read tar"},
		"giant PAX record":        {cat(record('x', "comment="+strings.Repeat("c", 1<<20)), x), "read tar"},
		"giant global":            {cat(record('g', "comment="+strings.Repeat("c", 1<<20)), x), "read tar"},
		"giant long name":         {longName(3 << 20), "read tar"},
		"long name":               {longName(8 << 10), "file name too long"},
		"long PAX name":           {cat(record('x', "path="+strings.Repeat("n/", 4000)), x), "file name too long"},
		"NUL in a PAX name":       {cat(record('x', "path=a\x00b"), x), "read tar"},
		"NUL in a PAX link":       {cat(record('x', "linkpath=a\x00b"), raw('2', "x", 0, nil)), "read tar"},
		"NUL in an attribute":     {cat(record('x', "SCHILY.xattr.user.a\x00b=v"), x), "read tar"},
		"uid -1":                  {cat(record('x', "uid=4294967295"), x), "uid 4294967295, which is not mapped"},
		"gid -1":                  {cat(record('x', "gid=4294967295"), x), "gid 4294967295, which is not mapped"},
		"uid -1, binary":          {raw('0', "x", 0, func(h []byte) { copy(h[108:], bytes.Repeat([]byte{0xff}, 8)) }), "uid -1, which is not mapped"},
		"gid of a link":           {cat(record('x', "gid=70000"), raw('2', "x", 0, func(h []byte) { copy(h[157:], "to") })), "gid 70000"},
		"uid of a directory":      {cat(record('x', "uid=70000"), raw('5', "x/", 0, nil)), "uid 70000"},
		"uid of a fifo":           {cat(record('x', "uid=70000"), raw('6', "x", 0, nil)), "uid 70000"},
		"multi-volume":            {raw('M', "x", 0, nil), "unknown type"},
		"wrong CRC":               {crc, "decompress"},
		"wrong length":            {length, "decompress"},
		"wrong zstd checksum":     {zsum, "decompress"},
		"window of 256 MiB":       {cat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3, 1, 0, 0}), "window"},
		"cut before the CRC":      {crc[:len(crc)-8], "EOF"},
		"junk after gzip":         {cat(gz(t, whole), []byte("junk")), "decompress"},
		"junk after zstd":         {cat(zst(t, whole), []byte("junk")), "decompress"},
		"cut skippable frame":     {cat(zst(t, whole), skippableFrame(0, "12345")[:10]), "EOF"},
		"gzip header alone":       {[]byte{0x1f, 0x8b}, "decompress"},
		"JSON":                    {[]byte(strings.Repeat(`{"schemaVersion": 2}`, 50)), "read tar"},
	} {
		_, path, _, err := b.unpack(c.stream)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if got := tree(t, path); strings.Contains(name, "NUL") && got != "" {
			t.Errorf("%s: made %q", name, got)
		}
		check(t)
	}
	_, _, _, err := b.unpack(cat(record('x', "uid=4294967295"), x))
	var unmapped *layer.UnmappedIDError
	if !errors.As(err, &unmapped) || unmapped.ID != 4294967295 || unmapped.Entry != "x" {
		t.Errorf("%v", err)
	}
}

// A PAX global header says nothing about the entries after it, for docker, containerd and podman do not look at it:
// an image is here what it is there.
func TestPAXGlobals(t *testing.T) {
	b := newBench(t, testMap(t))
	records := []string{"comment=0123456789abcdef", "mtime=1", "uid=33", "path=elsewhere", "linkpath=elsewhere", "size=512",
		"SCHILY.xattr.user.global=v", "GNU.sparse.major=1", "GNU.sparse.minor=0"}
	stream := bytes.Join([][]byte{record('g', records...), raw('0', "a", 0, nil), record('g', "path=/etc/cove-escaped"),
		record('x', "mtime=7.5"), raw('0', "b", 0, nil)}, nil)
	_, path, _, err := b.unpack(stream)
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, path); got != "a, b" {
		t.Errorf("%s", got)
	}
	for name, want := range map[string]time.Time{"a": time.Unix(0, 0), "b": time.Unix(7, 5e8)} {
		st, err := os.Stat(path + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := b.m.HostUID(0)
		if !st.ModTime().Equal(want) || st.Size() != 0 || st.Sys().(*syscall.Stat_t).Uid != uid {
			t.Errorf("%s: %v %d", name, st.ModTime(), st.Size())
		}
		if _, err := syscall.Getxattr(path+"/"+name, "user.global", make([]byte, 8)); err != syscall.ENODATA {
			t.Errorf("%s: user.global: %v", name, err)
		}
	}
}

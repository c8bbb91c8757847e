package stage

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
	"time"

	"cove/fetch/layer"
)

// FuzzUnpack's law: whatever the stream, unpacking ends, and touches nothing outside its
// directory. What it makes can be removed again.
func FuzzUnpack(f *testing.F) {
	for _, hdrs := range [][]tar.Header{
		{dir("tmp"), sym("out", "/tmp"), file("out/cove-escaped")},
		{dir("tmp"), sym("b", "/"), sym("c", "b/tmp"), file("c/cove-escaped")},
		{file("../cove-escaped")},
		{hard("x", "../canary")},
		{sym("up", "../.."), hard("x", "up/canary")},
		{dir("d"), file("d/.wh..wh..opq"), file(".wh.d"), file("d/x")},
		{sym("a", "b"), sym("b", "a"), file("a/x")},
		{{Name: "s", Linkname: "t", Typeflag: tar.TypeSymlink, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}},
		{dir("d"), hard("d/e", "low"), file("below/x")},
	} {
		f.Add(tarOf(f, map[string]string{"d/x": "hello"}, hdrs...))
	}
	b := newBench(f, testMap(f))
	low, _, _, err := b.unpack(tarOf(f, nil, file("low"), sym("below", "/"), sym("up", "../../..")))
	if err != nil {
		f.Fatal(err)
	}
	check := canaries(f, b)
	f.Fuzz(func(t *testing.T, stream []byte) {
		b.t = t
		at, _ := b.fresh()
		b.n-- // removed here, not at the end
		req := layer.UnpackRequest{At: at, Limits: layer.Limits{Bytes: 1 << 24, Entries: 1000},
			Below: func() ([]layer.Place, error) { return []layer.Place{low}, nil }}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = b.s.Unpack(req, bytes.NewReader(stream))
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it does not end")
		}
		if err := b.s.Remove(at); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
}

// The vocabulary of FuzzEntries: names that meet each other, and what escapes are made of.
var (
	fuzzNames = []string{"a", "b", "a/b", "a/b/c", "b/a", "./a/", "/b", ".", "..", "../a", "a/../..", "tmp", "tmp/cove-escaped", "a/cove-escaped",
		"b/cove-escaped", "a/b/cove-escaped", ".wh.a", ".wh.b", "a/.wh.b", ".wh..wh..opq", "a/.wh..wh..opq", ".wh.", ".wh...", "low", "below/x", "up/x", "canary"}
	fuzzTargets = []string{"a", "b", "a/b", "/", "..", "../..", "/tmp", "/a", "../canary", "canary", "low", "below", "up", "a/../b", "/proc/self/root", "../../../../tmp", ".", ""}
	fuzzTypes   = []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo, tar.TypeChar}
)

// FuzzEntries has FuzzUnpack's law, and that of listings, for well-formed tars of entries that get in each other's way.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2, 1, 6, 0, 14, 0})
	f.Add([]byte{2, 0, 4, 0, 13, 0, 3, 2, 8, 1, 0, 0, 0, 16, 0})
	b := newBench(f, testMap(f))
	low, _, _, err := b.unpack(tarOf(f, nil, file("low"), sym("below", "/"), sym("up", "../../..")))
	if err != nil {
		f.Fatal(err)
	}
	check := canaries(f, b)
	f.Fuzz(func(t *testing.T, program []byte) {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for ; len(program) >= 3; program = program[3:] {
			h := tar.Header{
				Typeflag: fuzzTypes[int(program[0])%len(fuzzTypes)], Name: fuzzNames[int(program[1])%len(fuzzNames)], Mode: 0o755,
				Linkname: fuzzTargets[int(program[2])%len(fuzzTargets)],
			}
			if h.Typeflag != tar.TypeDir {
				h.Name = strings.TrimSuffix(h.Name, "/")
			}
			if h.Typeflag == tar.TypeReg {
				h.Size = 1
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				_, _ = w.Write(program[2:3]) // so that listings have something to be wrong of
			}
		}
		w.Close()
		b.t = t
		at, _ := b.fresh()
		b.n--
		listing := b.listing()
		_, err := b.s.Unpack(layer.UnpackRequest{At: at, List: listing, Label: "a layer",
			Below: func() ([]layer.Place, error) { return []layer.Place{low}, nil }}, &buf)
		if err == nil {
			b.checkListing(at, listing)
		}
		if err := b.s.Remove(at); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
}

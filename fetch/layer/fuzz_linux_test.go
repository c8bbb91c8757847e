package layer

import (
	"archive/tar"
	"bytes"
	"testing"
	"time"
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
		req := UnpackRequest{At: at, Limits: Limits{Bytes: 1 << 24, Entries: 1000},
			Below: func() ([]Place, error) { return []Place{low}, nil }}
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

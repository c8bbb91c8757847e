package stage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// FuzzUnpack's law: whatever the stream, unpacking ends, and touches nothing outside its
// directory, not even the layers below, which it reads. What it makes is as its listing says, and can be removed again.
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
	x := raw('0', "x", 0, nil)
	for _, stream := range [][]byte{
		gz(f, x), zst(f, x), append(skippableFrame(1, "skip"), zst(f, x)...), append(gz(f, x), emptyMember(f)...), window128(2),
		append(record('x', "path=../../cove-escaped", "uid=4294967295"), x...), append(record('g', "path=/tmp/cove-escaped"), x...),
		append(record('x', "SCHILY.xattr.user.overlay.redirect=/etc", "SCHILY.xattr.trusted.overlay.opaque=y"), raw('5', "d/", 0, nil)...),
		append(record('x', "GNU.sparse.map=0,1,5,0", "GNU.sparse.numblocks=2", "GNU.sparse.size=5"), append(raw('0', "x", 1, nil), make([]byte, 512)...)...),
		append(raw('L', "././@LongLink", 20, nil), append([]byte("/etc/../../canary\x00\x00\x00"), append(make([]byte, 492), x...)...)...),
		append(raw('3', "low", 0, nil), raw('4', "below/sda", 0, nil)...),
	} {
		f.Add(stream)
	}
	fz := newFuzzing(f)
	f.Fuzz(func(t *testing.T, stream []byte) { fz.unpack(t, stream, layer.Limits{Bytes: 1 << 24, Entries: 1000}) })
}

// fuzzing is a stage at work on top of a layer that must stay as it is.
type fuzzing struct {
	b      *bench
	low    layer.Place
	check  func(testing.TB)
	below  string // what the layer below looks like
	lowDir string
}

func newFuzzing(f *testing.F) *fuzzing {
	f.Helper()
	fz := &fuzzing{b: newBench(f, testMap(f))}
	var err error
	fz.low, fz.lowDir, _, err = fz.b.unpack(tarOf(f, map[string]string{"low": "low"}, file("low"), sym("below", "/"), sym("up", "../../.."), dir("d"), file("d/deep")))
	if err != nil {
		f.Fatal(err)
	}
	fz.below = inodes(f, fz.lowDir)
	fz.check = canaries(f, fz.b)
	return fz
}

// inodes describes a tree, with the time of each inode's last change, which nothing can set.
func inodes(t testing.TB, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s %o %d:%d %d names %d bytes changed %d\n", p, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Ctim.Nano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// unpack holds the law for one stream.
func (fz *fuzzing) unpack(t *testing.T, stream []byte, lim layer.Limits) {
	b := fz.b
	b.t = t
	at, _ := b.fresh()
	b.n-- // removed here, not at the end
	listing := b.listing()
	done := make(chan error, 1)
	go func() {
		_, err := b.s.Unpack(layer.UnpackRequest{At: at, Limits: lim, List: listing, Label: "a layer",
			Below: func() ([]layer.Place, error) { return []layer.Place{fz.low}, nil }}, bytes.NewReader(stream))
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			b.checkListing(at, listing)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	if err := b.s.Remove(at); err != nil {
		t.Fatal(err)
	}
	fz.check(t)
	if now := inodes(t, fz.lowDir); now != fz.below {
		t.Fatalf("the layer below was\n%s\nand is\n%s", fz.below, now)
	}
}

// The vocabulary of FuzzEntries: names that meet each other, and what escapes are made of.
var (
	fuzzNames = []string{"a", "b", "a/b", "a/b/c", "b/a", "./a/", "/b", ".", "..", "../a", "a/../..", "tmp", "tmp/cove-escaped", "a/cove-escaped",
		"b/cove-escaped", "a/b/cove-escaped", ".wh.a", ".wh.b", "a/.wh.b", ".wh..wh..opq", "a/.wh..wh..opq", ".wh.", ".wh...", "low", "below/x", "up/x", "canary",
		"d/deep", "d/.wh.deep", "d/new", ".wh.low", "below/low"}
	fuzzTargets = []string{"a", "b", "a/b", "/", "..", "../..", "/tmp", "/a", "../canary", "canary", "low", "d/deep", "below/low", "../0/low", "below", "up", "a/../b", "/proc/self/root", "../../../../tmp", ".", ""}
	fuzzTypes   = []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeDir, tar.TypeSymlink, tar.TypeFifo, tar.TypeChar}
)

// FuzzEntries has FuzzUnpack's law for well-formed tars of entries that get in each other's way.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2, 1, 6, 0, 14, 0})
	f.Add([]byte{2, 0, 4, 0, 13, 0, 3, 2, 8, 1, 0, 0, 0, 16, 0})
	fz := newFuzzing(f)
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
		fz.unpack(t, buf.Bytes(), layer.Limits{})
	})
}

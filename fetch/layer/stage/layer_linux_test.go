package stage

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"cove/fetch/layer"
	"cove/userns"
	"cove/userns/usernstest"
)

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case layer.StageName:
		adjust = func(h layer.Hello) {
			if filepath.Base(string(h.Dirs[0])) == tight {
				bounds.tables, bounds.trail, bounds.names, bounds.many, bounds.subdirs = 5, 40, 10, 60, 4
			}
		}
		Main()
	case tryName:
		tryCalls()
	case listName:
		listTree()
	}
	code := m.Run()
	if oracleDir != "" {
		os.RemoveAll(oracleDir)
	}
	os.Exit(code)
}

// testMap is the mapping that cove would use for whoever runs the test.
func testMap(t testing.TB) userns.IDMap { return usernstest.IDMap(t, 0) }

// skip skips, unless COVE_TEST_REQUIRE says that here nothing may be missing.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("COVE_TEST_REQUIRE") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// bench is a directory with a stage at work in it.
type bench struct {
	t   testing.TB
	m   userns.IDMap
	dir string
	s   *layer.Session
	n   int
}

func roomyBench(t testing.TB, m userns.IDMap) *bench {
	t.Helper()
	return benchIn(t, m, t.TempDir())
}

// tight is what the directory of a stage is called that remembers next to nothing in memory, so that small layers go the
// way of large ones.
const tight = "tight"

func newBench(t testing.TB, m userns.IDMap) *bench {
	t.Helper()
	dir := filepath.Join(t.TempDir(), tight)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return benchIn(t, m, dir)
}

func benchIn(t testing.TB, m userns.IDMap, dir string) *bench {
	t.Helper()
	own(t, m, dir)
	s, err := layer.Start(context.Background(), m, dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, m: m, dir: dir, s: s}
	t.Cleanup(func() {
		for i := range b.n {
			if err := b.s.Remove(layer.Place{Name: fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		}
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// restart puts a new stage in place of one that has ended.
func (b *bench) restart() {
	b.t.Helper()
	s, err := layer.Start(context.Background(), b.m, b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = b.s.Close()
	b.s = s
}

// own makes a directory the mapping's where the caller's own id is not mapped.
func own(t testing.TB, m userns.IDMap, dir string) {
	if os.Getuid() != 0 {
		return
	}
	uid, _ := m.HostUID(0)
	gid, _ := m.HostGID(0)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
}

// fresh makes one more directory and returns its place and path.
func (b *bench) fresh() (layer.Place, string) {
	b.t.Helper()
	name := fmt.Sprint(b.n)
	b.n++
	path := filepath.Join(b.dir, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		b.t.Fatal(err)
	}
	own(b.t, b.m, path)
	return layer.Place{Name: name}, path
}

// unpack unpacks stream on top of the layers below.
func (b *bench) unpack(stream []byte, below ...layer.Place) (layer.Place, string, layer.Result, error) {
	b.t.Helper()
	at, path := b.fresh()
	req := layer.UnpackRequest{At: at}
	if len(below) > 0 {
		req.Below = func() ([]layer.Place, error) { return below, nil }
	}
	req.List, req.Label = b.listing(), "a layer"
	res, err := b.s.Unpack(req, bytes.NewReader(stream))
	if err == nil {
		b.checkListing(at, req.List)
	}
	return at, path, res, err
}

func (b *bench) listing() *os.File {
	b.t.Helper()
	f, err := os.CreateTemp(b.t.TempDir(), "listing")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { f.Close() })
	return f
}

// checkListing holds every layer that a test unpacks to the law of listings: what unpacking wrote is what a
// walk of the result that reads all of it writes, and a check finds nothing.
func (b *bench) checkListing(at layer.Place, f *os.File) {
	b.t.Helper()
	walked := b.listing()
	if _, err := b.s.List(at, walked, "a layer"); err != nil {
		b.t.Fatal(err)
	}
	one, err1 := os.ReadFile(f.Name())
	two, err2 := os.ReadFile(walked.Name())
	if err1 != nil || err2 != nil {
		b.t.Fatal(err1, err2)
	}
	// The numbers at the end are the tar's in one and the tree's in the other.
	if cut := 3*8 + 32; len(one) < cut || len(one) != len(two) || !bytes.Equal(one[:len(one)-cut], two[:len(two)-cut]) {
		b.t.Errorf("the listing of the unpacking:\n%q\nof the tree:\n%q", one, two)
	}
	for _, l := range []*os.File{f, walked} {
		if res, err := b.s.Check(at, l, "a layer"); err != nil || res.Found > 0 {
			b.t.Errorf("check: %v %+v", err, res)
		}
	}
}

// tarOf writes a tar. What a header leaves out is filled in; contents are by name.
func tarOf(t testing.TB, contents map[string]string, hdrs ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range hdrs {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = contents[h.Name]
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnpackSimple(t *testing.T) {
	b := newBench(t, testMap(t))
	_, path, res, err := b.unpack(tarOf(t, map[string]string{"etc/hello": "hi"},
		tar.Header{Name: "etc/", Typeflag: tar.TypeDir},
		tar.Header{Name: "etc/hello"},
		tar.Header{Name: "etc/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/hello"},
		tar.Header{Name: "etc/hard", Typeflag: tar.TypeLink, Linkname: "etc/hello"},
		tar.Header{Name: "etc/.wh.gone"},
	))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(path, "etc/hard"))
	if err != nil || string(got) != "hi" {
		t.Fatalf("%q %v", got, err)
	}
	if !res.Dependent || res.Entries != 5 || res.Bytes != 2 {
		t.Errorf("%+v", res)
	}
}

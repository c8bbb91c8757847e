package stage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cove/fetch/layer"
	"cove/fetch/layer/list"

	"golang.org/x/sys/unix"
)

// Each way in which a file may be damaged is named, and nothing else is.
func TestCheckNamesDamage(t *testing.T) {
	b := newBench(t, testMap(t))
	hdrs := []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir},
		{Name: "bin/sh", Mode: 0o4755},
		{Name: "bin/hard", Typeflag: tar.TypeLink, Linkname: "bin/sh"},
		{Name: "bin/link", Typeflag: tar.TypeSymlink, Linkname: "sh"},
		{Name: "bin/odd\xff\n", Mode: 0o644},
		{Name: "empty"},
		{Name: "fifo", Typeflag: tar.TypeFifo},
		{Name: "tree/", Typeflag: tar.TypeDir}, {Name: "tree/a/", Typeflag: tar.TypeDir}, {Name: "tree/a/f"}, {Name: "tree/g"},
		{Name: "x", Mode: 0o600, PAXRecords: map[string]string{"SCHILY.xattr.user.one": "1", "SCHILY.xattr.user.two": "2"}},
	}
	if err := unix.Setxattr(t.TempDir(), "user.x", nil, 0); err == unix.ENOTSUP {
		skip(t, "no user attributes here")
	}
	stream := tarOf(t, map[string]string{"bin/sh": "#!", "bin/odd\xff\n": strings.Repeat("x", 1<<20), "tree/g": "g"}, hdrs...)
	for name, c := range map[string]struct {
		do   func(dir string) error
		want string
	}{
		"nothing":  {func(string) error { return nil }, ""},
		"missing":  {func(d string) error { return os.Remove(d + "/bin/odd\xff\n") }, `missing "bin/odd\xff\n"`},
		"tree":     {func(d string) error { return os.RemoveAll(d + "/tree") }, `missing "tree"`},
		"added":    {func(d string) error { return os.Mkdir(d+"/tree/b", 0o755) }, `added "tree/b"`},
		"last":     {func(d string) error { return os.WriteFile(d+"/zzz", nil, 0o600) }, `added "zzz"`},
		"mode":     {func(d string) error { return unix.Chmod(d+"/bin/sh", 0o755) }, `mode "bin/hard" 0755, was 4755`},
		"dirmode":  {func(d string) error { return unix.Chmod(d+"/tree", 0o700) }, `mode "tree" 0700, was 0755`},
		"rootmode": {func(d string) error { return unix.Chmod(d, 0o700) }, `mode "" 0700, was 0755`},
		"size":     {func(d string) error { return truncate(d+"/tree/g", 0) }, `size "tree/g" 0, was 1`},
		"content":  {func(d string) error { return flip(d+"/bin/odd\xff\n", 700_000) }, `content "bin/odd\xff\n"`},
		"type":     {func(d string) error { return errors.Join(os.Remove(d+"/fifo"), os.Mkdir(d+"/fifo", 0o755)) }, `type "fifo" mode 40755`},
		"target":   {func(d string) error { return relink(d+"/bin/link", "bash") }, `target "bin/link" "bash", was "sh"`},
		"hard link": {func(d string) error {
			return errors.Join(os.Remove(d+"/bin/hard"), copyAs(d+"/bin/sh", d+"/bin/hard"))
		}, `link "bin/sh"`},
		"first link": {func(d string) error { return os.Remove(d + "/bin/hard") }, `missing "bin/hard"`},
		"attribute":  {func(d string) error { return unix.Lsetxattr(d+"/x", "user.one", []byte("2"), 0) }, `xattr "x" "user.one" changed`},
		"attribute gone": {func(d string) error { return unix.Lremovexattr(d+"/x", "user.one") },
			`xattr "x" "user.one" missing`},
		"attribute more": {func(d string) error { return unix.Lsetxattr(d+"/bin", "user.overlay.opaque", []byte("y"), 0) },
			`xattr "bin" "user.overlay.opaque" added`},
		"time": {func(d string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, d+"/empty", []unix.Timespec{{Sec: 1}, {Sec: 5, Nsec: 6}}, 0)
		}, `time "empty" 5.000000006, was 0.000000000`},
	} {
		at, path, _, err := b.unpack(stream)
		if err != nil {
			t.Fatal(err)
		}
		f := b.listing()
		if _, err := b.s.List(at, f, "a layer"); err != nil {
			t.Fatal(err)
		}
		if err := c.do(path); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		res, err := b.s.Check(at, f, "a layer")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := make([]string, 0, 1)
		for _, f := range res.Findings {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %q %s", f.Kind, f.Path, f.Detail)))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Owners can only be changed by who has the ids.
func TestCheckOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("for root")
	}
	b := newBench(t, testMap(t))
	at, path, _, err := b.unpack(tarOf(t, nil, tar.Header{Name: "f", Uid: 33, Gid: 34}))
	if err != nil {
		t.Fatal(err)
	}
	f := b.listing()
	if _, err := b.s.List(at, f, "a layer"); err != nil {
		t.Fatal(err)
	}
	uid, _ := b.m.HostUID(0)
	if err := os.Lchown(path+"/f", int(uid), -1); err != nil {
		t.Fatal(err)
	}
	res, err := b.s.Check(at, f, "a layer")
	if err != nil || res.Found != 1 || res.Findings[0].Kind != layer.Owner || res.Findings[0].Detail != "0:34, was 33:34" {
		t.Errorf("%+v %v", res, err)
	}
}

// What has taken another's place has no part of its sum: a link, a copy from below, a file of another content.
func TestListingOfReplaced(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, map[string]string{"low": "below"}, tar.Header{Name: "low"}))
	if err != nil {
		t.Fatal(err)
	}
	// unpack itself holds the layer to the law of listings.
	_, _, _, err = b.unpack(tarOf(t, map[string]string{"a": "content of a", "b": "b", "d/x": "x", "d/y": "y", "e": "e"},
		tar.Header{Name: "a"}, tar.Header{Name: "b"}, tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "b"},
		tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "d/x"}, tar.Header{Name: "d/y"},
		tar.Header{Name: "d/x", Typeflag: tar.TypeLink, Linkname: "low"},
		tar.Header{Name: "e"}, tar.Header{Name: "e", Typeflag: tar.TypeDir}, tar.Header{Name: "e", Typeflag: tar.TypeLink, Linkname: "d/y"}), low)
	if err != nil {
		t.Fatal(err)
	}
}

// A layer without most of its files has more findings than are told.
func TestCheckCountsAll(t *testing.T) {
	b := newBench(t, testMap(t))
	var hdrs []tar.Header
	for i := range 3 * layer.MaxFindings {
		hdrs = append(hdrs, tar.Header{Name: fmt.Sprintf("f%d", i)})
	}
	at, path, _, err := b.unpack(tarOf(t, nil, hdrs...))
	if err != nil {
		t.Fatal(err)
	}
	f := b.listing()
	if _, err := b.s.List(at, f, "a layer"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * layer.MaxFindings {
		if err := os.Remove(fmt.Sprintf("%s/f%d", path, i)); err != nil {
			t.Fatal(err)
		}
	}
	res, err := b.s.Check(at, f, "a layer")
	if err != nil || res.Found != 3*layer.MaxFindings || len(res.Findings) != layer.MaxFindings {
		t.Errorf("%d of %d, %v", len(res.Findings), res.Found, err)
	}
	if want := int64(3*layer.MaxFindings + 1); res.Entries != want { // the root is one
		t.Errorf("%d entries were compared, want %d", res.Entries, want)
	}
}

// A listing of which any byte is another is none.
func TestCheckDamagedListing(t *testing.T) {
	b := newBench(t, testMap(t))
	at, _, _, err := b.unpack(tarOf(t, map[string]string{"f": "f"}, tar.Header{Name: "f"}, tar.Header{Name: "d/", Typeflag: tar.TypeDir}))
	if err != nil {
		t.Fatal(err)
	}
	f := b.listing()
	if _, err := b.s.List(at, f, "a layer"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		if err := os.WriteFile(f.Name(), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if res, err := b.s.Check(at, f, "a layer"); err == nil || !strings.Contains(err.Error(), list.ErrDamaged.Error()) {
			t.Errorf("byte %d: %+v %v", i, res, err)
		}
		if err := os.WriteFile(f.Name(), whole[:i], 0o600); err != nil {
			t.Fatal(err)
		}
		if res, err := b.s.Check(at, f, "a layer"); err == nil {
			t.Errorf("cut at %d: %+v", i, res)
		}
	}
	if err := os.WriteFile(f.Name(), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.s.Check(at, f, "another layer"); err == nil || !strings.Contains(err.Error(), "another layer's") {
		t.Errorf("another layer's listing: %v", err)
	}
}

func truncate(path string, size int64) error {
	return keepTime(path, func() error { return os.Truncate(path, size) })
}

// flip changes a byte and nothing else, as a disk would.
func flip(path string, at int64) error {
	return keepTime(path, func() error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte{'y'}, at)
		return err
	})
}

func keepTime(path string, do func() error) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func relink(path, target string) error {
	var st unix.Stat_t
	if err := errors.Join(unix.Lstat(path, &st), os.Remove(path), os.Symlink(target, path), os.Lchown(path, int(st.Uid), int(st.Gid))); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyAs makes a file like another one, of its own.
func copyAs(from, to string) error {
	var st unix.Stat_t
	data, err := os.ReadFile(from)
	if err := errors.Join(err, unix.Lstat(from, &st), os.WriteFile(to, data, 0o600)); err != nil {
		return err
	}
	if err := errors.Join(os.Lchown(to, int(st.Uid), int(st.Gid)), unix.Chmod(to, st.Mode&0o7777)); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// What the listing costs an unpacking: many small files, and few large ones.
func BenchmarkListing(b *testing.B) {
	for _, kind := range []struct {
		name        string
		files, size int
	}{{"50000x200", 50000, 200}, {"200x1MiB", 200, 1 << 20}} {
		body := make([]byte, kind.size)
		for i := range body {
			body[i] = byte(rand.Uint32())
		}
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for i := range kind.files {
			if i%100 == 0 {
				_ = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/", i/100), Typeflag: tar.TypeDir, Mode: 0o755})
			}
			_ = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/file-%d", i/100, i), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(kind.size)})
			_, _ = w.Write(body)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/listing=%v", kind.name, with), func(b *testing.B) {
				n := roomyBench(b, testMap(b))
				for b.Loop() {
					at, _ := n.fresh()
					req := layer.UnpackRequest{At: at, Label: "x"}
					if with {
						f, err := os.Create(filepath.Join(b.TempDir(), "l"))
						if err != nil {
							b.Fatal(err)
						}
						req.List = f
					}
					if _, err := n.s.Unpack(req, bytes.NewReader(buf.Bytes())); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := n.s.Remove(at); err != nil {
						b.Fatal(err)
					}
					if req.List != nil {
						st, _ := req.List.Stat()
						b.ReportMetric(float64(st.Size()), "listing-bytes")
						req.List.Close()
					}
					b.StartTimer()
				}
			})
		}
	}
}

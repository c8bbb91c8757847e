package stage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/fetch/layer"
)

// Names longer than a tar's own field, in each of the forms for them, and as long as they may be.
func TestLongNames(t *testing.T) {
	b := newBench(t, testMap(t))
	component := strings.Repeat("c", 255)
	deep := strings.Repeat(strings.Repeat("d", 99)+"/", 40) + strings.Repeat("e", 95)
	for _, format := range []tar.Format{tar.FormatGNU, tar.FormatPAX} {
		for _, name := range []string{component, strings.Repeat("p", 120) + "/" + strings.Repeat("q", 90), deep} {
			h, l, d := file(name), sym("link", name), hard("hard", name)
			h.Format, l.Format, d.Format = format, format, format
			_, path, _, err := b.unpack(tarOf(t, map[string]string{name: "found"}, h, l, d))
			if err != nil {
				t.Errorf("%v, %d bytes: %v", format, len(name), err)
				continue
			}
			got, err := os.ReadFile(path + "/hard")
			if target, lerr := os.Readlink(path + "/link"); err != nil || string(got) != "found" || target != name {
				t.Errorf("%v, %d bytes: %q %v %v", format, len(name), got, err, lerr)
			}
		}
	}
}

// Times to the nanosecond, as far back and ahead as the file system goes, of every kind of file.
func TestTimes(t *testing.T) {
	b := newBench(t, testMap(t))
	far := []time.Time{time.Unix(0, 1), time.Unix(-1, 999_999_999), time.Date(1901, 12, 14, 0, 0, 0, 123456789, time.UTC),
		time.Date(2038, 1, 19, 3, 14, 8, 1, time.UTC), time.Date(2106, 2, 7, 6, 28, 17, 999999999, time.UTC), time.Date(2262, 5, 1, 0, 0, 0, 5, time.UTC)}
	for _, when := range far {
		var hdrs []tar.Header
		for _, h := range []tar.Header{dir("d"), file("d/f"), sym("d/l", "f"), {Name: "d/p", Typeflag: tar.TypeFifo}, dir("d/e"), file("d/e/f")} {
			h.Format, h.ModTime, h.AccessTime = tar.FormatPAX, when, when.Add(3*time.Second)
			hdrs = append(hdrs, h)
		}
		_, path, _, err := b.unpack(tarOf(t, nil, hdrs...))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hdrs {
			st, err := os.Lstat(path + "/" + h.Name)
			if err != nil {
				t.Fatal(err)
			}
			if !st.ModTime().Equal(when) {
				t.Errorf("%s: %v, want %v", h.Name, st.ModTime().UTC(), when)
			}
			// Of the rest this test's own looking has set a new one.
			if at := time.Unix(st.Sys().(*syscall.Stat_t).Atim.Unix()); h.Typeflag == tar.TypeReg && !at.Equal(h.AccessTime) {
				t.Errorf("%s: read at %v, want %v", h.Name, at.UTC(), h.AccessTime)
			}
		}
	}
	// Beyond what any file system has: the nearest there is, and no wrap-around.
	_, path, _, err := b.unpack(bytes.Join([][]byte{record('x', "mtime=99999999999999"), raw('0', "late", 0, nil), record('x', "mtime=-99999999999999"), raw('0', "early", 0, nil)}, nil))
	if err != nil {
		t.Fatal(err)
	}
	late, err1 := os.Stat(path + "/late")
	early, err2 := os.Stat(path + "/early")
	if err1 != nil || err2 != nil || late.ModTime().Year() < 2400 || early.ModTime().Year() > 1902 {
		t.Errorf("%v %v %v %v", late, early, err1, err2)
	}
}

// Extended attributes: what means something inside is kept to the byte, what would speak to overlayfs, fuse-overlayfs
// or the host is not.
func TestXattrs(t *testing.T) {
	b := newBench(t, testMap(t))
	kept := map[string]string{"user.empty": "", "user.binary": "\x00\x01\xff\n=\x00", "user.long": strings.Repeat("v", 1500), "user." + strings.Repeat("n", 200): "n"}
	var records []string
	for name, value := range kept {
		records = append(records, "SCHILY.xattr."+name+"="+value)
	}
	dropped := []string{"user.overlay.opaque", "user.overlay.redirect", "user.overlay.metacopy", "user.overlay.whiteout", "user.overlay.overlay.opaque",
		"trusted.overlay.opaque", "trusted.overlay.redirect", "user.fuseoverlayfs.opaque", "user.fuseoverlayfs.origin", "user.containers.override_stat",
		"security.selinux", "security.ima", "security.evm", "trusted.any", "system.posix_acl_access", "nonsense", ""}
	for _, name := range dropped {
		records = append(records, "SCHILY.xattr."+name+"=y")
	}
	pax := record('x', records...)
	stream := bytes.Join([][]byte{pax, raw('5', "d/", 0, nil), pax, raw('0', "d/f", 0, nil), pax, raw('5', "./", 0, nil)}, nil)
	_, path, res, err := b.unpack(stream)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(3 * len(dropped)); res.Xattrs != want {
		t.Errorf("%d dropped, want %d", res.Xattrs, want)
	}
	for _, name := range []string{"d", "d/f", "."} {
		list := make([]byte, 64<<10)
		n, err := syscall.Listxattr(path+"/"+name, list)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
			if strings.HasPrefix(attr, "security.") { // the host's own
				continue
			}
			count++
			value := make([]byte, 4096)
			n, err := syscall.Getxattr(path+"/"+name, attr, value)
			if want, ok := kept[attr]; err != nil || !ok || string(value[:n]) != want {
				t.Errorf("%s: %q: %q %v", name, attr, value[:max(n, 0)], err)
			}
		}
		if count != len(kept) {
			t.Errorf("%s has %d attributes: %q", name, count, list[:n])
		}
	}
}

// A device node in a tar is as if it were not there, whatever its number: 0:0 is overlayfs's whiteout, and hides nothing
// when an image brings one.
func TestDeviceNodes(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, nil, dir("d"), file("d/a"), file("b")))
	if err != nil {
		t.Fatal(err)
	}
	node := func(name string, typ byte, major, minor int64) tar.Header {
		return tar.Header{Name: name, Typeflag: typ, Devmajor: major, Devminor: minor}
	}
	up, path, res, err := b.unpack(tarOf(t, nil, node("b", tar.TypeChar, 0, 0), node("d/a", tar.TypeChar, 0, 0), node("n", tar.TypeChar, 0, 0),
		node("null", tar.TypeChar, 1, 3), node("sda", tar.TypeBlock, 8, 0), node("zero", tar.TypeBlock, 0, 0)), low)
	if err != nil || res.Devices != 6 {
		t.Fatalf("%+v %v", res, err)
	}
	if got := tree(t, path); got != "" {
		t.Errorf("the layer holds %s", got)
	}
	at, flat := b.fresh()
	if _, err := b.s.Flatten([]layer.Place{low, up}, at); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, flat); got != "b, d/, d/a" {
		t.Errorf("merged: %s", got)
	}
}

// Fifos are made and never opened: that would wait for the other end.
func TestFifos(t *testing.T) {
	b := newBench(t, testMap(t))
	pipe := tar.Header{Name: "p", Typeflag: tar.TypeFifo, Mode: 0o4640, Uid: 65534, Gid: 65534}
	again := pipe
	again.Mode = 0o600
	low, _, _, err := b.unpack(tarOf(t, nil, pipe, hard("q", "p"), file("f"), tar.Header{Name: "f", Typeflag: tar.TypeFifo}, again))
	if err != nil {
		t.Fatal(err)
	}
	up, path, _, err := b.unpack(tarOf(t, nil, hard("r", "q"), file("f")), low)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(path + "/r")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := b.m.HostUID(65534)
	if sys := st.Sys().(*syscall.Stat_t); st.Mode()&fs.ModeType != fs.ModeNamedPipe || sys.Uid != uid || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, owner %d", st.Mode(), sys.Uid)
	}
	at, flat := b.fresh()
	if _, err := b.s.Flatten([]layer.Place{low, up}, at); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"p": fs.ModeNamedPipe, "q": fs.ModeNamedPipe, "r": fs.ModeNamedPipe, "f": 0} {
		if st, err := os.Lstat(flat + "/" + name); err != nil || st.Mode()&fs.ModeType != want {
			t.Errorf("%s: %v %v", name, st, err)
		} else if name == "q" && st.Mode() != fs.ModeNamedPipe|fs.ModeSetuid|0o640 {
			t.Errorf("%s: %v", name, st.Mode())
		}
	}
}

// Every kind of file takes every other's place, in one layer and over the one below.
func TestReplacing(t *testing.T) {
	b := newBench(t, testMap(t))
	kinds := map[string][]tar.Header{
		"file": {file("x")}, "link": {sym("x", "keep")}, "dangling": {sym("x", "/nowhere")}, "fifo": {{Name: "x", Typeflag: tar.TypeFifo}},
		"hard": {hard("x", "keep")}, "dir": {dir("x")}, "full": {dir("x"), dir("x/s"), file("x/s/f")},
	}
	looks := map[string]string{"file": "x", "link": "x -> keep", "dangling": "x -> /nowhere", "fifo": "x", "hard": "x", "dir": "x/", "full": "x/, x/s/, x/s/f"}
	for before, first := range kinds {
		for after, then := range kinds {
			want := "keep, " + looks[after]
			if before == "full" && after == "dir" {
				want = "keep, x/, x/s/, x/s/f" // a directory stays, and what is in it
			}
			_, path, _, err := b.unpack(tarOf(t, map[string]string{"keep": "kept"}, append(append([]tar.Header{file("keep")}, first...), then...)...))
			if err != nil {
				t.Errorf("%s, then %s: %v", before, after, err)
			} else if got := strings.ReplaceAll(tree(t, path), " opaque", ""); got != want {
				t.Errorf("%s, then %s: %s", before, after, got)
			}
			low, _, _, err := b.unpack(tarOf(t, map[string]string{"keep": "kept"}, append([]tar.Header{file("keep")}, first...)...))
			if err != nil {
				t.Fatal(err)
			}
			up, _, _, err := b.unpack(tarOf(t, nil, then...), low)
			if err != nil {
				t.Errorf("%s below %s: %v", before, after, err)
				continue
			}
			at, flat := b.fresh()
			if _, err := b.s.Flatten([]layer.Place{low, up}, at); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, flat); got != want {
				t.Errorf("%s below %s: %s", before, after, got)
			}
			if got, err := os.ReadFile(flat + "/keep"); err != nil || string(got) != "kept" {
				t.Errorf("%s below %s: what the link names holds %q, %v", before, after, got, err)
			}
		}
	}
}

// The sparse files of each of tar's formats come back as they were, holes too.
func TestSparseFormats(t *testing.T) {
	b := newBench(t, testMap(t))
	src := t.TempDir()
	f, err := os.Create(filepath.Join(src, "s"))
	if err != nil {
		t.Fatal(err)
	}
	for off, text := range map[int64]string{0: "first", 1 << 20: strings.Repeat("mid", 2000), 40 << 20: "last"} {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(64<<20), f.Close(), os.WriteFile(filepath.Join(src, "after"), []byte("after"), 0o644)); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(src, "s"))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
		cmd := exec.Command("tar", append(args, "--sparse", "--owner=0", "--group=0", "-C", src, "-cf", "-", "s", "after")...)
		cmd.Stderr = os.Stderr
		stream, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if len(stream) > 1<<20 {
			t.Fatalf("%v: no sparse tar: %d bytes", args, len(stream))
		}
		_, path, _, err := b.unpack(stream)
		if err != nil {
			t.Errorf("%v: %v", args, err)
			continue
		}
		got, err := os.ReadFile(path + "/s")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: other bytes (%v)", args, err)
		}
		if st, err := os.Stat(path + "/s"); err != nil || st.Sys().(*syscall.Stat_t).Blocks*512 > 256<<10 {
			t.Errorf("%v: holes are full: %v", args, err)
		}
		if got, err := os.ReadFile(path + "/after"); string(got) != "after" || err != nil {
			t.Errorf("%v: %q %v", args, got, err)
		}
	}
}

package stage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// describe tells everything of a tree that a layer can hold, a line for each entry, by what lstat(2) says out here.
func describe(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	links := map[uint64]string{}
	var walk func(path string)
	walk = func(path string) {
		full := filepath.Join(root, path)
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%q %o %d:%d rdev %d", path, st.Mode, st.Uid, st.Gid, st.Rdev)
		if !isWhiteout(&st) {
			line += fmt.Sprintf(" time %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFDIR && st.Nlink > 1 {
			first, ok := links[st.Ino]
			if !ok {
				links[st.Ino], first = path, path
			}
			line += fmt.Sprintf(" one of %d with %q", st.Nlink, first)
		}
		switch kind {
		case unix.S_IFLNK:
			to, err := os.Readlink(full)
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" to %q", to)
		case unix.S_IFREG:
			line += content(t, full, &st)
		}
		if kind == unix.S_IFDIR || kind == unix.S_IFREG {
			line += xattrsOf(t, full)
		}
		lines = append(lines, line)
		if kind == unix.S_IFDIR {
			readable(t, full, func() (none struct{}) {
				entries, err := os.ReadDir(full)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					walk(filepath.Join(path, e.Name()))
				}
				return none
			})
		}
	}
	walk(".")
	return strings.Join(lines, "\n")
}

// readable runs read, with the permissions for it where the test's user is the owner.
func readable[T any](t testing.TB, path string, read func() T) T {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&0o500 != 0o500 && int(st.Uid) == os.Getuid() && os.Getuid() != 0 {
		if err := unix.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
		defer unix.Chmod(path, st.Mode&0o7777)
	}
	return read()
}

func content(t testing.TB, full string, st *unix.Stat_t) string {
	if int(st.Uid) != os.Getuid() && os.Getuid() != 0 && st.Mode&0o4 == 0 {
		return fmt.Sprintf(" size %d", st.Size)
	}
	return readable(t, full, func() string {
		b, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 100 {
			return fmt.Sprintf(" size %d blocks %v", len(b), st.Blocks*512 < st.Size)
		}
		return fmt.Sprintf(" %q", b)
	})
}

func xattrsOf(t testing.TB, full string) string {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(full, buf)
	if err != nil {
		return ""
	}
	var out []string
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		v := make([]byte, 1<<16)
		if n, err := unix.Lgetxattr(full, name, v); err == nil {
			out = append(out, fmt.Sprintf(" %s=%q", name, v[:n]))
		}
	}
	sort.Strings(out)
	return strings.Join(out, "")
}

// pack packs what is at a place.
func (b *bench) pack(req layer.PackRequest) ([]byte, layer.Packed, error) {
	var out bytes.Buffer
	res, err := b.s.Pack(req, &out)
	return out.Bytes(), res, err
}

// again is the law: a layer that is packed and unpacked is the same layer, and packed once more it is the same stream.
func (b *bench) again(t testing.TB, at layer.Place, path string, below ...layer.Place) []byte {
	t.Helper()
	stream, res, err := b.pack(layer.PackRequest{At: at, Tree: layer.TreeLayer})
	if err != nil {
		t.Fatal(err)
	}
	if res.Sockets+res.Devices+res.Names+res.Changing != 0 {
		t.Fatalf("left out: %+v", res)
	}
	at2, path2, _, err := b.unpack(stream, below...)
	if err != nil {
		t.Fatalf("unpack what was packed: %v", err)
	}
	if was, is := describe(t, path), describe(t, path2); was != is {
		t.Fatalf("packed and unpacked, it was\n%s\nand is\n%s", was, is)
	}
	stream2, _, err := b.pack(layer.PackRequest{At: at2, Tree: layer.TreeLayer})
	if err != nil || !bytes.Equal(stream, stream2) {
		t.Fatalf("the second stream of the same layer is another one (%v)", err)
	}
	return stream
}

func at(sec, nsec int64) time.Time { return time.Unix(sec, nsec) }

func TestPackLaw(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, map[string]string{"low": "low"}, dir("usr"), dir("usr/lib"), file("usr/lib/gone"), sym("lib", "usr/lib"), file("low"), dir("opaque"), file("opaque/x")))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("long/", 60) + "name"
	zeros := strings.Repeat("\x00", 1<<20)
	x := func(h tar.Header, kv ...string) tar.Header {
		h.PAXRecords = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			h.PAXRecords[paxXattr+kv[i]] = kv[i+1]
		}
		return h
	}
	caps := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service+ep
	for name, hdrs := range map[string][]tar.Header{
		"nothing":     nil,
		"files":       {dir("a"), file("a/x"), {Name: "a/setuid", Mode: 0o4755, Uid: 7, Gid: 8}, {Name: "a/sticky", Typeflag: tar.TypeDir, Mode: 0o1777}},
		"times":       {{Name: "old", ModTime: at(-86400, 123456789), Format: tar.FormatPAX}, {Name: "new", ModTime: at(5e9, 1), Format: tar.FormatPAX}, {Name: "d", Typeflag: tar.TypeDir, ModTime: at(1e9, 999999999), Format: tar.FormatPAX}, file("d/x")},
		"links":       {file("x"), hard("z", "x"), hard("a", "x"), sym("s", "x"), sym("out", "/../../etc"), {Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o640}, hard("fifo2", "fifo"), hard("s2", "s")},
		"names":       {file(long), file("new\nline"), file("\xff\xfe"), file("späß"), file(" "), file("-rf"), sym("target", strings.Repeat("t", 3000)), file(strings.Repeat("n", 255))},
		"xattrs":      {x(file("bin"), "user.a", "\x00\x01\xff", "user.empty", "", "user.newline\n", "v\n"), x(dir("d"), "user.d", "dir"), x(file("caps"), "security.capability", caps)},
		"ids":         {{Name: "nobody", Uid: 65534, Gid: 65534}, {Name: "d", Typeflag: tar.TypeDir, Uid: 1000, Gid: 50}},
		"closed":      {{Name: "d", Typeflag: tar.TypeDir, Mode: 0o1000}, {Name: "d/x", Mode: 0o1000}},
		"sparse":      {file("hole")},
		"root":        {{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1775, Uid: 3, ModTime: at(12345, 0)}},
		"whiteouts":   {file("usr/lib/.wh.gone"), file(".wh.low")},
		"opaque":      {dir("opaque"), file("opaque/.wh..wh..opq"), file("opaque/y")},
		"opaque root": {file(".wh..wh..opq"), file("only")},
		"implicit":    {file("lib/through-the-link"), hard("other", "low")},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			place, path, _, err := b.unpack(tarOf(t, map[string]string{"hole": zeros + "end", "x": "content", "d/x": "d"}, hdrs...), low)
			if err != nil {
				t.Fatal(err)
			}
			b.again(t, place, path, low)
		})
	}
	b.t = t
}

// What is packed can be read by anybody: no name of overlayfs's own, file capabilities without the root of this
// machine's mapping, hard links by the first of the sorted names.
func TestPackStream(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, nil, dir("d"), file("d/x"), file("gone")))
	if err != nil {
		t.Fatal(err)
	}
	caps := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	place, path, _, err := b.unpack(tarOf(t, nil, dir("d"), file("d/.wh..wh..opq"), file(".wh.gone"), file("b"), hard("a", "b"),
		tar.Header{Name: "caps", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": caps}}), low)
	if err != nil {
		t.Fatal(err)
	}
	stream := b.again(t, place, path, low)
	var got []string
	r := tar.NewReader(bytes.NewReader(stream))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %c %s", h.Name, h.Typeflag, h.Linkname))
		for k, v := range h.PAXRecords {
			if strings.HasPrefix(k, paxXattr) && (k != paxXattr+xattrCaps || v != caps) {
				t.Errorf("%s: %s=%q", h.Name, k, v)
			}
		}
	}
	want := "./ 5 |a 0 |b 1 a|caps 0 |d/ 5 |d/.wh..wh..opq 0 |.wh.gone 0 "
	if strings.Join(got, "|") != want {
		t.Errorf("packed %q, want %q", strings.Join(got, "|"), want)
	}
}

// An upper directory holds what was done, and what it takes to do it.
func TestPackUpper(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, map[string]string{"etc/passwd": "root:x:0:0\n"}, dir("etc"), file("etc/passwd"), dir("d"), file("d/x"), file("gone"), dir("same")))
	if err != nil {
		t.Fatal(err)
	}
	upper := func(tree layer.Tree, placed []layer.Placed, make func(dir string)) (string, layer.Packed, error) {
		t.Helper()
		place, path := b.fresh()
		make(path)
		stream, res, err := b.pack(layer.PackRequest{At: place, Tree: tree, Below: []layer.Place{low}, Placed: placed})
		var names []string
		for r := tar.NewReader(bytes.NewReader(stream)); err == nil; {
			h, err := r.Next()
			if err != nil {
				break
			}
			body, _ := io.ReadAll(r)
			names = append(names, h.Name+" "+string(body))
		}
		return strings.Join(names, "|"), res, err
	}
	write := func(dir string, files ...string) {
		t.Helper()
		for i := 0; i < len(files); i += 2 {
			name := filepath.Join(dir, files[i])
			if strings.HasSuffix(files[i], "/") {
				if err := os.Mkdir(name, 0o755); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
				t.Fatal(err)
			}
			own(t, b.m, name)
		}
	}
	setx := func(path, name, value string) {
		t.Helper()
		if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(b.dir, low.Name, "etc/passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	placed := []layer.Placed{{Path: "etc/passwd", Kind: layer.PlacedLine, Line: []byte("me:x:1:1")}, {Path: "etc/hosts", Kind: layer.PlacedText},
		{Path: "work", Kind: layer.PlacedDir}, {Path: "work/project", Kind: layer.PlacedDir}, {Path: "point", Kind: layer.PlacedFile}}
	ours := []string{"etc/", "", "etc/passwd", "me:x:1:1\nroot:x:0:0\n", "etc/hosts", "127.0.0.1\n", "work/", "", "work/project/", "", "point", ""}

	got, res, err := upper(layer.TreeUpper, placed, func(dir string) { os.Chmod(dir, 0o755); write(dir, ours...) })
	if err != nil || got != "" || res.Entries != 0 {
		t.Errorf("what cove has put there was packed: %q %+v %v", got, res, err)
	}
	got, _, err = upper(layer.TreeUpper, placed, func(dir string) {
		os.Chmod(dir, 0o755)
		write(dir, ours...)
		write(dir, "etc/passwd", "new:x:5:5\nme:x:1:1\nroot:x:0:0\n", "work/mine", "m", "etc/own", "o")
	})
	if want := "./ |etc/ |etc/own o|etc/passwd new:x:5:5\nroot:x:0:0\n|work/ |work/mine m"; err != nil || got != want {
		t.Errorf("beside what cove has put there: %q, want %q (%v)", got, want, err)
	}
	got, res, err = upper(layer.TreeUpper, nil, func(dir string) {
		os.Chmod(dir, 0o755)
		write(dir, "d/", "", "d/y", "y", ".wh.odd", "", "away", "", "same/", "")
		setx(filepath.Join(dir, "d"), xattrOpaque, "y")
		setx(filepath.Join(dir, "away"), whiteoutXattr, "")
		setx(filepath.Join(dir, "same"), "user.overlay.origin", "x")
		if err := unix.Mknod(filepath.Join(dir, "gone"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o600, 0); err != nil {
			t.Fatal(err)
		}
	})
	if want := "./ |.wh.away |d/ |d/.wh..wh..opq |d/y y|.wh.gone |same/ "; err != nil || got != want || res.Names != 1 || res.Sockets != 1 {
		t.Errorf("markers: %q, want %q, %+v (%v)", got, want, res, err)
	}
	got, _, err = upper(layer.TreeFuse, nil, func(dir string) {
		os.Chmod(dir, 0o755)
		write(dir, "d/", "", "d/.wh..wh..opq", "", "d/.wh.x", "", ".wh.gone", "", "new/", "", "new/.wh..wh..opq", "")
		if err := unix.Mknod(filepath.Join(dir, "new/.wh..opq"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
	})
	if want := "./ |.wh.gone |d/ |d/.wh..wh..opq |d/.wh.x |new/ "; err != nil || got != want {
		t.Errorf("fuse-overlayfs's markers: %q, want %q (%v)", got, want, err)
	}
	for _, away := range awayXattrs {
		_, _, err = upper(layer.TreeUpper, nil, func(dir string) {
			write(dir, "half", "")
			setx(filepath.Join(dir, "half"), away, "x")
		})
		if err == nil || !strings.Contains(err.Error(), `"half"`) {
			t.Errorf("%s: %v", away, err)
		}
	}
}

// A copy is packed by what differs from the layers that it was made of.
func TestPackCopy(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, map[string]string{"x": "same", "y": "old", "d/z": "z", "far": "far"},
		dir("d"), dir("gone"), file("gone/deep"), file("x"), file("y"), file("d/z"), sym("s", "x"), file("far"), dir("dirtofile"), file("filetodir")))
	if err != nil {
		t.Fatal(err)
	}
	low2, _, _, err := b.unpack(tarOf(t, nil, file(".wh.far"), file("d/more")), low)
	if err != nil {
		t.Fatal(err)
	}
	place, path := b.fresh()
	if _, err := b.s.Flatten([]layer.Place{low, low2}, place); err != nil {
		t.Fatal(err)
	}
	packed := func() (string, layer.Packed, []byte) {
		t.Helper()
		stream, res, err := b.pack(layer.PackRequest{At: place, Tree: layer.TreeCopy, Below: []layer.Place{low, low2}})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for r := tar.NewReader(bytes.NewReader(stream)); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			names = append(names, h.Name)
		}
		return strings.Join(names, " "), res, stream
	}
	if got, res, _ := packed(); got != "" || res.Entries != 0 {
		t.Errorf("no difference: %q %+v", got, res)
	}
	for _, err := range []error{
		os.RemoveAll(filepath.Join(path, "gone")), os.Remove(filepath.Join(path, "dirtofile")), os.Remove(filepath.Join(path, "filetodir")),
		os.WriteFile(filepath.Join(path, "y"), []byte("NEW"), 0o644), os.WriteFile(filepath.Join(path, "dirtofile"), nil, 0o644),
		os.Mkdir(filepath.Join(path, "filetodir"), 0o755), os.WriteFile(filepath.Join(path, "filetodir/in"), nil, 0o644),
		os.Link(filepath.Join(path, "d/z"), filepath.Join(path, "linked")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"dirtofile", "filetodir", "filetodir/in"} {
		own(t, b.m, filepath.Join(path, name))
	}
	// The same size and time, and still another content.
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(path, "x"), &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "x"), []byte("SAME"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.UtimesNano(filepath.Join(path, "x"), []unix.Timespec{st.Atim, st.Mtim}); err != nil {
		t.Fatal(err)
	}
	got, _, stream := packed()
	if want := "./ dirtofile filetodir/ filetodir/in .wh.gone linked x y"; got != want {
		t.Errorf("packed %q, want %q", got, want)
	}
	// On top of the layers it makes the copy again.
	top, _, _, err := b.unpack(stream, low, low2)
	if err != nil {
		t.Fatal(err)
	}
	place2, path2 := b.fresh()
	if _, err := b.s.Flatten([]layer.Place{low, low2, top}, place2); err != nil {
		t.Fatal(err)
	}
	clean := func(s string) string { // a link to a file of another layer is a file of its own here
		return strings.ReplaceAll(strings.ReplaceAll(s, ` one of 2 with "d/z"`, ""), ` one of 2 with "linked"`, "")
	}
	if was, is := clean(describe(t, path)), clean(describe(t, path2)); was != is {
		t.Errorf("the copy was\n%s\nand its layers are\n%s", was, is)
	}
}

// A file that is written to while it is packed cannot break the stream.
func TestPackChanging(t *testing.T) {
	b := newBench(t, testMap(t))
	place, path := b.fresh()
	name := filepath.Join(path, "grows")
	if err := os.WriteFile(name, bytes.Repeat([]byte("x"), 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	own(t, b.m, name)
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for size := int64(1); ; size = (size*7919 + 1) % (8 << 20) {
			select {
			case <-done:
				return
			default:
				_ = os.Truncate(name, size)
			}
		}
	}()
	for range 20 {
		stream, _, err := b.pack(layer.PackRequest{At: place, Tree: layer.TreeLayer})
		if err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(bytes.NewReader(stream))
		for {
			_, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(done)
	<-stopped
}

// Who works in the tree meanwhile can swap what is there for links out, fifos and folders: the pack neither fails, nor waits,
// nor reads what is elsewhere.
func TestPackSwapped(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, nil, dir("d"), file("d/x"), file("y")))
	if err != nil {
		t.Fatal(err)
	}
	place, path := b.fresh()
	secret := filepath.Join(filepath.Dir(path), "secret")
	if err := errors.Join(os.Mkdir(secret, 0o755), os.WriteFile(filepath.Join(secret, "x"), []byte("SECRET"), 0o644)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(secret)
	in := func(name string) string { return filepath.Join(path, name) }
	err = errors.Join(os.Mkdir(in("d"), 0o755), os.WriteFile(in("d/x"), []byte("mine\nline\n"), 0o644), os.WriteFile(in("y"), []byte("mine"), 0o644),
		os.Symlink(secret, in("out")), os.Symlink("../secret", in("up")), os.Symlink(filepath.Join(secret, "x"), in("file")), unix.Mkfifo(in("fifo"), 0o644),
		os.Mkdir(in("e"), 0o755), os.WriteFile(in("e/x"), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d", "d/x", "y", "out", "up", "file", "fifo", "e", "e/x"} {
		own(t, b.m, in(name))
	}
	inner, err := unix.Open(in("d"), unix.O_PATH|unix.O_DIRECTORY, 0) // whatever it is called, and no way out for this test
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inner)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		pairs := [][2]string{{"d", "out"}, {"y", "file"}, {"e", "up"}, {"y", "fifo"}, {"x", "fifo"}, {"d", "e"}, {"y", "e"}, {"out", "y"}, {"x", "file"}}
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
				p := pairs[n%len(pairs)]
				if p[0] == "x" {
					_ = unix.Renameat2(inner, "x", unix.AT_FDCWD, in(p[1]), unix.RENAME_EXCHANGE)
					continue
				}
				_ = unix.Renameat2(unix.AT_FDCWD, in(p[0]), unix.AT_FDCWD, in(p[1]), unix.RENAME_EXCHANGE)
			}
		}
	}()
	placed := []layer.Placed{{Path: "d/x", Kind: layer.PlacedLine, Line: []byte("line")}, {Path: "y", Kind: layer.PlacedLine, Line: []byte("line")}}
	began := time.Now()
	for n := 0; time.Since(began) < 2*time.Second; n++ {
		tree := []layer.Tree{layer.TreeUpper, layer.TreeFuse, layer.TreeCopy}[n%3]
		stream, _, err := b.pack(layer.PackRequest{At: place, Tree: tree, Below: []layer.Place{low}, Placed: placed})
		if err != nil {
			t.Errorf("%s: %v", tree, err)
			break
		}
		if bytes.Contains(stream, []byte("SECRET")) {
			t.Errorf("%s: it holds what is elsewhere", tree)
			break
		}
	}
	close(done)
	<-stopped
}

// A file that has grown beyond what a line is taken out of is packed whole, and not cut.
func TestPackLineGrown(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f", bytes.Repeat([]byte("line\n"), maxLined/4), 0o644); err != nil {
		t.Fatal(err)
	}
	var seen unix.Stat_t
	if err := unix.Lstat("f", &seen); err != nil {
		t.Fatal(err)
	}
	seen.Size = 5
	p := newPacker(io.Discard, layer.Request{Tree: layer.TreeUpper})
	if done, err := p.withoutLine("f", &seen, []byte("line")); done || err != nil || p.res.Entries != 0 {
		t.Errorf("%v %v %+v", done, err, p.res)
	}
}

// FuzzPack's law is TestPackLaw's, for whatever unpacks.
func FuzzPack(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2, 1, 6, 0, 14, 0})
	f.Add([]byte{0, 2, 0, 0, 17, 0, 3, 0, 9})
	b := newBench(f, testMap(f))
	low, _, _, err := b.unpack(tarOf(f, nil, file("low"), sym("below", "/"), dir("a"), file("a/x"), sym("up", "../../..")))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		var hdrs []tar.Header
		for ; len(program) >= 3; program = program[3:] {
			h := tar.Header{Typeflag: fuzzTypes[int(program[0])%len(fuzzTypes)], Name: fuzzNames[int(program[1])%len(fuzzNames)],
				Mode: int64(program[0])<<4 | 0o555, Uid: int(program[2]), ModTime: at(int64(program[1])*1e7-1e9, int64(program[2])), Format: tar.FormatPAX,
				Linkname: fuzzTargets[int(program[2])%len(fuzzTargets)]}
			if h.Typeflag != tar.TypeDir {
				h.Name = strings.TrimSuffix(h.Name, "/")
			}
			if h.Typeflag == tar.TypeReg {
				h.PAXRecords = map[string]string{paxXattr + "user.f": string(program[:3])}
			}
			hdrs = append(hdrs, h)
		}
		b.t = t
		n := b.n
		place, path, _, err := b.unpack(tarOf(t, nil, hdrs...), low)
		if err == nil {
			b.again(t, place, path, low)
		}
		for ; b.n > n; b.n-- {
			if err := b.s.Remove(layer.Place{Name: fmt.Sprint(b.n - 1)}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

package stage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/fetch/layer"

	"github.com/klauspost/compress/zstd"
)

func dir(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
func sym(name, target string) tar.Header {
	return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}
}
func hard(name, target string) tar.Header {
	return tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}
}
func file(name string) tar.Header { return tar.Header{Name: name} }

// canary is beside the layer's directory and in the host's root: what an escape would touch.
func canaries(t testing.TB, b *bench) func(testing.TB) {
	t.Helper()
	mine := filepath.Join(b.dir, "canary")
	if err := os.WriteFile(mine, []byte("untouched"), 0o666); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, b.dir)
	return func(t testing.TB) {
		t.Helper()
		if got, err := os.ReadFile(mine); err != nil || string(got) != "untouched" {
			t.Fatalf("the canary was touched: %q %v", got, err)
		}
		if after := snapshot(t, b.dir); after != before {
			t.Fatalf("beside the layer, before:\n%s\nafter:\n%s", before, after)
		}
		for _, p := range []string{"/tmp/cove-escaped", "/cove-escaped", "/etc/cove-escaped"} {
			if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
				os.Remove(p)
				t.Fatalf("%s was made", p)
			}
		}
	}
}

// snapshot describes what is in dir beside the numbered layers.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var s strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name()[0] >= '0' && e.Name()[0] <= '9' {
			continue
		}
		st, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		sys := st.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&s, "%s %v %d %d %v %d\n", e.Name(), st.Mode(), sys.Uid, sys.Nlink, st.ModTime().UnixNano(), st.Size())
	}
	return s.String()
}

func TestRefusedEntries(t *testing.T) {
	b := newBench(t, testMap(t))
	check := canaries(t, b)
	long := strings.Repeat("n", 256)
	for name, hdrs := range map[string][]tar.Header{
		"dotdot":             {file("../cove-escaped")},
		"dotdot inside":      {dir("a"), file("a/../../cove-escaped")},
		"dotdot dir":         {dir("..")},
		"dotdot whiteout":    {file("a/../../.wh.canary")},
		"dotdot device":      {{Name: "../x", Typeflag: tar.TypeChar}},
		"giant link":         {hard("x", strings.Repeat("n", 500_000))},
		"giant attribute":    {{Name: "x", PAXRecords: map[string]string{"SCHILY.xattr.user." + strings.Repeat("n", 500_000): "v"}}},
		"link up":            {hard("x", "../canary")},
		"link absolute":      {hard("x", "/etc/passwd")},
		"link to nothing":    {hard("x", "nothing")},
		"link to dir":        {dir("a"), hard("x", "a")},
		"link to itself":     {file("x"), hard("x", "x")},
		"link to root":       {hard("x", ".")},
		"link via symlink":   {sym("up", "../.."), hard("x", "up/canary")},
		"whiteout dot":       {file(".wh..")},
		"whiteout dotdot":    {file(".wh...")},
		"whiteout nothing":   {file(".wh.")},
		"whiteout as dir":    {file(".wh.a/b")},
		"root is a file":     {file(".")},
		"root is a link":     {sym("/", "/etc")},
		"file as parent":     {file("a"), file("a/b")},
		"fifo as parent":     {{Name: "a", Typeflag: tar.TypeFifo}, file("a/b")},
		"loop":               {sym("a", "b"), sym("b", "a"), file("a/x")},
		"self loop":          {sym("a", "a/a"), file("a/x")},
		"long component":     {file("d/" + long)},
		"long path":          {file(strings.Repeat("d/", 2100) + "f")},
		"empty symlink":      {sym("x", "")},
		"long symlink":       {sym("x", strings.Repeat("t/", 2100))},
		"uid not mapped":     {{Name: "x", Uid: 3_000_000}},
		"gid not mapped":     {{Name: "x", Gid: 3_000_000}},
		"uid too large":      {{Name: "x", Uid: 1 << 33}},
		"negative uid":       {{Name: "x", Uid: -5}},
		"bad capability":     {{Name: "x", PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "junk"}}},
		"whiteout then link": {file("a"), hard("b", "zz"), file(".wh.zz")},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range hdrs {
				if hdrs[i].Uid < 0 || hdrs[i].Uid > 1<<32 || len(hdrs[i].Name) > 100 {
					hdrs[i].Format = tar.FormatGNU
				}
			}
			_, _, _, err := b.unpack(tarOf(t, nil, hdrs...))
			if err == nil {
				t.Fatal("accepted")
			}
			if len(err.Error()) > 2000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			check(t)
		})
	}
	_, _, _, err := b.unpack(tarOf(t, nil, tar.Header{Name: "home/\x1b[31mbob", Uid: 70_000}))
	var u *layer.UnmappedIDError
	if !errors.As(err, &u) || u.ID != 70_000 || u.GID || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%v", err)
	}
}

// Links lead back into the layer, wherever they point.
func TestLinksStayInside(t *testing.T) {
	b := newBench(t, testMap(t))
	check := canaries(t, b)
	for name, hdrs := range map[string][]tar.Header{
		"absolute":     {dir("tmp"), sym("out", "/tmp"), file("out/cove-escaped")},
		"climbing":     {dir("tmp"), sym("out", "../../../../../../tmp"), file("out/cove-escaped")},
		"chain":        {dir("tmp"), sym("b", "/"), sym("c", "b/tmp"), file("c/cove-escaped")},
		"link to link": {dir("tmp"), sym("a", "/etc/passwd"), hard("b", "a"), file("tmp/cove-escaped")},
		"dir over it":  {sym("tmp", "/etc"), dir("tmp"), file("tmp/cove-escaped")},
		"missing":      {sym("a", "/tmp"), file("a/cove-escaped")},
	} {
		t.Run(name, func(t *testing.T) {
			_, path, _, err := b.unpack(tarOf(t, nil, hdrs...))
			if err != nil {
				t.Fatal(err)
			}
			if st, err := os.Lstat(path + "/tmp/cove-escaped"); err != nil || !st.Mode().IsRegular() {
				t.Errorf("%v", err)
			}
			check(t)
		})
	}
	// A file over a link replaces the link, and what it pointed at stays.
	_, path, _, err := b.unpack(tarOf(t, map[string]string{"a": "A"}, sym("a", "../canary"), file("a"), sym("m", "/etc"), dir("m")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path + "/a"); string(got) != "A" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	check(t)
}

func TestBrokenStreams(t *testing.T) {
	b := newBench(t, testMap(t))
	body := make([]byte, 600_000)
	_, _ = rand.Read(body)
	whole := tarOf(t, map[string]string{"a": string(body)}, file("a"))
	var zipped, zst bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(whole)
	w.Close()
	z, _ := zstd.NewWriter(&zst)
	_, _ = z.Write(whole)
	z.Close()
	checksum := bytes.Clone(whole)
	checksum[150] ^= 1
	size := bytes.Clone(whole)
	copy(size[124:], "77777777777")
	negative := bytes.Clone(whole)
	copy(negative[124:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
	for name, stream := range map[string][]byte{
		"one byte": {0}, "text": []byte(strings.Repeat("no tar at all ", 200)),
		"cut tar": whole[:300_000], "cut header": whole[:300], "cut gzip": zipped.Bytes()[:300_000], "cut zstd": zst.Bytes()[:300_000],
		"gzip junk": append(bytes.Clone(zipped.Bytes()), "junk"...), "checksum": checksum, "size": size, "negative": negative,
		"bzip2": []byte("BZh91AY&SY"), "xz": []byte("\xfd7zXZ\x00\x00"), "zstd window": {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0, 0, 0},
	} {
		if _, _, _, err := b.unpack(stream); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	two := append(bytes.Clone(zipped.Bytes()), zipped.Bytes()...)
	if _, _, res, err := b.unpack(nil); err != nil || res.Entries != 0 {
		t.Errorf("no bytes: %+v %v", res, err)
	}
	skip := append([]byte{0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}, zst.Bytes()...)
	for name, stream := range map[string][]byte{"gzip": zipped.Bytes(), "zstd": zst.Bytes(), "members": two, "skippable": skip, "tar": whole} {
		_, path, _, err := b.unpack(stream)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := os.ReadFile(path + "/a"); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: other bytes (%v)", name, err)
		}
	}
}

func TestLimits(t *testing.T) {
	b := newBench(t, testMap(t))
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	tw := tar.NewWriter(w)
	_ = tw.WriteHeader(&tar.Header{Name: "zeros", Size: 64 << 20, Mode: 0o644, Typeflag: tar.TypeReg})
	_, _ = tw.Write(make([]byte, 64<<20))
	tw.Close()
	w.Close()
	many := make([]tar.Header, 100)
	for i := range many {
		many[i] = file(fmt.Sprint(i))
	}
	for what, c := range map[string]struct {
		stream []byte
		lim    layer.Limits
	}{
		"ratio":   {bomb.Bytes(), layer.Limits{RatioFrom: 1 << 20}},
		"bytes":   {bomb.Bytes(), layer.Limits{Bytes: 1 << 20}},
		"entries": {tarOf(t, nil, many...), layer.Limits{Entries: 99}},
	} {
		at, _ := b.fresh()
		_, err := b.s.Unpack(layer.UnpackRequest{At: at, Limits: c.lim}, bytes.NewReader(c.stream))
		var lim *layer.LimitError
		if !errors.As(err, &lim) || lim.What != what {
			t.Errorf("%s: %v", what, err)
		}
	}
	at, _ := b.fresh()
	if _, err := b.s.Unpack(layer.UnpackRequest{At: at}, bytes.NewReader(bomb.Bytes())); err != nil {
		t.Errorf("64 MiB of zeros are no bomb: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	b := newBench(t, testMap(t))
	when := time.Unix(1_234_567_890, 123_456_789)
	old := time.Unix(-5, 0)
	pax := func(h tar.Header, at time.Time, xattrs ...string) tar.Header {
		h.ModTime, h.Format, h.PAXRecords = at, tar.FormatPAX, map[string]string{}
		for i := 0; i < len(xattrs); i += 2 {
			h.PAXRecords["SCHILY.xattr."+xattrs[i]] = xattrs[i+1]
		}
		return h
	}
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	suid := pax(file("su"), when, "user.kept", "v", "user.overlay.opaque", "y", "trusted.overlay.redirect", "/etc", "security.selinux", "x")
	suid.Mode, suid.Uid, suid.Gid = 0o6755, 33, 34
	closed := pax(dir("closed"), when)
	closed.Mode = 0o10000 // a bit that is none of the twelve; plain 0 is a header's default here
	closed.Uid = 33
	ping := pax(file("ping"), when, "security.capability", capability)
	odd := "d/\xff\xfe new\nline \\ \" : , 'q'"
	_, path, res, err := b.unpack(tarOf(t, map[string]string{"closed/in": "x", odd: "odd", "ping": "p", "su": "s"},
		pax(dir("d"), old), closed, file("closed/in"), suid, ping, file(odd),
		tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock},
		pax(tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}, when), pax(sym("l", "d"), when),
	))
	if err != nil {
		t.Fatal(err)
	}
	if res.Devices != 2 || res.Xattrs != 3 {
		t.Errorf("%+v", res)
	}
	for name, want := range map[string]time.Time{"d": old, "su": when, "pipe": when, "l": when, "closed": when} {
		st, err := os.Lstat(path + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !st.ModTime().Equal(want) {
			t.Errorf("%s: time %v, want %v", name, st.ModTime(), want)
		}
	}
	st, _ := os.Lstat(path + "/su")
	uid, _ := b.m.HostUID(33)
	gid, _ := b.m.HostGID(34)
	if s := st.Sys().(*syscall.Stat_t); st.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != fs.ModeSetuid|fs.ModeSetgid || s.Uid != uid || s.Gid != gid {
		t.Errorf("su: %v %d:%d", st.Mode(), s.Uid, s.Gid)
	}
	if st, _ := os.Lstat(path + "/closed"); st.Mode().Perm() != 0 {
		t.Errorf("closed: %v", st.Mode())
	}
	if got, err := os.ReadFile(path + "/" + odd); string(got) != "odd" {
		t.Errorf("odd name: %q %v", got, err)
	}
	buf := make([]byte, 100)
	if n, err := syscall.Getxattr(path+"/su", "user.kept", buf); err != nil || string(buf[:n]) != "v" {
		t.Errorf("user.kept: %v", err)
	}
	if _, err := syscall.Getxattr(path+"/su", "user.overlay.opaque", buf); err != syscall.ENODATA {
		t.Errorf("user.overlay.opaque: %v", err)
	}
	if n, err := syscall.Getxattr(path+"/ping", "security.capability", buf); err != nil || n != 24 || buf[5] != 4 {
		t.Errorf("security.capability: %d bytes, %v", n, err)
	}
	if _, err := os.Lstat(path + "/dev/null"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a device node was made")
	}
}

func TestSparse(t *testing.T) {
	b := newBench(t, testMap(t))
	body := make([]byte, 8<<20)
	copy(body[3<<20:], "in the middle")
	_, path, _, err := b.unpack(tarOf(t, map[string]string{"s": string(body)}, file("s")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path + "/s")
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("other bytes (%v)", err)
	}
	st, _ := os.Stat(path + "/s")
	if n := st.Sys().(*syscall.Stat_t).Blocks * 512; n > 64<<10 {
		t.Errorf("%d bytes on disk", n)
	}
}

// A setgid directory gives its group to what is made in it; the tar's word counts.
func TestSetgidDirectory(t *testing.T) {
	b := newBench(t, testMap(t))
	shared := tar.Header{Name: "s", Typeflag: tar.TypeDir, Mode: 0o2775, Gid: 50}
	_, path, _, err := b.unpack(tarOf(t, nil, dir("s"), file("s/e"), shared, file("s/f"), dir("s/d"), sym("s/l", "x"), tar.Header{Name: "s/p", Typeflag: tar.TypeFifo}))
	if err != nil {
		t.Fatal(err)
	}
	for name, inside := range map[string]uint32{"s": 50, "s/f": 0, "s/d": 0, "s/l": 0, "s/p": 0} {
		st, err := os.Lstat(path + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		gid, _ := b.m.HostGID(inside)
		if got := st.Sys().(*syscall.Stat_t).Gid; got != gid {
			t.Errorf("%s: group %d, want %d", name, got, gid)
		}
		if setgid := st.Mode()&fs.ModeSetgid != 0; setgid != (name == "s") {
			t.Errorf("%s: %v", name, st.Mode())
		}
	}
}

// A directory that no entry describes, below a setgid one, is as mkdir(2) makes it there.
func TestImplicitInSetgid(t *testing.T) {
	b := newBench(t, testMap(t))
	shared := tar.Header{Name: "s", Typeflag: tar.TypeDir, Mode: 0o2775, Uid: 33, Gid: 50}
	_, path, _, err := b.unpack(tarOf(t, nil, shared, file("s/a/b/f")))
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := b.m.HostUID(0)
	gid, _ := b.m.HostGID(50)
	for _, name := range []string{"s/a", "s/a/b"} {
		st, err := os.Lstat(path + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if sys := st.Sys().(*syscall.Stat_t); st.Mode() != fs.ModeDir|fs.ModeSetgid|0o755 || sys.Uid != uid || sys.Gid != gid {
			t.Errorf("%s: %v, owner %d:%d", name, st.Mode(), sys.Uid, sys.Gid)
		}
	}
}

// Data and zeros in pieces of every size come out as they went in.
func TestSparseShapes(t *testing.T) {
	b := newBench(t, testMap(t))
	contents, hdrs := map[string]string{}, []tar.Header{}
	for n, pieces := range [][]int{{0}, {1}, {-1}, {-4096}, {4096, -16384, 1}, {-16384, 4096}, {-300000, 5}, {100, -300000}, {-12288, 1}, {4095, -20000, 4097, -65536}, {262144, -262144, 262144}, {-262143, 2, -262143}} {
		var s strings.Builder
		for _, p := range pieces {
			if p < 0 {
				s.Write(make([]byte, -p))
			} else {
				s.WriteString(strings.Repeat("x", p))
			}
		}
		name := fmt.Sprint(n)
		contents[name] = s.String()
		hdrs = append(hdrs, file(name))
	}
	_, path, _, err := b.unpack(tarOf(t, contents, hdrs...))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range contents {
		if got, err := os.ReadFile(path + "/" + name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, want %d; other contents (%v)", name, len(got), len(want), err)
		}
	}
}

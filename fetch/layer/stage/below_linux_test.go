package stage

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// tree lists what is in a directory, overlay marks included: "name", "name/", "name -> x", "!name" for a
// whiteout, "name/ opaque".
func tree(t testing.TB, root string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, p)
		switch {
		case name == ".":
			return nil
		case e.IsDir():
			name += "/"
			var v [4]byte
			if n, err := syscall.Getxattr(p, xattrOpaque, v[:]); err == nil && string(v[:n]) == "y" {
				name += " opaque"
			}
		case e.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			name += " -> " + target
		case e.Type()&fs.ModeCharDevice != 0:
			name = "!" + name
		}
		out = append(out, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestStacking(t *testing.T) {
	type layers = [][]tar.Header
	for _, c := range []struct {
		name      string
		layers    layers
		upper     string // what the last layer holds
		flat      string // all of them, merged
		dependent bool
	}{
		{"whiteout", layers{{dir("d"), file("d/a"), file("b")}, {dir("d"), file("d/.wh.a"), file(".wh.b")}},
			"!b, !d/a, d/", "d/", true},
		{"opaque", layers{{dir("d"), file("d/a"), dir("d/s"), file("d/s/x")}, {dir("d"), file("d/new"), file("d/.wh..wh..opq")}},
			"d/ opaque, d/new", "d/, d/new", false},
		{"whiteout before the file", layers{{file("a")}, {file(".wh.a"), file("a")}}, "a", "a", false},
		{"whiteout after the file", layers{{file("a")}, {file("a"), file(".wh.a")}}, "a", "a", false},
		{"whiteout before the directory", layers{{dir("d"), file("d/old")}, {file(".wh.d"), dir("d"), file("d/new")}},
			"d/ opaque, d/new", "d/, d/new", false},
		{"whiteout after the directory", layers{{dir("d"), file("d/old")}, {dir("d"), file("d/new"), file(".wh.d")}},
			"d/ opaque, d/new", "d/, d/new", false},
		{"implicit parent", layers{{{Name: "d", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7}}, {file("d/a")}}, "d/, d/a", "d/, d/a", true},
		{"implicit parent of the lowest", layers{{file("d/a")}}, "d/, d/a", "d/, d/a", true},
		{"parent is a link below", layers{{dir("usr"), dir("usr/lib"), sym("lib", "usr/lib")}, {file("lib/a")}},
			"usr/, usr/lib/, usr/lib/a", "lib -> usr/lib, usr/, usr/lib/, usr/lib/a", true},
		{"absolute and climbing links below", layers{{dir("usr"), sym("a", "/usr"), sym("usr/b", "../../../a")}, {file("usr/b/x")}},
			"usr/, usr/x", "a -> /usr, usr/, usr/b -> ../../../a, usr/x", true},
		{"whiteout through a link", layers{{dir("usr"), file("usr/x"), sym("l", "usr")}, {file("l/.wh.x")}},
			"!usr/x, usr/", "l -> usr, usr/", true},
		{"directory over a link", layers{{dir("usr"), file("usr/x"), sym("l", "usr")}, {dir("l"), file("l/a")}},
			"l/, l/a", "l/, l/a, usr/, usr/x", false},
		{"link to a lower file", layers{{dir("d"), file("d/a")}, {hard("b", "d/a")}}, "b, d/, d/a", "b, d/, d/a", true},
		{"link to a lower file, then gone", layers{{file("a")}, {hard("b", "a"), file(".wh.a")}}, "!a, b", "b", true},
		{"file over a directory", layers{{dir("d"), file("d/x")}, {file("d")}}, "d", "d", false},
		{"file, then directory", layers{{dir("d"), file("d/x")}, {file("d"), dir("d")}}, "d/ opaque", "d/", false},
		{"two names for a directory", layers{{dir("d"), file("d/x")}, {dir("./d/"), file("/d/y")}}, "d/, d/y", "d/, d/x, d/y", false},
		{"gone, and then below it", layers{{dir("d"), file("d/x")}, {file(".wh.d")}, {file("d/y")}}, "d/, d/y", "d/, d/y", true},
		{"opaque hides the link", layers{{dir("d"), sym("d/l", "/etc")}, {dir("d"), file("d/.wh..wh..opq"), file("d/l/x")}},
			"d/ opaque, d/l/, d/l/x", "d/, d/l/, d/l/x", true},
		{"opaque root", layers{{dir("d"), file("d/a"), file("f"), sym("l", "d")}, {dir("d"), file(".wh..wh..opq"), file("n")}},
			"!f, !l, d/ opaque, n", "d/, n", true},
		{"opaque root over a whiteout", layers{{file("f"), file("g")}, {file(".wh.f")}, {file(".wh..wh..opq"), file(".wh.g")}}, "!g", "", true},
		{"opaque root, nothing below", layers{{file(".wh..wh..opq"), file("n")}}, "n", "n", true},
		{"link to a lower file, then all gone", layers{{file("f"), file("g")}, {hard("b", "f"), file(".wh..wh..opq")}}, "!f, !g, b", "b", true},
		{"link to a lower file, then its directory gone", layers{{dir("d"), dir("d/e"), file("d/e/a")}, {hard("b", "d/e/a"), file(".wh.d")}},
			"!d, b", "b", true},
		{"link to a lower file, then its directory opaque", layers{{dir("d"), dir("d/e"), file("d/e/a")}, {hard("b", "d/e/a"), file("d/.wh..wh..opq")}},
			"b, d/ opaque", "b, d/", true},
		{"the same, and something in it", layers{{dir("d"), dir("d/e"), file("d/e/a")}, {hard("b", "d/e/a"), file(".wh.d"), file("d/e/n")}},
			"b, d/ opaque, d/e/, d/e/n", "b, d/, d/e/, d/e/n", true},
		{"through a link, and then its own directory gone", layers{{dir("a"), dir("a/b"), sym("a/b/l", "../../c"), dir("c")}, {file("a/b/l/f"), file("a/.wh..wh..opq")}},
			"a/ opaque, c/, c/f", "a/, c/, c/f", true},
		{"through a link", layers{{dir("a"), dir("a/b"), sym("a/b/l", "../../c"), dir("c")}, {file("a/b/l/f")}}, "c/, c/f", "a/, a/b/, a/b/l -> ../../c, c/, c/f", true},
		{"opaque alone", layers{{dir("d"), file("d/a")}, {file("d/.wh..wh..opq")}}, "d/ opaque", "d/", true},
		{"opaque, then gone", layers{{dir("d"), file("d/a")}, {file("d/.wh..wh..opq"), file(".wh.d")}}, "!d", "", true},
		{"opaque inside, then gone", layers{{dir("d"), dir("d/e"), file("d/e/a")}, {file("d/e/.wh..wh..opq"), file(".wh.d")}}, "!d", "", true},
		{"opaque inside opaque", layers{{dir("d"), dir("d/e"), file("d/e/a")}, {file("d/e/.wh..wh..opq"), file("d/.wh..wh..opq")}}, "d/ opaque", "d/", true},
		{"opaque of nothing", layers{{file("a")}, {file("d/e/.wh..wh..opq")}}, "", "a", true},
		{"opaque, and something in it", layers{{dir("d"), file("d/a")}, {file("d/.wh..wh..opq"), file("d/n")}}, "d/ opaque, d/n", "d/, d/n", true},
		{"opaque of nothing, and something in it", layers{{file("a")}, {file("d/.wh..wh..opq"), file("d/n")}}, "d/ opaque, d/n", "a, d/, d/n", true},
		{"opaque, and then a directory", layers{{dir("d"), file("d/a")}, {file("d/.wh..wh..opq"), file(".wh.d"), dir("d")}}, "d/ opaque", "d/", true},
		// overlayfs would list the name.
		{"whiteout in a new directory", layers{{file("a")}, {dir("q"), file("q/.wh.z"), file("p/.wh.z")}}, "q/", "a, q/", true},
		{"whiteout in an opaque directory", layers{{dir("d"), dir("d/e"), file("d/e/a")}, {dir("d"), dir("d/e"), file("d/e/.wh.a"), file("d/.wh..wh..opq")}},
			"d/ opaque, d/e/", "d/, d/e/", false},
		{"whiteout in what is gone", layers{{dir("a"), dir("a/b"), file("a/b/x")}, {file("a/.wh.b"), file("a/b/.wh.x")}}, "!a/b, a/", "a/", true},
		{"whiteout in it, then all gone", layers{{dir("a"), dir("a/b"), file("a/b/x"), file("f")}, {file("a/b/.wh.x"), file(".wh..wh..opq")}}, "!a, !f", "", true},
		{"link into it, then all gone", layers{{dir("a"), file("a/x")}, {hard("h", "a/x"), file(".wh..wh..opq")}}, "!a, h", "h", true},
		{"whiteout deep below nothing", layers{{dir("a")}, {file("a/b/c/.wh.x"), file("l/.wh.y"), file("l/z")}}, "l/, l/z", "a/, l/, l/z", true},
		{"whiteout in it, then gone", layers{{dir("a"), dir("a/b"), file("a/b/x")}, {file("a/b/.wh.x"), file(".wh.a")}}, "!a", "", true},
		{"whiteout in it, then opaque", layers{{dir("a"), dir("a/b"), file("a/b/x"), file("a/y")}, {file("a/b/.wh.x"), file("a/.wh..wh..opq")}}, "a/ opaque", "a/", true},
		{"whiteout in it stays", layers{{dir("a"), dir("a/b"), file("a/b/x")}, {file("a/b/.wh.x")}}, "!a/b/x, a/, a/b/", "a/, a/b/", true},
		{"whiteout on nothing", layers{{dir("d"), file("d/.wh.a"), file(".wh.b")}}, "d/", "d/", true},
		{"aufs leftovers", layers{{dir("d"), file("d/.wh..wh.plnk"), file(".wh..wh.aufs")}}, "d/", "d/", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, testMap(t))
			var places []layer.Place
			for n, hdrs := range c.layers {
				at, path, res, err := b.unpack(tarOf(t, nil, hdrs...), places...)
				if err != nil {
					t.Fatalf("layer %d: %v", n, err)
				}
				if n == len(c.layers)-1 {
					if got := tree(t, path); got != c.upper {
						t.Errorf("the layer holds %s\nwant %s", got, c.upper)
					}
					if res.Dependent != c.dependent {
						t.Errorf("dependent: %v", res.Dependent)
					}
				}
				places = append(places, at)
			}
			at, path := b.fresh()
			if _, err := b.s.Flatten(places, at); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, path); got != c.flat {
				t.Errorf("merged: %s\nwant %s", got, c.flat)
			}
		})
	}
}

func TestImplicitParentIsAsBelow(t *testing.T) {
	b := newBench(t, testMap(t))
	low, _, _, err := b.unpack(tarOf(t, nil, tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7, Gid: 8}))
	if err != nil {
		t.Fatal(err)
	}
	_, path, _, err := b.unpack(tarOf(t, nil, file("tmp/x")), low)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path + "/tmp")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := b.m.HostUID(7)
	if got := st.Sys().(*syscall.Stat_t).Uid; st.Mode() != fs.ModeDir|fs.ModeSticky|0o777 || got != uid {
		t.Errorf("%v, owner %d", st.Mode(), got)
	}
}

func TestBelowThatFails(t *testing.T) {
	b := newBench(t, testMap(t))
	at, _ := b.fresh()
	why := errors.New("the lower layer was a lie")
	_, err := b.s.Unpack(layer.UnpackRequest{At: at, Below: func() ([]layer.Place, error) { return nil, why }},
		strings.NewReader(string(tarOf(t, nil, file("d/x")))))
	if !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// What the last entry for a directory says counts, and not what was below it or came before.
func TestDirectoryAttributesAreItsOwn(t *testing.T) {
	b := newBench(t, testMap(t))
	marked := tar.Header{Name: "d", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SCHILY.xattr.user.mark": "below"}}
	low, _, _, err := b.unpack(tarOf(t, nil, marked))
	if err != nil {
		t.Fatal(err)
	}
	for name, hdrs := range map[string][]tar.Header{"twice": {marked, dir("d")}, "implicit before": {file("d/x"), dir("d")}} {
		_, path, _, err := b.unpack(tarOf(t, nil, hdrs...), low)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Getxattr(path+"/d", "user.mark", make([]byte, 8)); err != syscall.ENODATA {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Names that go back and forth, and paths as deep as they can be, in several layers: what they
// take grows with what there is to do, not with its square.
func TestAwkwardShapesEnd(t *testing.T) {
	b := roomyBench(t, testMap(t))
	var hdrs []tar.Header
	for i := range 20_000 {
		hdrs = append(hdrs, dir(fmt.Sprintf("d%d", i)))
	}
	for range 5_000 {
		hdrs = append(hdrs, dir("x"), file("x"))
	}
	if _, _, _, err := b.unpack(tarOf(t, nil, hdrs...)); err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("d/", 2040)
	var places []layer.Place
	for n := range 4 {
		at, _, _, err := b.unpack(tarOf(t, nil, file(deep+fmt.Sprint(n))), places...)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, at)
	}
	// Of the processor, so that what else the machine does is not counted: a few seconds. Each of these was minutes once.
	if took := processorTime(t, b.s.Pid()); took > 60*time.Second {
		t.Errorf("it took %v", took)
	} else {
		t.Log(took)
	}
}

// processorTime is what a process has used of the processor (proc_pid_stat(5)).
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, f := range fields[11:13] { // utime and stime, in 1/100 s
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// A tree that is deeper than a process may have descriptors, with names like those that a removal uses.
func TestRemoveDeepTree(t *testing.T) {
	b := newBench(t, testMap(t))
	deep := strings.Repeat("d/", 2000)
	at, _, _, err := b.unpack(tarOf(t, nil, file(deep+"f"), file(strings.Repeat("e/", 700)+"f"), dir(".lifted-1"), file(".lifted-1/x"), file(".lifted-2")))
	if err != nil {
		t.Fatal(err)
	}
	// The stage's own limit: the dozen descriptors it has, those of one removal, and few more.
	pid := b.s.Pid()
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: maxOpen + 50, Max: maxOpen + 50}, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.s.Remove(at); err != nil {
		t.Fatalf("%.300v", err)
	}
}

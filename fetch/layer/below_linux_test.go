package layer

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
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
			"!b, !d/a, d/", "d/", false},
		{"opaque", layers{{dir("d"), file("d/a"), dir("d/s"), file("d/s/x")}, {dir("d"), file("d/new"), file("d/.wh..wh..opq")}},
			"d/ opaque, d/new", "d/, d/new", false},
		{"whiteout before the file", layers{{file("a")}, {file(".wh.a"), file("a")}}, "a", "a", false},
		{"whiteout after the file", layers{{file("a")}, {file("a"), file(".wh.a")}}, "a", "a", false},
		{"whiteout before the directory", layers{{dir("d"), file("d/old")}, {file(".wh.d"), dir("d"), file("d/new")}},
			"d/ opaque, d/new", "d/, d/new", false},
		{"whiteout after the directory", layers{{dir("d"), file("d/old")}, {dir("d"), file("d/new"), file(".wh.d")}},
			"d/ opaque, d/new", "d/, d/new", false},
		{"implicit parent", layers{{{Name: "d", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7}}, {file("d/a")}}, "d/, d/a", "d/, d/a", true},
		{"implicit parent of the lowest", layers{{file("d/a")}}, "d/, d/a", "d/, d/a", false},
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
		{"aufs leftovers", layers{{dir("d"), file("d/.wh..wh.plnk"), file(".wh..wh.aufs")}}, "d/", "d/", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, testMap(t))
			var places []Place
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
	_, err := b.s.Unpack(UnpackRequest{At: at, Below: func() ([]Place, error) { return nil, why }},
		strings.NewReader(string(tarOf(t, nil, file("d/x")))))
	if !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

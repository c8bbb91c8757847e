package store

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"cove/fetch/oci"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// looks is what was looked at: how often files and folders were opened, and how often folders were read.
type looks struct{ opened, listed int }

// look counts how often the folders, and files in them, are looked at while f runs (inotify(7)).
func look(t *testing.T, folders []string, f func()) (n looks) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, dir := range folders {
		// What is closed is told too, or the same twice would be told once.
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN|unix.IN_ACCESS|unix.IN_CLOSE|unix.IN_ONLYDIR); err != nil {
			t.Fatal(err)
		}
	}
	f()
	buf := make([]byte, 64<<10)
	for {
		got, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		for rest := buf[:got]; len(rest) > 0; {
			what, name := binary.NativeEndian.Uint32(rest[4:]), int(binary.NativeEndian.Uint32(rest[12:]))
			switch {
			case what&unix.IN_Q_OVERFLOW != 0:
				t.Fatal("there was more than the kernel keeps")
			case what&unix.IN_OPEN != 0:
				n.opened++
			case what&unix.IN_ACCESS != 0 && name == 0:
				n.listed++
			}
			rest = rest[unix.SizeofInotifyEvent+name:]
		}
	}
}

// putImages makes n images, each of a layer of its own.
func putImages(t *testing.T, s *Store, m userns.IDMap, n int, setups bool) (refs []string) {
	t.Helper()
	a, err := s.Begin(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	defer a.End()
	layers := map[string]string{}
	for i := range n {
		tmp, err := a.TempLayer()
		if err != nil {
			t.Fatal(err)
		}
		layers[tmp] = oci.FromString(fmt.Sprint("layer", i)).Encoded()
	}
	if err := a.PublishLayers(layers); err != nil {
		t.Fatal(err)
	}
	base := Name{Ref: "docker.io/library/base:1", Platform: "linux/amd64", Manifest: oci.FromString("image0")}
	for i := range n {
		name := base
		name.Manifest = oci.FromString(fmt.Sprint("image", i))
		id := oci.FromString(fmt.Sprint("layer", i))
		rec := &Record{Manifest: name.Manifest, ConfigID: oci.FromString("config"), Platform: name.Platform, IDMap: m, Layers: []LayerRecord{{Digest: oci.FromString(fmt.Sprint("blob", i)), DiffID: id, Dir: id.Encoded(), Disk: 4096}}}
		switch {
		case i == 0:
		case setups:
			name.Ref, name.Base, rec.Setup = SetupName(fmt.Sprint(i)), base.Manifest, &Setup{Base: base.Manifest}
		default:
			name.Ref = fmt.Sprintf("docker.io/library/image%d:1", i)
		}
		if err := a.PutRecord(rec, name, name.Ref); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, name.Ref)
	}
	return refs
}

// What is done to a store opens three times as many files where there are three times as many images, and not nine times; and it
// lists no folder more often, which takes the longer the more there is in it.
func TestLinear(t *testing.T) {
	m := testMap(t)
	key := m.Key()
	leave := func(t *testing.T, s *Store, n int, pattern string) {
		for i := range n {
			if err := os.Mkdir(s.path("layers", key, fmt.Sprintf(pattern, i)), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, work := range map[string]func(t *testing.T, n int) looks{
		"gc of images that were set up": func(t *testing.T, n int) looks {
			s := open(t)
			putImages(t, s, m, n, true)
			asked := 0
			s.SetupWanted = func(*Setup) bool { asked++; return true }
			return look(t, []string{s.path("images"), s.path("names")}, func() {
				if got, err := s.Collect(ctx, false); err != nil || len(got.Images) != 0 || asked != n-1 {
					t.Errorf("%+v, %v, asked for %d", got, err, asked)
				}
			})
		},
		"gc of layers that were replaced": func(t *testing.T, n int) looks {
			s := open(t)
			putImages(t, s, m, n, false)
			leave(t, s, n, oldPrefix+"%d-0")
			return look(t, []string{s.path("images")}, func() {
				if got, err := s.Collect(ctx, false); err != nil || got.Leftovers != n {
					t.Errorf("%+v, %v", got, err)
				}
			})
		},
		"sweep of pulls that were killed": func(t *testing.T, n int) looks {
			s := open(t)
			putImages(t, s, m, 1, false)
			leave(t, s, n, ".tmp-%d-1")
			for i := range n {
				if err := os.Mkdir(s.path("tmp", fmt.Sprint(i)), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			return look(t, []string{s.path("layers", key)}, func() {
				if err := s.Sweep(ctx); err != nil {
					t.Error(err)
				}
				if left, err := listDir(s.path("layers", key)); err != nil || len(left) != 1 {
					t.Errorf("left: %d, %v", len(left), err)
				}
				if left, err := listDir(s.path("tmp")); err != nil || len(left) != 0 {
					t.Errorf("left: %d, %v", len(left), err)
				}
			})
		},
		"push of many layers": func(t *testing.T, n int) looks {
			s := open(t)
			refs := putImages(t, s, m, n, false)
			var blobs []oci.Digest
			for i := range n {
				blobs = append(blobs, oci.FromString(fmt.Sprint("blob", i)))
			}
			return look(t, []string{s.path("images"), s.path("names")}, func() {
				got, err := s.Holders(append(blobs, "none"))
				if err != nil || len(got) != n {
					t.Errorf("%v, %v", got, err)
				}
				for i, blob := range blobs {
					if !slices.Equal(got[blob], []string{refs[i]}) {
						t.Errorf("%d: %q", i, got[blob])
					}
				}
			})
		},
		"rmi of all": func(t *testing.T, n int) looks {
			s := open(t)
			var all [][]string
			for _, ref := range putImages(t, s, m, n, false) {
				all = append(all, []string{"no-such-name", ref})
			}
			return look(t, []string{s.path("images"), s.path("names")}, func() {
				if got, err := s.RemoveAll(ctx, all...); err != nil || len(got.Names) != n || len(got.Images) != n || got.Layers != n {
					t.Errorf("%+v, %v", got, err)
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			few, many := work(t, 15), work(t, 45)
			if many.opened > 3*few.opened+10 || many.listed > few.listed+5 {
				t.Errorf("for 15: %+v, for 45: %+v", few, many)
			}
		})
	}
}

// Each image's part of the disk is told with one look at each layer.
func TestDivide(t *testing.T) {
	set := func(images ...oci.Digest) map[oci.Digest]bool {
		out := map[oci.Digest]bool{}
		for _, i := range images {
			out[i] = true
		}
		return out
	}
	layers := []*layerUse{{1, set("a", "b")}, {10, set("a")}, {100, set("b")}, {1000, set("a", "b", "c")}}
	looks := 0
	parts := divide(func(yield func(*layerUse) bool) {
		for _, l := range layers {
			if looks++; !yield(l) {
				return
			}
		}
	})
	got := map[oci.Digest]part{}
	for d, p := range parts {
		got[d] = *p
	}
	if want := map[oci.Digest]part{"a": {1001, 10}, "b": {1001, 100}, "c": {1000, 0}}; !maps.Equal(got, want) || looks != len(layers) {
		t.Errorf("%v after %d looks", got, looks)
	}
}

// Of several images those before one that is not there are removed; each is known by the first of its names that means one.
func TestRemoveAll(t *testing.T) {
	s, m := open(t), testMap(t)
	refs := putImages(t, s, m, 4, false)
	left := func() (out []string) {
		images, err := s.Images()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images {
			out = append(out, i.Names...)
		}
		slices.Sort(out)
		return out
	}
	digest := string(oci.FromString("image2"))
	got, err := s.RemoveAll(ctx, []string{"image1:1", "docker.io/image1:1", refs[1]}, []string{digest}, []string{"none", "sha256:0000"}, []string{refs[3]})
	if err == nil || err.Error() != `remove image "none": not in the store` || !slices.Equal(got.Names, []string{refs[1], refs[2]}) || len(got.Images) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if want := []string{refs[0], refs[3]}; !slices.Equal(left(), want) {
		t.Errorf("left: %q", left())
	}
	if got, err := s.RemoveAll(ctx, []string{"none"}); err == nil || len(got.Images) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

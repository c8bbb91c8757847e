package fetch

import (
	"errors"
	"os"
	"testing"

	"cove/fetch/layer"
	rt "cove/fetch/registrytest"
	"cove/userns"
)

// Whoever has one id only runs images whose files have one owner.
func TestSingleID(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root always has a range")
	}
	r, o := registry(t), options(t)
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	one, _ := r.Add("one:1", rt.Image{Layers: []rt.Layer{{Tar: rt.Tar(rt.Dir("d"), rt.File("d/f", "f"), rt.File("g", "g"))},
		{Tar: rt.Tar(rt.File("d/implicit", "i"), rt.File(".wh.g", ""))}}})
	two, _ := r.Add("two:1", rt.Simple(rt.File("a", "a"), rt.Owned(rt.File("b", "b"), 0, 12)))
	o.IDMap = userns.Single(uid, gid, 0, 0)
	img, err := Pull(ctx, one, o)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, flat(t, o, img)+"/d/implicit", "i")
	var unmapped *layer.UnmappedIDError
	if _, err := Pull(ctx, two, o); !errors.As(err, &unmapped) || !unmapped.GID || unmapped.ID != 12 || unmapped.Entry != "b" {
		t.Errorf("%v", err)
	}
	// With the one id being another than 0, root's files have no owner.
	o.IDMap = userns.Single(uid, gid, 1000, 1000)
	if _, err := Pull(ctx, one, o); !errors.As(err, &unmapped) {
		t.Errorf("%v", err)
	}
	mine, _ := r.Add("mine:1", rt.Simple(rt.Owned(rt.Dir("d"), 1000, 1000), rt.Owned(rt.File("d/f", "f"), 1000, 1000)))
	if img, err = Pull(ctx, mine, o); err != nil {
		t.Fatal(err)
	}
	wantFile(t, flat(t, o, img)+"/d/f", "f")
}

// Where root inside is a subordinate id the layers' own directories are not the caller's.
func TestRootInsideIsAnother(t *testing.T) {
	r, o := registry(t), options(t)
	o.IDMap = testMap(t, 1000)
	ref, _ := r.Add("a:1", rt.Image{Layers: []rt.Layer{{Tar: rt.Tar(rt.Dir("."), rt.File("a", "a"), rt.Owned(rt.Dir("home"), 1000, 1000))},
		{Tar: rt.Tar(rt.Owned(rt.File("home/b", "b"), 1000, 1000))}}})
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	root := flat(t, o, img)
	wantFile(t, root+"/home/b", "b")
	for path, inside := range map[string]uint32{"/a": 0, "/home": 1000, "/home/b": 1000} {
		st, err := os.Lstat(root + path)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := o.IDMap.HostUID(inside); owner(st) != want {
			t.Errorf("%s: owner %d, want %d", path, owner(st), want)
		}
	}
}

// An image without layers is one empty directory's worth.
func TestNoLayers(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("empty:1", rt.Image{})
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Layers) != 0 {
		t.Errorf("%v", img.Layers)
	}
}

package fetch

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cove/fetch/image"
	"cove/fetch/oci"
	rt "cove/fetch/registrytest"
	"cove/fetch/store"
)

// lockOf is what a lock would hold of a reference, for this machine.
func lockOf(t *testing.T, ref string, o Options) *image.Locked {
	t.Helper()
	r, err := Resolve(ctx, ref, []string{o.Platform}, o)
	if err != nil {
		t.Fatal(err)
	}
	return &image.Locked{Manifest: r[0].Manifest, Layers: r[0].DiffIDs(), By: "cove.lock"}
}

// The registry is asked for what is locked, never for the tag, and the tag in the store stays what it is.
func TestLockedPull(t *testing.T) {
	for _, policy := range []PullPolicy{Missing, Always, Newer} {
		r, o := registry(t), options(t)
		old, moved := rt.Simple(rt.File("v", "old")), rt.Simple(rt.File("v", "moved"))
		ref, was := r.Add("team/app:1", old)
		lock := lockOf(t, ref, o)
		_, is := r.Add("team/app:1", moved)
		if img, err := Pull(ctx, ref, o); err != nil || img.Digest != oci.Digest(is) {
			t.Fatalf("unlocked: %+v, %v", img, err)
		}
		tag := r.Hits("/v2/team/app/manifests/1")
		o.Policy, o.Locked = policy, lock
		img, err := Pull(ctx, ref, o)
		if err != nil || img.Digest != oci.Digest(was) {
			t.Fatalf("policy %d: %+v, %v", policy, img, err)
		}
		if data, err := os.ReadFile(filepath.Join(img.Layers[0], "v")); err != nil || string(data) != "old" {
			t.Errorf("policy %d: %q, %v", policy, data, err)
		}
		if got := r.Hits("/v2/team/app/manifests/1"); got != tag {
			t.Errorf("policy %d: the tag was asked for %d times", policy, got-tag)
		}
		name, err := o.Store.Resolve(ref, img.Platform)
		if err != nil || name.Manifest != oci.Digest(is) {
			t.Errorf("policy %d: the tag in the store is %+v, %v", policy, name, err)
		}
		if policy == Missing {
			hits := r.Hits("")
			if found, err := agree(t, "locked", ref, o); err != nil || found.Digest != oci.Digest(was) || r.Hits("") != hits {
				t.Errorf("found %+v, %v, with %d requests", found, err, r.Hits("")-hits)
			}
		}
	}
}

func TestLockedToAnother(t *testing.T) {
	r, o := registry(t), options(t)
	two := rt.Simple(rt.File("v", "x"))
	two.Layers = append(two.Layers, rt.Layer{Tar: rt.Tar(rt.File("w", "y"))})
	ref, d := r.Add("app:1", two)
	right := lockOf(t, ref, o)
	if err := right.Check(oci.Digest(d), right.Layers); err != nil {
		t.Fatal(err)
	}
	other := oci.FromString("other")
	for name, c := range map[string]struct {
		lock image.Locked
		want []string
	}{
		"a layer":       {image.Locked{Manifest: right.Manifest, Layers: []oci.Digest{right.Layers[0], other}}, []string{"layer 2 with diffID", string(other), string(right.Layers[1])}},
		"a layer less":  {image.Locked{Manifest: right.Manifest, Layers: right.Layers[:1]}, []string{"number of layers", " 2 ", " 1 "}},
		"a layer more":  {image.Locked{Manifest: right.Manifest, Layers: append(slices.Clone(right.Layers), other)}, []string{"number of layers", " 3 "}},
		"in that order": {image.Locked{Manifest: right.Manifest, Layers: []oci.Digest{right.Layers[1], right.Layers[0]}}, []string{"layer 1 with diffID"}},
	} {
		for _, there := range []bool{false, true} {
			o.Locked = nil
			if there {
				if _, err := Pull(ctx, ref, o); err != nil {
					t.Fatal(err)
				}
			} else if _, err := o.Store.Remove(ctx, string(d)); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			c.lock.By = "cove.lock"
			o.Locked = &c.lock
			img, err := Pull(ctx, ref, o)
			var le *image.LockedError
			if img != nil || !errors.As(err, &le) {
				t.Errorf("%s, there %v: %+v, %v", name, there, img, err)
				continue
			}
			for _, want := range append(c.want, "cove.lock", "app:1") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s, there %v: %v; want %q", name, there, err, want)
				}
			}
			if all, _ := o.Store.Images(); !there && len(all) > 0 {
				t.Errorf("%s: left in the store: %+v", name, all)
			}
		}
	}
}

// What lies on this machine is locked by what it holds, too.
func TestLockedLayout(t *testing.T) {
	_, o := registry(t), options(t)
	dir := filepath.Join(t.TempDir(), "image")
	write := func(body string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(dir), rt.WriteLayout(dir, map[string]rt.Image{"v1": rt.Simple(rt.File("v", body))})); err != nil {
			t.Fatal(err)
		}
	}
	ref := "oci:" + dir + ":v1"
	write("first")
	o.Offline = true // it takes none
	lock := lockOf(t, ref, o)
	write("second")
	now := lockOf(t, ref, o)
	o.Locked = lock
	_, err := Pull(ctx, ref, o)
	var le *image.LockedError
	if !errors.As(err, &le) || le.Want != string(lock.Manifest) || le.Got != string(now.Manifest) {
		t.Errorf("another one is there: %v", err)
	}
	write("first")
	img, err := Pull(ctx, ref, o)
	if err != nil || img.Digest != lock.Manifest {
		t.Fatalf("%+v, %v", img, err)
	}
	// In the store it stays what it is, for another id mapping too, whatever becomes of the layout.
	write("second")
	if again, err := agree(t, "the layout has changed", ref, o); err != nil || again.Digest != lock.Manifest {
		t.Errorf("%+v, %v", again, err)
	}
	o.IDMap = testMap(t, 1000)
	if again, err := Pull(ctx, ref, o); os.Getuid() != 0 && (err != nil || again.Digest != lock.Manifest) {
		t.Errorf("for other ids: %+v, %v", again, err)
	}
	o.Locked = nil
	if img, err := Pull(ctx, ref, o); err != nil || img.Digest != now.Manifest {
		t.Errorf("unlocked: %+v, %v", img, err)
	}
}

func TestOffline(t *testing.T) {
	r, o := registry(t), options(t)
	ref, d := r.Add("app:1", rt.Simple(rt.File("v", "x")))
	o.Offline = true
	var off *OfflineError
	for _, policy := range []PullPolicy{Missing, Always, Newer} {
		o.Policy = policy
		if img, err := Pull(ctx, ref, o); !errors.As(err, &off) || !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v, %v", img, err)
		}
	}
	o.Policy = Missing
	if got, err := Resolve(ctx, ref, []string{""}, o); !errors.As(err, &off) {
		t.Errorf("%+v, %v", got, err)
	}
	if n := r.Hits(""); n != 0 {
		t.Errorf("%d requests", n)
	}
	o.Offline = false
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	asked, err := Resolve(ctx, ref, []string{""}, o)
	if err != nil {
		t.Fatal(err)
	}
	hits := r.Hits("")
	o.Offline = true
	if img, err := Pull(ctx, ref, o); err != nil || img.Digest != oci.Digest(d) {
		t.Errorf("%+v, %v", img, err)
	}
	known, err := Resolve(ctx, ref, []string{""}, o)
	if err != nil || !reflect.DeepEqual(known, asked) || r.Hits("") != hits {
		t.Errorf("%+v, %v with %d requests; the registry said %+v", known, err, r.Hits("")-hits, asked)
	}
}

// All platforms are from one look: a tag that moves in between moves none of them.
func TestResolveOneLook(t *testing.T) {
	r, o := registry(t), options(t)
	of := func(arch, body string) rt.Image {
		i := rt.Simple(rt.File("v", body), rt.File("arch", arch))
		i.Platform.OS, i.Platform.Architecture = "linux", arch
		return i
	}
	ref, was := r.AddIndex("app:1", of("amd64", "old"), of("arm64", "old"))
	_, moved := r.AddIndex("moved:1", of("amd64", "new"), of("arm64", "new"))
	platforms := []string{"linux/amd64", "linux/arm64"}
	asked := 0
	r.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, "/app/manifests/1") {
			asked++
		} else if asked > 0 && strings.Contains(req.URL.Path, "/manifests/sha256:") {
			r.AddIndex("app:1", of("amd64", "new"), of("arm64", "new"))
		}
		return false
	})
	got, err := Resolve(ctx, ref, platforms, o)
	if err != nil || len(got) != 2 || got[0].Platform != platforms[0] || got[1].Platform != platforms[1] {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, g := range got {
		if g.Index != oci.Digest(was) || len(g.Layers) != 1 || g.Size() == 0 {
			t.Errorf("%+v", g)
		}
	}
	if got, err = Resolve(ctx, ref, platforms, o); err != nil || got[0].Index != oci.Digest(moved) {
		t.Errorf("%+v, %v", got, err)
	}
	var pe *PlatformError
	if _, err := Resolve(ctx, ref, []string{"linux/amd64", "linux/s390x"}, o); !errors.As(err, &pe) {
		t.Errorf("error is %v", err)
	}
	for _, ref := range []string{"host", "dir:/"} {
		if got, err := Resolve(ctx, ref, []string{""}, o); err == nil {
			t.Errorf("%s: %+v", ref, got)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Resolve(ended, ref, platforms, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if all, err := o.Store.Images(); err != nil || len(all) > 0 {
		t.Errorf("resolving has stored %+v, %v", all, err)
	}
}

// What a machine's policy says of a tag it says of the image that is locked under it, too.
func TestLockedPolicy(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("team/app:1", rt.Simple(rt.File("v", "x")))
	lock := lockOf(t, ref, o)
	dir := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "containers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for text, refused := range map[string]bool{
		`{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"` + ref + `": [{"type": "reject"}]}}}`: true,
		`{"default": [{"type": "reject"}], "transports": {"docker": {"` + ref + `": [{"type": "insecureAcceptAnything"}]}}}`: false,
	} {
		if err := os.WriteFile(filepath.Join(dir, "policy.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Policy = Always
		for name, locked := range map[string]*image.Locked{"unlocked": nil, "locked": lock} {
			o.Locked = locked
			_, err := Pull(ctx, ref, o)
			var denied *PolicyError
			if errors.As(err, &denied) != refused || !refused && err != nil {
				t.Errorf("%s, %s: %v", name, text, err)
			}
		}
	}
}

// A lock comes with a project: it chooses among what the project's reference may name, and reaches nothing else.
func TestLockReachesNothingElse(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("team/app:1", rt.Simple(rt.File("v", "theirs")))
	other, d := r.Add("private/app:1", rt.Simple(rt.File("v", "private")))
	private, own := lockOf(t, other, o), lockOf(t, ref, o)
	if _, err := Pull(ctx, other, o); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	if err := rt.WriteLayout(dir, map[string]rt.Image{"v1": rt.Simple(rt.File("v", "layout"))}); err != nil {
		t.Fatal(err)
	}
	o.Locked, o.Offline = private, true
	for _, m := range []uint32{0, 1000} { // for other ids it is not copied either
		if o.IDMap = testMap(t, m); os.Getuid() == 0 && m > 0 {
			break
		}
		if img, err := Pull(ctx, ref, o); !errors.As(err, new(*OfflineError)) {
			t.Errorf("a tag: %+v, %v", img, err)
		}
		if img, err := image.Find(ref, o.local()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("found: %+v, %v", img, err)
		}
		if img, err := Pull(ctx, "oci:"+dir+":v1", o); !errors.As(err, new(*image.LockedError)) {
			t.Errorf("a layout: %+v, %v", img, err)
		}
	}
	o.IDMap, o.Offline = testMap(t, 0), false
	// A digest in the reference is the reference's own word.
	pinned := strings.TrimSuffix(ref, ":1") + "@" + string(own.Manifest)
	if img, err := Pull(ctx, pinned, o); !errors.As(err, new(*image.LockedError)) {
		t.Errorf("a digest: %+v, %v", img, err)
	}
	o.Locked = own
	if img, err := Pull(ctx, pinned, o); err != nil || img.Digest != own.Manifest {
		t.Errorf("%+v, %v", img, err)
	}
	if img, err := agree(t, "pinned", pinned, o); err != nil || img.Digest != own.Manifest {
		t.Errorf("%+v, %v", img, err)
	}
	o.Locked = private
	if img, err := Pull(ctx, pinned, o); !errors.As(err, new(*image.LockedError)) {
		t.Errorf("a digest that is there: %+v, %v", img, err)
	}
	// What came by its tag is the one that was locked by it.
	hits := r.Hits("")
	if img, err := agree(t, "by its tag", other, o); err != nil || img.Digest != oci.Digest(d) || r.Hits("") != hits {
		t.Errorf("%+v, %v", img, err)
	}
}

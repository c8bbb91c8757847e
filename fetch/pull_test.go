package fetch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"cove/fetch/layer"
	"cove/fetch/layer/stage"
	"cove/fetch/oci"
	"cove/fetch/registrytest"
	"cove/fetch/store"
	"cove/userns"
	"cove/userns/usernstest"
)

func TestMain(m *testing.M) {
	if os.Args[0] == layer.StageName {
		stage.Main()
	}
	os.Exit(m.Run())
}

// testMap is the mapping that cove would use for whoever runs the test, with inside being as.
func testMap(t testing.TB, as uint32) userns.IDMap { return usernstest.IDMap(t, as) }

// options are for a store of the test's own, which is emptied at its end: what it holds is not
// all the test user's to remove.
func options(t testing.TB) Options {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	s, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		images, err := s.Images()
		if err != nil {
			t.Error(err)
		}
		for _, i := range images {
			// One that had no name any more may have gone with another.
			if _, err := s.Remove(context.Background(), string(i.Digest)); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Error(err)
			}
		}
		if _, err := s.Collect(context.Background(), false); err != nil {
			t.Error(err)
		}
		left, err := filepath.Glob(filepath.Join(s.Dir(), "layers", "*", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left in the store: %v %v", left, err)
		}
	})
	return Options{Store: s, IDMap: testMap(t, 0)}
}

func registry(t testing.TB) *registrytest.Registry {
	r := registrytest.New()
	t.Cleanup(r.Close)
	return r
}

func TestPullAndLookup(t *testing.T) {
	r, o := registry(t), options(t)
	img := registrytest.Simple(registrytest.Dir("etc"), registrytest.File("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n"))
	img.Config.User = "web"
	img.Config.Entrypoint = []string{"/bin/web"}
	ref, d := r.Add("app:1", img)
	got, err := Pull(context.Background(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != oci.Digest(d) || len(got.Layers) != 1 || got.Config.Entrypoint[0] != "/bin/web" {
		t.Fatalf("%+v", got)
	}
	if uid, gid, err := got.User(); uid != 33 || gid != 34 || err != nil {
		t.Errorf("user %d:%d %v", uid, gid, err)
	}
	hits := r.Hits("")
	again, err := Pull(context.Background(), ref, o)
	if err != nil || again.Digest != oci.Digest(d) {
		t.Fatalf("%+v %v", again, err)
	}
	if r.Hits("") != hits {
		t.Error("the second pull asked the registry")
	}
	o.Policy = Never
	if found, err := lookup(ref, o); err != nil || found.Digest != oci.Digest(d) || found.Ref != got.Ref {
		t.Errorf("%+v %v", found, err)
	}
}

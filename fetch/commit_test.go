package fetch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	rt "cove/fetch/registrytest"
	"cove/fetch/store"

	"github.com/opencontainers/go-digest"
)

// upper is an upper directory with one file.
func upper(t *testing.T, o Options, files ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "upper")
	mine := []string{dir}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
		mine = append(mine, filepath.Join(dir, f))
	}
	for _, path := range mine {
		if os.Getuid() == 0 {
			uid, _ := o.IDMap.HostUID(0)
			gid, _ := o.IDMap.HostGID(0)
			if err := os.Chown(path, int(uid), int(gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestCommit(t *testing.T) {
	r, o := registry(t), options(t)
	simple := rt.Simple(rt.File("a", "a"))
	simple.Config.Env = []string{"A=1"}
	ref, _ := r.Add("app:1", simple)
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := img.Handle()
	// The image is signed, by the store's word, under the name that the new one gets too.
	rec, err := o.Store.Record(h)
	if err != nil {
		t.Fatal(err)
	}
	key := oci.FromString("key")
	rec.Sign(store.Signed{Key: key, Ref: ref})
	add, err := o.Store.Begin(ctx, o.IDMap)
	if err != nil {
		t.Fatal(err)
	}
	if err := add.PutRecord(rec, store.Name{Ref: ref, Platform: rec.Platform, Manifest: rec.Manifest}, ref); err != nil {
		t.Fatal(err)
	}
	add.End()
	req := CommitRequest{Store: o.Store, IDMap: o.IDMap, Base: h, Dir: upper(t, o, "new"), Tree: layer.TreeUpper, Ref: ref, Created: time.Unix(1e9, 0).UTC(),
		Message: "why", Author: "me", Command: "sh", Changes: []string{"ENV B=2"}}
	done, err := Commit(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	noScratch(t, o)
	got, err := Pull(ctx, ref, o)
	if err != nil || got.Digest != done.Digest || len(got.Layers) != 2 || strings.Join(got.Config.Env, " ") != "A=1 B=2" {
		t.Fatalf("%+v %v", got, err)
	}
	if data, err := os.ReadFile(filepath.Join(got.Layers[1], "new")); err != nil || string(data) != "new" {
		t.Errorf("%q %v", data, err)
	}
	h2, _ := got.Handle()
	made, err := o.Store.Record(h2)
	if err != nil || made.IsSigned(key, ref) || len(made.Signed) > 0 {
		t.Errorf("what somebody has signed is another image: %+v %v", made.Signed, err)
	}
	// The same once more is the same.
	if again, err := Commit(ctx, req); err != nil || again.Digest != done.Digest {
		t.Errorf("%+v %v", again, err)
	}
	// And it mends what a check has found damaged, for which no registry can be asked.
	if err := os.Remove(filepath.Join(got.Layers[1], "new")); err != nil {
		t.Fatal(err)
	}
	if _, err := Push(ctx, ref, registry(t).Addr+"/x:1", share(o)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"new" (missing)`) {
		t.Errorf("a damaged layer is sent: %v", err)
	}
	if found := problems(t, o.Store); found != "layer missing new\n" {
		t.Errorf("%s", found)
	}
	if again, err := Commit(ctx, req); err != nil || again.Digest != done.Digest {
		t.Errorf("%+v %v", again, err)
	}
	if found := problems(t, o.Store); found != "" {
		t.Errorf("%s", found)
	}
	noScratch(t, o)
	// Packed for a registry it keeps its diffID, and so its config.
	to := registry(t)
	sent, err := Push(ctx, ref, to.Addr+"/x:1", share(o))
	if err != nil || sent.Packed != 2 {
		t.Fatalf("%+v %v", sent, err)
	}
	packed, err := o.Store.Blob(done.ID)
	if err != nil || !strings.Contains(string(packed), string(done.Layer)) || !strings.Contains(string(to.Blob(digest.Digest(sent.ID))), string(done.Layer)) {
		t.Errorf("the new layer's diffID is another one there (%v)", err)
	}
}

// What fails leaves nothing, and an image of that name stays what it was.
func TestCommitFails(t *testing.T) {
	r, o := registry(t), options(t)
	ref, d := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := img.Handle()
	req := CommitRequest{Store: o.Store, IDMap: o.IDMap, Base: h, Dir: filepath.Join(t.TempDir(), "gone"), Tree: layer.TreeUpper, Ref: ref}
	if _, err := Commit(ctx, req); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	noScratch(t, o)
	if left, _ := filepath.Glob(filepath.Join(o.Store.LayersDir(h.Key), ".tmp-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got, err := Pull(ctx, ref, o); err != nil || got.Digest != oci.Digest(d) {
		t.Errorf("%+v %v", got, err)
	}
	req.Base.Manifest = oci.FromString("no such")
	if _, err := Commit(ctx, req); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A name without a registry that is here is not looked for in one, where it would be somebody else's image.
func TestCommitIsLocal(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := img.Handle()
	done, err := Commit(ctx, CommitRequest{Store: o.Store, IDMap: o.IDMap, Base: h, Dir: upper(t, o, "new"), Tree: layer.TreeUpper, Ref: "web"})
	if err != nil || done.Ref != image.LocalHost+"/web:latest" {
		t.Fatalf("%+v %v", done, err)
	}
	for _, name := range []string{"web", "web:latest", "localhost/web"} {
		if got, err := Pull(ctx, name, o); err != nil || got.Digest != done.Digest {
			t.Errorf("%s: %+v %v", name, got, err)
		}
		always, newer := o, o
		always.Policy, newer.Policy = Always, Newer
		if _, err := Pull(ctx, name, always); err == nil || !strings.Contains(err.Error(), "was made here") {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := Pull(ctx, name, newer); err != nil || got.Digest != done.Digest {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

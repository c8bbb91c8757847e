package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	rt "cove/fetch/registrytest"
	"cove/fetch/store"

	"github.com/opencontainers/go-digest"
)

// problems checks the store, or one image, and says what was found, a line each.
func problems(t *testing.T, s *store.Store, refs ...string) string {
	t.Helper()
	v, err := s.Verify(ctx, refs...)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "%s %s", p.What, p.Kind)
		if p.Entry != nil {
			fmt.Fprintf(&b, " %s", *p.Entry)
		}
		b.WriteString("\n")
	}
	if v.Found < int64(len(v.Problems)) || v.Images == 0 {
		t.Errorf("%+v", v)
	}
	return b.String()
}

// twoLayers is an image whose upper layer depends on the lower one.
func twoLayers() rt.Image {
	return rt.Image{Layers: []rt.Layer{
		{Tar: rt.Tar(rt.Dir("d"), rt.File("d/f", "content of f"), rt.Owned(rt.File("g", "g"), 5, 6))},
		{Tar: rt.Tar(rt.File("d/h", "h"), rt.File(".wh.g", ""))},
	}}
}

// Whatever is damaged, a check names it, another pull mends it, and then a check finds nothing.
func TestVerifyAndMend(t *testing.T) {
	store := func(o Options, elem ...string) []string {
		found, err := filepath.Glob(filepath.Join(append([]string{o.Store.Dir()}, elem...)...))
		if err != nil || len(found) == 0 {
			t.Fatalf("%v %v", elem, err)
		}
		return found
	}
	write := func(path string) error { return os.WriteFile(path, []byte("{}"), 0o600) }
	for name, c := range map[string]struct {
		do   func(o Options, img *Image) error
		want string
	}{
		"file":    {func(o Options, i *Image) error { return os.Remove(i.Layers[0] + "/d/f") }, "layer missing d/f\n"},
		"content": {func(o Options, i *Image) error { return rewrite(i.Layers[0]+"/d/f", "CONTENT of f") }, "layer content d/f\n"},
		"upper":   {func(o Options, i *Image) error { return os.Mkdir(i.Layers[1]+"/d/new", 0o755) }, "layer added d/new\n"},
		"layer":   {func(o Options, i *Image) error { return os.Rename(i.Layers[1], i.Layers[1]+".away") }, "layer missing\n"},
		"manifest": {func(o Options, i *Image) error { return write(o.Store.Dir() + "/blobs/sha256/" + i.Digest.Encoded()) },
			"manifest damaged\n"},
		"no manifest": {func(o Options, i *Image) error {
			return os.Remove(o.Store.Dir() + "/blobs/sha256/" + i.Digest.Encoded())
		},
			"manifest missing\n"},
		"config":      {func(o Options, i *Image) error { return write(o.Store.Dir() + "/blobs/sha256/" + i.ID.Encoded()) }, "config damaged\n"},
		"record":      {func(o Options, i *Image) error { return write(store(o, "images", "*.json")[0]) }, "record damaged\n"},
		"half record": {func(o Options, i *Image) error { return os.Truncate(store(o, "images", "*.json")[0], 100) }, "record damaged\n"},
		"record's word": {func(o Options, i *Image) error {
			return replace(store(o, "images", "*.json")[0], `"User":"web"`, `"User":"root"`)
		}, "record damaged\n"},
		"record's size": {func(o Options, i *Image) error {
			return replace(store(o, "images", "*.json")[0], `"size":`, `"size":9`)
		}, "record damaged\n"},
		"no record": {func(o Options, i *Image) error { return os.Remove(store(o, "images", "*.json")[0]) }, "record missing\n"},
		"name":      {func(o Options, i *Image) error { return write(store(o, "names", "*.json")[0]) }, "name damaged\n"},
		"listing": {func(o Options, i *Image) error {
			return replace(store(o, "lists", "*", filepath.Base(i.Layers[0]))[0], "d", "e")
		}, "listing damaged\n"},
		"no listing": {func(o Options, i *Image) error {
			return os.Remove(store(o, "lists", "*", filepath.Base(i.Layers[0]))[0])
		}, "layer unlisted\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := registry(t), options(t)
			img := twoLayers()
			img.Config.User = "web"
			ref, _ := r.Add("app:1", img)
			o.Policy = Always
			got, err := Pull(ctx, ref, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.do(o, got); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(got.Layers[1] + ".away")
			if name == "no record" || name == "name" {
				// no image is left to be found
				v, err := o.Store.Verify(ctx)
				if err != nil || len(v.Problems) != 1 || fmt.Sprintf("%s %s\n", v.Problems[0].What, v.Problems[0].Kind) != c.want {
					t.Errorf("%+v %v", v, err)
				}
			} else if got := problems(t, o.Store); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
			again, err := Pull(ctx, ref, o)
			if err != nil {
				t.Fatal(err)
			}
			_ = os.RemoveAll(got.Layers[1] + ".away")
			if got := problems(t, o.Store); got != "" {
				t.Errorf("after another pull: %s", got)
			}
			wantFile(t, flat(t, o, again)+"/d/f", "content of f")
			if old, _ := filepath.Glob(o.Store.Dir() + "/layers/*/.*"); len(old) > 0 {
				t.Errorf("left: %v", old)
			}
		})
	}
}

// rewrite changes a file's content and nothing else, as a disk may.
func rewrite(path, content string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, []byte(content), 0), os.Chtimes(path, time.Time{}, st.ModTime()))
}

func replace(path, old, new string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), old) {
		return fmt.Errorf("%s holds no %q: %q", path, old, data)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(data), old, new, 1)), 0o600)
}

// A damaged layer that something runs from is not touched: it only gives up its name.
func TestMendBesideUse(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", twoLayers())
	o.Policy = Always
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	release, err := img.Use(o.Store)
	if err != nil {
		t.Fatal(err)
	}
	hold, err := os.Open(img.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if err := os.Remove(img.Layers[0] + "/d/f"); err != nil {
		t.Fatal(err)
	}
	if got := problems(t, o.Store, ref); got != "layer missing d/f\n" {
		t.Error(got)
	}
	again, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, again.Layers[0]+"/d/f", "content of f")
	old := fmt.Sprintf("/proc/self/fd/%d", hold.Fd())
	if path, err := os.Readlink(old); err != nil || !strings.Contains(path, "/.old-") {
		t.Errorf("the old layer is %s %v", path, err)
	}
	for _, collect := range []func() error{func() error { _, err := o.Store.Collect(ctx, false); return err },
		func() error { return o.Store.Sweep(ctx) }, func() error { _, err := Pull(ctx, ref, o); return err }} {
		if err := collect(); err != nil {
			t.Fatal(err)
		}
		if names, err := os.ReadDir(old); err != nil || len(names) != 2 {
			t.Fatalf("what a sandbox ran from was touched: %v %v", names, err)
		}
	}
	release()
	if _, err := o.Store.Collect(ctx, false); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(o.Store.Dir() + "/layers/*/.*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got := problems(t, o.Store); got != "" {
		t.Error(got)
	}
}

// A copy for other ids is as well known as what it was made from, and a damaged one is not copied.
func TestVerifyOtherIDs(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root has one mapping")
	}
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", twoLayers())
	first, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	hits := r.Hits("")
	other := o
	other.IDMap = testMap(t, 1000)
	copied, err := Pull(ctx, ref, other)
	if err != nil {
		t.Fatal(err)
	}
	if r.Hits("") != hits {
		t.Error("it was fetched again")
	}
	if got := problems(t, o.Store); got != "" {
		t.Error(got)
	}
	// Root's own files are the caller's in the first, and another's in the copy.
	if err := os.Remove(first.Layers[0] + "/d/f"); err != nil {
		t.Fatal(err)
	}
	if got := problems(t, o.Store, ref); got != "layer missing d/f\n" {
		t.Error(got)
	}
	o.Policy = Always
	if first, err = Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	wantFile(t, first.Layers[0]+"/d/f", "content of f")
	if got := problems(t, o.Store); got != "" || len(copied.Layers) != 2 {
		t.Error(got)
	}
}

// Many pulls of one image at once, and of another one that shares a layer with it, fetch each layer once.
func TestPullsAtOnce(t *testing.T) {
	r, o := registry(t), options(t)
	o.Policy = Always
	one := twoLayers()
	two := rt.Image{Layers: []rt.Layer{one.Layers[0], {Tar: rt.Tar(rt.File("only", "here"))}}}
	refs := make([]string, 2)
	refs[0], _ = r.Add("one:1", one)
	refs[1], _ = r.Add("two:1", two)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			s, err := store.Open(o.Store.Dir())
			if err != nil {
				t.Error(err)
				return
			}
			mine := o
			mine.Store = s
			if _, err := Pull(ctx, refs[n%2], mine); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, ref := range refs {
		img, err := Pull(ctx, ref, o)
		if err != nil {
			t.Fatal(err)
		}
		i, err := o.Store.Inspect(string(img.Digest))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range i.Record.Layers {
			if n := r.BlobHits(digest.Digest(l.Digest)); n != 1 {
				t.Errorf("%s: layer %s was fetched %d times", ref, l.Digest, n)
			}
		}
	}
	if got := problems(t, o.Store); got != "" {
		t.Error(got)
	}
}

// A check beside pulls and removals finds nothing: what is half there is not there, and what it looks at stays.
func TestVerifyBesideOthers(t *testing.T) {
	r, o := registry(t), options(t)
	o.Policy = Always
	refs := make([]string, 3)
	for n := range refs {
		img := twoLayers()
		img.Layers = append(img.Layers, rt.Layer{Tar: rt.Tar(rt.File("n", fmt.Sprint(n)))})
		refs[n], _ = r.AddIndex(fmt.Sprintf("app:%d", n), img)
	}
	var others sync.WaitGroup
	done := make(chan struct{})
	for n := range refs {
		others.Go(func() {
			for range 8 {
				if _, err := Pull(ctx, refs[n], o); err != nil {
					t.Error(err)
				}
				if _, err := o.Store.Remove(ctx, refs[n]); err != nil {
					t.Error(err)
				}
				if _, err := o.Store.Collect(ctx, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		others.Wait()
		close(done)
	}()
	images := 0
	for checks := 0; ; checks++ {
		v, err := o.Store.Verify(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range v.Problems {
			t.Errorf("check %d: %+v", checks, p)
		}
		images += v.Images
		select {
		case <-done:
			if t.Logf("%d checks, %d images", checks, images); images == 0 {
				t.Error("it never saw one")
			}
			return
		default:
		}
	}
}

// A layer whose directory is gone is told as such to who may not pull.
func TestLayerGone(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", twoLayers())
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(img.Layers[0], o.Store.Dir()+"/tmp/away"); err != nil {
		t.Fatal(err)
	}
	never := o
	never.Policy = Never
	_, err = Pull(ctx, ref, never)
	if !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "is gone from") {
		t.Errorf("%v", err)
	}
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(img.Layers[0]); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

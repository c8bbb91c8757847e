package fetch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cove/fetch/image"
	rt "cove/fetch/registrytest"
	"cove/fetch/store"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
)

// An image with 150 layers, some of which need what lies below, one of them twice there.
func manyLayers() rt.Image {
	img := rt.Image{}
	for n := range 150 {
		entries := []rt.Entry{rt.Dir("d"), rt.File(fmt.Sprintf("d/%d", n), fmt.Sprint(n))}
		switch {
		case n%10 == 7:
			entries = []rt.Entry{rt.File("d/implicit", fmt.Sprint(n))}
		case n%50 == 9:
			entries = []rt.Entry{rt.File("d/twice", "the same layer again")}
		case n > 0 && n%10 == 3:
			entries = []rt.Entry{rt.Link(fmt.Sprintf("link%d", n), fmt.Sprintf("d/%d", n-1))}
		}
		img.Layers = append(img.Layers, rt.Layer{Tar: rt.Tar(entries...), Compression: rt.Gzip})
	}
	return img
}

func TestManyLayers(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("deep:1", manyLayers())
	began := time.Now()
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("150 layers in %v", time.Since(began))
	root := flat(t, o, img)
	wantFile(t, root+"/d/implicit", "147")
	wantFile(t, root+"/d/149", "149")
	wantFile(t, root+"/link143", "142")
	wantFile(t, root+"/d/twice", "the same layer again")
	o.Policy = Never
	best := time.Hour
	for range 20 {
		began := time.Now()
		if _, err := lookup(ref, o); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	t.Logf("looked up in %v", best)
	if best > 30*time.Millisecond {
		t.Errorf("a look-up takes %v", best)
	}
	o.Policy = Always
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
}

// TestKilledPull kills a pull, a process of its own, at many moments.
func TestKilledPull(t *testing.T) {
	if dir := os.Getenv("COVE_TEST_PULL_INTO"); dir != "" {
		s, err := store.Open(dir)
		if err == nil {
			_, err = Pull(ctx, os.Getenv("COVE_TEST_PULL_REF"), Options{Store: s, IDMap: testMap(t, 0)})
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	r, o := registry(t), options(t)
	img := rt.Image{}
	for n := range 5 {
		entries := []rt.Entry{rt.Owned(rt.Dir("d"), 5, 5)}
		for k := range 100 {
			entries = append(entries, rt.Owned(rt.File(fmt.Sprintf("d/%d-%d", n, k), strings.Repeat("x", 1000)), 5, 5))
		}
		img.Layers = append(img.Layers, rt.Layer{Tar: rt.Tar(entries...), Compression: rt.Gzip})
	}
	ref, _ := r.Add("a:1", img)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 15 {
		cmd := exec.Command(self, "-test.run=^TestKilledPull$")
		cmd.Env = append(os.Environ(), "COVE_TEST_PULL_INTO="+o.Store.Dir(), "COVE_TEST_PULL_REF="+ref)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n*5) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if got, err := lookup(ref, o); err == nil {
			complete(t, got)
			if _, err := o.Store.Remove(ctx, ref); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Store.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(o.Store.Dir() + "/layers/*/.tmp*"); len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
	}
	got, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, got)
}

func complete(t *testing.T, img *Image) {
	t.Helper()
	for n, l := range img.Layers {
		for k := range 100 {
			if st, err := os.Stat(fmt.Sprintf("%s/d/%d-%d", l, n, k)); err != nil || st.Size() != 1000 {
				t.Fatalf("an image that is not whole: %v", err)
			}
		}
	}
}

func TestUser(t *testing.T) {
	dir := t.TempDir()
	lower, upper := filepath.Join(dir, "lower"), filepath.Join(dir, "upper")
	for _, d := range []string{lower + "/etc", upper + "/etc"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(lower+"/etc/passwd", "root:x:0:0:::\nweb:x:33:34:::\nbad:x:zero:0:::\n:x:0:0:::\nshort:x\nminus:x:4294967295:0:::\n12:x:99:98:::\n")
	write(upper+"/etc/group", "staff:x:50:\n")
	img := &Image{Kind: Stored, Layers: []string{lower, upper}}
	for spec, want := range map[string]string{
		"": "0:0", "0": "0:0", "web": "33:34", "33": "33:34", "1000": "1000:0", "1:2": "1:2", "web:staff": "33:50", "web:7": "33:7", "1000:staff": "1000:50", "12": "99:98",
	} {
		uid, gid, err := img.Lookup(spec)
		if got := fmt.Sprintf("%d:%d", uid, gid); err != nil || got != want {
			t.Errorf("%q: %s, want %s (%v)", spec, got, want, err)
		}
	}
	for _, spec := range []string{"nobody", "bad", "short", "minus", ":", "web:", ":staff", "web:nogroup", "-1", "+1", "4294967295", "4294967296", "99999999999", "web\n", "../etc"} {
		if uid, gid, err := img.Lookup(spec); err == nil {
			t.Errorf("%q became %d:%d", spec, uid, gid)
		}
	}
	var unknown *image.UnknownUserError
	if _, _, err := img.Lookup("no\x1b[mbody"); !errors.As(err, &unknown) || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("%v", err)
	}
	// The upper layer's word counts; a link is not followed, a fifo not waited for.
	write(upper+"/etc/passwd", "web:x:44:44:::\n")
	if uid, _, err := img.Lookup("web"); uid != 44 || err != nil {
		t.Errorf("%d %v", uid, err)
	}
	for name, put := range map[string]func(string) error{
		"link": func(p string) error { return os.Symlink("/etc/passwd", p) },
		"fifo": func(p string) error { return exec.Command("mkfifo", p).Run() },
		"dir":  func(p string) error { return os.Mkdir(p, 0o755) },
		"big":  func(p string) error { return os.WriteFile(p, make([]byte, 2<<20), 0o644) },
	} {
		p := upper + "/etc/passwd"
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
		if err := put(p); err != nil {
			t.Fatal(err)
		}
		if uid, gid, err := img.Lookup("web"); err == nil {
			t.Errorf("%s: %d:%d", name, uid, gid)
		}
	}
}

func TestPolicy(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("team/app:1", rt.Simple(rt.File("a", "a")))
	file := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "containers", "policy.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	accept, reject, signed := `[{"type":"insecureAcceptAnything"}]`, `[{"type":"reject"}]`, `[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]`
	scope := func(name, req string) string {
		return fmt.Sprintf(`{"default":%s,"transports":{"docker":{%q:%s}}}`, reject, name, req)
	}
	o.Policy = Always
	for name, c := range map[string]struct{ text, want string }{
		"accept":       {`{"default":` + accept + `}`, ""},
		"reject":       {`{"default":` + reject + `}`, "reject"},
		"signed":       {`{"default":` + signed + `}`, "signature"},
		"unknown":      {`{"default":[{"type":"moonPhase"}]}`, "moonPhase"},
		"empty":        {`{}`, `"default" is missing`},
		"broken":       {`{`, "read"},
		"registry":     {scope(r.Addr, accept), ""},
		"repository":   {scope(r.Addr+"/team/app", accept), ""},
		"namespace":    {scope(r.Addr+"/team", accept), ""},
		"tag":          {scope(r.Addr+"/team/app:1", accept), ""},
		"transport":    {scope("", accept), ""},
		"another":      {scope("docker.io", accept), "reject"},
		"both":         {`{"default":[{"type":"insecureAcceptAnything"},{"type":"sigstoreSigned","keyPath":"/k"}]}`, "signature"},
		"more special": {fmt.Sprintf(`{"default":%s,"transports":{"docker":{"":%s,%q:%s}}}`, accept, accept, r.Addr+"/team", signed), "signature"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Pull(ctx, ref, o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReferences(t *testing.T) {
	options(t) // a home without registries.conf of its own
	for ref, want := range map[string]string{
		"alpine": "docker.io/library/alpine:latest", "team/app:2": "docker.io/team/app:2", "docker://quay.io/a/b": "quay.io/a/b:latest",
		"localhost/x": "localhost/x:latest", "localhost:5000/x:1": "localhost:5000/x:1",
		"a.b/c:1@" + string(digest.FromString("x")): "a.b/c@" + string(digest.FromString("x")),
	} {
		got, err := parse(ref)
		if err != nil || got.named.String() != want {
			t.Errorf("%q: %+v %v", ref, got, err)
		}
	}
	for _, ref := range []string{"", "UPPER/case", "a b", "docker-daemon:x", "x:bad tag", "oci:", "dir:", "\x1b[31m"} {
		if got, err := parse(ref); err == nil {
			t.Errorf("%q: %+v", ref, got)
		} else if strings.Contains(err.Error(), "\x1b") {
			t.Errorf("raw escape in %q", err)
		}
	}
	for host, want := range map[string]bool{
		"127.0.0.1:5000": true, "127.9.9.9": true, "[::1]:5000": true, "localhost": true, "localhost:1": true,
		"localhost.evil.com": false, "127.0.0.1.evil.com": false, "10.0.0.1:5000": false, "0.0.0.0": false, "example.com": false, "[::2]:1": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("%s: loopback %v", host, !want)
		}
	}
}

func TestShortNames(t *testing.T) {
	o := options(t)
	conf := filepath.Join(t.TempDir(), "registries.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	text := "unqualified-search-registries = [\"one.example\", \"two.example\"]\nshort-name-mode = \"permissive\"\n[aliases]\n\"app\" = \"quay.example/team/app\"\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	sysregistriesv2.InvalidateCache()
	t.Cleanup(sysregistriesv2.InvalidateCache)
	for ref, want := range map[string]string{
		"app:3": "quay.example/team/app:3", "other": "one.example/other:latest, two.example/other:latest", "full.example/x": "full.example/x:latest",
	} {
		target, err := parse(ref)
		if err != nil {
			t.Fatal(err)
		}
		var names []reference.Named
		if names, err = candidates(systemContext(o), target); err != nil || joinNames(names) != want {
			t.Errorf("%s: %v %v", ref, names, err)
		}
	}
}

// A layer that is right on nothing only, or on other layers, is not what it is here; and one that
// occurs twice is stacked once.
func TestSharedLayers(t *testing.T) {
	r, o := registry(t), options(t)
	base := rt.Layer{Tar: rt.Tar(rt.Dir("usr"), rt.Dir("usr/lib"), rt.Symlink("lib", "usr/lib"), rt.File("x", "x")), Compression: rt.Gzip}
	inLib := rt.Layer{Tar: rt.Tar(rt.File("lib/a", "a")), Compression: rt.Gzip}
	gone := rt.Layer{Tar: rt.Tar(rt.File(".wh.x", "")), Compression: rt.Gzip}
	plain := rt.Layer{Tar: rt.Tar(rt.File("f", "f")), Compression: rt.Gzip}
	for n, c := range []struct {
		layers []rt.Layer
		lib    bool // is a directory
		x      bool // is there
		stack  int
	}{
		{[]rt.Layer{inLib}, true, false, 1},
		{[]rt.Layer{base, inLib}, false, true, 2},
		{[]rt.Layer{inLib, base, inLib}, false, true, 3},
		{[]rt.Layer{gone}, false, false, 1},
		{[]rt.Layer{base, gone}, false, false, 2},
		{[]rt.Layer{plain, base, plain, plain}, false, true, 2},
	} {
		ref, _ := r.Add(fmt.Sprintf("a:%d", n), rt.Image{Layers: c.layers})
		img, err := Pull(ctx, ref, o)
		if err != nil {
			t.Fatal(n, err)
		}
		if len(img.Layers) != c.stack {
			t.Errorf("%d: stacked: %q", n, img.Layers)
		}
		root := flat(t, o, img)
		if st, err := os.Lstat(root + "/lib"); c.lib != (err == nil && st.IsDir()) {
			t.Errorf("%d: lib: %v %v", n, st, err)
		}
		if _, err := os.Lstat(root + "/x"); c.x != (err == nil) {
			t.Errorf("%d: x: %v", n, err)
		}
	}
}

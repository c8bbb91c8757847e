package fetch

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cove/fetch/layer"
	"cove/fetch/oci"
	rt "cove/fetch/registrytest"
	"cove/fetch/store"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

var ctx = context.Background()

// flat merges an image's layers and returns what a path in it holds.
func flat(t *testing.T, o Options, img *Image) string {
	t.Helper()
	run, err := o.Store.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		uid, _ := o.IDMap.HostUID(0)
		if err := os.Chown(run.Upper, int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := layer.Flatten(ctx, o.IDMap, img.Layers, run.Upper); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Remove(ctx, o.IDMap); err != nil {
			t.Error(err)
		}
	})
	return run.Upper
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: %q, want %q (%v)", path, got, want, err)
	}
}

func TestPullFormats(t *testing.T) {
	r, o := registry(t), options(t)
	for _, docker := range []bool{false, true} {
		for _, c := range []rt.Compression{rt.Gzip, rt.Zstd, rt.None} {
			img := rt.Image{Docker: docker, Layers: []rt.Layer{
				{Tar: rt.Tar(rt.Dir("d"), rt.File("d/a", "lower"), rt.File("d/b", "b"), rt.File("x", fmt.Sprint(docker, c))), Compression: c},
				{Tar: rt.Tar(rt.Dir("d"), rt.File("d/a", "upper"), rt.File("d/.wh.b", "")), Compression: c},
			}}
			ref, _ := r.Add(fmt.Sprintf("f%v%s:1", docker, c), img)
			got, err := Pull(ctx, ref, o)
			if err != nil {
				t.Fatal(docker, c, err)
			}
			root := flat(t, o, got)
			wantFile(t, root+"/d/a", "upper")
			if _, err := os.Lstat(root + "/d/b"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("whiteout: %v", err)
			}
		}
	}
}

func TestPlatforms(t *testing.T) {
	r, o := registry(t), options(t)
	one := func(arch, variant string) rt.Image {
		img := rt.Simple(rt.File("arch", arch+variant))
		img.Platform = v1.Platform{OS: "linux", Architecture: arch, Variant: variant}
		return img
	}
	ref, _ := r.AddIndex("multi:1", one("amd64", ""), one("arm", "v6"), one("arm", "v7"), one("arm64", "v8"))
	for platform, want := range map[string]string{
		"linux/amd64": "amd64", "linux/arm/v7": "armv7", "linux/arm/v6": "armv6", "linux/arm64": "arm64v8", "linux/aarch64": "arm64v8", "linux/arm": "armv7",
	} {
		o.Platform = platform
		img, err := Pull(ctx, ref, o)
		if err != nil {
			t.Errorf("%s: %v", platform, err)
			continue
		}
		wantFile(t, flat(t, o, img)+"/arch", want)
	}
	for _, platform := range []string{"linux/s390x", "linux/arm/v5"} {
		o.Platform = platform
		_, err := Pull(ctx, ref, o)
		var perr *PlatformError
		if !errors.As(err, &perr) || len(perr.Have) != 4 || !strings.Contains(err.Error(), "linux/arm/v7") {
			t.Errorf("%s: %v", platform, err)
		}
	}
	o.Platform = "linux/amd64"
	ref, _ = r.Add("single:1", one("arm64", ""))
	if _, err := Pull(ctx, ref, o); err == nil || !strings.Contains(err.Error(), "linux/arm64") {
		t.Errorf("an image for another machine: %v", err)
	}
}

// Whatever a registry serves under a digest that is not it, nothing of it stays.
func TestLies(t *testing.T) {
	img := rt.Image{Layers: []rt.Layer{{Tar: rt.Tar(rt.File("a", "a")), Compression: rt.Gzip}, {Tar: rt.Tar(rt.File("b", "b")), Compression: rt.Gzip}}}
	var man v1.Manifest
	img.Mangle = func(m *v1.Manifest, _ *v1.Image) { man = *m }
	other := rt.Compress(rt.Tar(rt.File("evil", "evil")), rt.Gzip)
	cases := map[string]func(r *rt.Registry, m digest.Digest) string{
		"layer": func(r *rt.Registry, _ digest.Digest) string { r.SetBlob(man.Layers[1].Digest, other); return "" },
		"same size": func(r *rt.Registry, _ digest.Digest) string {
			data := bytes.Clone(r.Blob(man.Layers[0].Digest))
			data[len(data)-1] ^= 1
			r.SetBlob(man.Layers[0].Digest, data)
			return ""
		},
		"short": func(r *rt.Registry, _ digest.Digest) string {
			r.SetBlob(man.Layers[0].Digest, r.Blob(man.Layers[0].Digest)[:20])
			return "size"
		},
		"long": func(r *rt.Registry, _ digest.Digest) string {
			r.SetBlob(man.Layers[0].Digest, append(bytes.Clone(r.Blob(man.Layers[0].Digest)), 0))
			return "size"
		},
		"missing":  func(r *rt.Registry, _ digest.Digest) string { r.SetBlob(man.Layers[0].Digest, nil); return "" },
		"manifest": func(r *rt.Registry, m digest.Digest) string { r.SetBlob(m, []byte(`{"schemaVersion":2}`)); return "" },
	}
	for name, lie := range cases {
		t.Run(name, func(t *testing.T) {
			r, o := registry(t), options(t)
			ref, d := r.Add("lie:1", img)
			word := lie(r, d)
			repo, _, _ := strings.Cut(strings.TrimPrefix(ref, r.Addr), ":")
			_, err := Pull(ctx, r.Addr+repo+"@"+string(d), o)
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Fatalf("%v", err)
			}
			empty(t, o)
		})
	}
	t.Run("diffID", func(t *testing.T) {
		r, o := registry(t), options(t)
		bad := img
		bad.Mangle = func(_ *v1.Manifest, c *v1.Image) { c.RootFS.DiffIDs[1] = digest.FromString("no") }
		ref, _ := r.Add("lie:1", bad)
		var derr *DigestError
		if _, err := Pull(ctx, ref, o); !errors.As(err, &derr) {
			t.Fatalf("%v", err)
		}
		empty(t, o)
	})
	t.Run("config size", func(t *testing.T) {
		r, o := registry(t), options(t)
		bad := img
		bad.Mangle = func(m *v1.Manifest, _ *v1.Image) {
			m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromString("x"), Size: 9 << 20}
		}
		ref, _ := r.Add("lie:1", bad)
		if _, err := Pull(ctx, ref, o); err == nil || !strings.Contains(err.Error(), "size") {
			t.Fatalf("%v", err)
		}
	})
}

// empty checks that a failed pull left no image, no layer and no session.
func empty(t *testing.T, o Options) {
	t.Helper()
	for _, glob := range []string{"layers/*/*", "layers/*/.tmp*", "images/*.json", "names/*", "tmp/*", "tmp/.*", "blobs/sha256/*"} {
		if got, _ := filepath.Glob(filepath.Join(o.Store.Dir(), glob)); len(got) > 0 {
			t.Errorf("left behind: %v", got)
		}
	}
}

func TestRefused(t *testing.T) {
	r, o := registry(t), options(t)
	serve := func(mediaType, text string) string {
		ref, _ := r.AddManifest("bad:1", mediaType, []byte(text))
		return ref
	}
	d := digest.FromString("x")
	for name, c := range map[string]struct{ mediaType, text, want string }{
		"schema1":              {"application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		"artifact":             {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"artifactType":"application/\u001b[31mcyan","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`, d), "artifact"},
		"two in one":           {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"config":{"digest":%q}}`, d), "at once"},
		"two in one, by null":  {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"manifests":null,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[]}`, v1.MediaTypeImageConfig, d), "at once"},
		"two in one, by case":  {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"Manifests":[],"config":{"digest":%q}}`, d), "but for case"},
		"two configs":          {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q},"config":{"digest":"x"},"layers":[]}`, d), "occurs twice"},
		"two digests":          {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"Digest":"x"},"layers":[]}`, d), "but for case"},
		"a list by its type":   {"application/vnd.docker.distribution.manifest.list.v2+json", fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q},"layers":[]}`, d), "lists no manifests"},
		"an image by its type": {v1.MediaTypeImageManifest, `{"schemaVersion":2,"manifests":[]}`, "is an index"},
		"an index, it says":    {"", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q},"layers":[]}`, v1.MediaTypeImageIndex, d), "lists no manifests"},
		"old artifact":         {"application/vnd.oci.artifact.manifest.v1+json", `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"x","blobs":[]}`, "artifact"},
		"helm chart":           {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":%q,"size":2},"layers":[]}`, d), `not an image, but an artifact of type "application/vnd.cncf.helm.config.v1+json"`},
		"layer of a chart":     {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":%[2]q,"size":1}]}`, v1.MediaTypeImageConfig, d), "not a file system layer"},
		"layer of bzip2":       {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+bzip2","digest":%[2]q,"size":1}]}`, v1.MediaTypeImageConfig, d), "not a file system layer"},
		"signed schema1":       {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"name":"a","tag":"b","architecture":"amd64","fsLayers":[{"blobSum":"x"}],"history":[],"signatures":[]}`, "schema 1"},
		"deep":                 {v1.MediaTypeImageManifest, strings.Repeat("[", 1<<20), "not understood"},
		"not json":             {v1.MediaTypeImageManifest, "<html>", ""},
		"encrypted":            {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip+encrypted","digest":%[2]q,"size":1}]}`, v1.MediaTypeImageConfig, d), "encrypted"},
		"negative":             {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":-1},"layers":[]}`, v1.MediaTypeImageConfig, d), "size"},
		"digest":               {v1.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":"sha256:../../etc/passwd","size":1},"layers":[]}`, v1.MediaTypeImageConfig), "digest"},
	} {
		_, err := Pull(ctx, serve(c.mediaType, c.text), o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.ContainsAny(err.Error(), "\x1b\x00") {
			t.Errorf("%s: raw escape in %q", name, err)
		}
	}
}

func TestAuth(t *testing.T) {
	for _, token := range []bool{false, true} {
		r, o := registry(t), options(t)
		ref, _ := r.Add("private:1", rt.Simple(rt.File("a", "a")))
		r.RequireLogin("me", "s3cret-word", token)
		if _, err := Pull(ctx, ref, o); err == nil {
			t.Fatal("pulled without credentials")
		}
		o.AuthFile = filepath.Join(t.TempDir(), "auth.json")
		if err := os.WriteFile(o.AuthFile, r.AuthFile("me", "s3cret-wrong"), 0o600); err != nil {
			t.Fatal(err)
		}
		// A registry that echoes what it was sent must not bring it to the terminal.
		r.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
			if u, p, ok := req.BasicAuth(); ok && p == "s3cret-wrong" {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprintf(w, "no \x1b[2J %s %s %s", u, p, req.Header.Get("Authorization"))
				return true
			}
			return false
		})
		_, err := Pull(ctx, ref, o)
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "bWU6") || strings.Contains(err.Error(), "\x1b") {
			t.Fatalf("%v", err)
		}
		if err := os.WriteFile(o.AuthFile, r.AuthFile("me", "s3cret-word"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFaultsThatPass(t *testing.T) {
	var man v1.Manifest
	img := rt.Simple(rt.File("a", strings.Repeat("some text ", 100_000)+"end"))
	img.Layers[0].Compression = rt.None
	img.Mangle = func(m *v1.Manifest, _ *v1.Image) { man = *m }
	for name, fault := range map[string]func(r *rt.Registry) func(http.ResponseWriter, *http.Request) bool{
		"500 manifest": func(*rt.Registry) func(http.ResponseWriter, *http.Request) bool {
			return rt.FailFirst("/manifests/1", 2, 500)
		},
		"503 blob": func(*rt.Registry) func(http.ResponseWriter, *http.Request) bool {
			return rt.FailFirst(string(man.Layers[0].Digest), 1, 503)
		},
		"429": func(*rt.Registry) func(http.ResponseWriter, *http.Request) bool {
			return rt.FailFirst(string(man.Config.Digest), 1, 429)
		},
		"cut": func(r *rt.Registry) func(http.ResponseWriter, *http.Request) bool {
			return rt.CutOnce(string(man.Layers[0].Digest), r.Blob(man.Layers[0].Digest))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := registry(t), options(t)
			ref, _ := r.Add("a:1", img)
			r.SetFault(fault(r))
			if _, err := Pull(ctx, ref, o); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLocalTransports(t *testing.T) {
	o := options(t)
	dir := filepath.Join(t.TempDir(), "a layout: with colons")
	imgs := map[string]rt.Image{"one": rt.Simple(rt.File("n", "1")), "repo:two": rt.Simple(rt.File("n", "2"))}
	if err := rt.WriteLayout(dir, imgs); err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]string{"one": "1", "repo:two": "2"} {
		img, err := Pull(ctx, "oci:"+dir+":"+tag, o)
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, flat(t, o, img)+"/n", want)
	}
	if _, err := Pull(ctx, "oci:"+dir, o); err == nil || !strings.Contains(err.Error(), "2 images") {
		t.Errorf("%v", err)
	}
	archive := filepath.Join(t.TempDir(), "an archive:1.tar")
	if err := os.WriteFile(archive, tarDir(t, dir), 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := Pull(ctx, "oci-archive:"+archive+":one", o)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, flat(t, o, img)+"/n", "1")
	// A layout that changed is read again.
	time.Sleep(10 * time.Millisecond)
	if err := rt.WriteLayout(dir, map[string]rt.Image{"one": rt.Simple(rt.File("n", "new"))}); err != nil {
		t.Fatal(err)
	}
	img, err = Pull(ctx, "oci:"+dir+":one", o)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, flat(t, o, img)+"/n", "new")
	if img, err := Pull(ctx, "dir:"+dir, o); err != nil || img.Layers[0] != dir || img.Kind != Dir {
		t.Errorf("%+v %v", img, err)
	}
	for _, ref := range []string{"dir:" + archive, "dir:/no/such", "oci:/no/such:tag", "oci-archive:/dev/null", "docker-archive:/dev/zero", ""} {
		if _, err := Pull(ctx, ref, o); err == nil {
			t.Errorf("%q was accepted", ref)
		}
	}
}

func tarDir(t *testing.T, dir string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestDockerArchive(t *testing.T) {
	o := options(t)
	layerTar := rt.Tar(rt.File("hello", "from docker save"))
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"User":"7"},"rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromBytes(layerTar))
	name := digest.FromString(config).Encoded() + ".json"
	path := filepath.Join(t.TempDir(), "saved: it.tar")
	err := os.WriteFile(path, rt.Tar(
		rt.File("layer/layer.tar", string(layerTar)), rt.File(name, config),
		rt.File("manifest.json", fmt.Sprintf(`[{"Config":%q,"RepoTags":["app:1"],"Layers":["layer/layer.tar"]}]`, name)),
	), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	o.Platform = "linux/amd64"
	for _, ref := range []string{path, path + ":app:1"} {
		img, err := Pull(ctx, "docker-archive:"+ref, o)
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, flat(t, o, img)+"/hello", "from docker save")
		if img.Config.User != "7" {
			t.Errorf("%+v", img.Config)
		}
	}
	if _, err := Pull(ctx, "docker-archive:"+path+":other:1", o); err == nil || strings.Contains(err.Error(), "/proc/") {
		t.Errorf("%v", err)
	}
}

func TestEightAtOnce(t *testing.T) {
	r, o := registry(t), options(t)
	var man v1.Manifest
	img := rt.Image{Mangle: func(m *v1.Manifest, _ *v1.Image) { man = *m }}
	for n := range 5 {
		img.Layers = append(img.Layers, rt.Layer{Tar: rt.Tar(rt.File(fmt.Sprint(n), strings.Repeat("x", 100_000))), Compression: rt.Gzip})
	}
	ref, _ := r.Add("a:1", img)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := store.Open(o.Store.Dir()) // as another process would
			if err != nil {
				t.Error(err)
				return
			}
			own := o
			own.Store = s
			if _, err := Pull(ctx, ref, own); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, l := range man.Layers {
		if n := r.BlobHits(l.Digest); n != 1 {
			t.Errorf("layer fetched %d times", n)
		}
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	r, o := registry(t), options(t)
	img := rt.Image{}
	for n := range 4 {
		img.Layers = append(img.Layers, rt.Layer{Compression: rt.None, Tar: rt.Tar(rt.Owned(rt.Dir("d"), 5, 5),
			rt.Owned(rt.File("d/a", strings.Repeat(fmt.Sprint(n), 3<<20)), 5, 5), rt.File("e", "e"))})
	}
	ref, _ := r.Add("a:1", img)
	r.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
		_, d, ok := strings.Cut(req.URL.Path, "/blobs/")
		data := r.Blob(digest.Digest(d))
		if !ok || len(data) < 1<<20 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:2<<20])
		w.(http.Flusher).Flush()
		<-req.Context().Done() // and then silence
		return true
	})
	cctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(300*time.Millisecond, cancel)
	began := time.Now()
	_, err := Pull(cctx, ref, o)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v to give up", d)
	}
	empty(t, o)
}

func TestReown(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root has one mapping")
	}
	r, o := registry(t), options(t)
	suid := rt.Owned(rt.Program("su", "x"), 0, 0)
	suid.Mode = 0o4755
	ref, _ := r.Add("a:1", rt.Simple(rt.Owned(rt.Dir("home"), 33, 34), rt.Owned(rt.File("home/f", "mine"), 33, 34), rt.Link("home/g", "home/f"),
		suid, rt.File("gone/.wh.x", ""), rt.Symlink("ln", "/etc")))
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	hits := r.Hits("")
	o2 := o
	o2.IDMap = testMap(t, 33)
	img, err := Pull(ctx, ref, o2)
	if err != nil {
		t.Fatal(err)
	}
	if r.Hits("") != hits {
		t.Error("it was fetched again")
	}
	for path, uid := range map[string]uint32{"home/f": 33, "su": 0, "home": 33} {
		st, err := os.Lstat(filepath.Join(img.Layers[0], path))
		if err != nil {
			t.Fatal(err)
		}
		host, _ := o2.IDMap.HostUID(uid)
		if got := owner(st); got != host {
			t.Errorf("%s: owner %d, want %d", path, got, host)
		}
	}
	if st, err := os.Lstat(img.Layers[0] + "/su"); err != nil || st.Mode()&fs.ModeSetuid == 0 {
		t.Errorf("setuid lost: %v %v", st.Mode(), err)
	}
	a, _ := os.Stat(img.Layers[0] + "/home/f")
	b, _ := os.Stat(img.Layers[0] + "/home/g")
	if !os.SameFile(a, b) {
		t.Error("the hard link is two files")
	}
}

func TestUse(t *testing.T) {
	r, o := registry(t), options(t)
	ref, d := r.Add("a:1", rt.Simple(rt.File("a", "a")))
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	release, err := img.Use(o.Store)
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.Store.Remove(ctx, img.Ref)
	if err != nil || len(got.Kept) != 1 || got.Kept[0] != oci.Digest(d) {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := os.Stat(img.Layers[0] + "/a"); err != nil {
		t.Fatal(err)
	}
	release()
	if got, err = o.Store.Collect(ctx, false); err != nil || got.Layers != 1 || len(got.Images) != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	if _, err := img.Use(o.Store); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	empty(t, o)
}

package fetch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cove/fetch/oci"
	rt "cove/fetch/registrytest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// An image whose every digest is a sha512 one: pinned, in an index, in a layout, damaged, found again, collected.
func TestSHA512(t *testing.T) {
	r, o := registry(t), options(t)
	img := rt.Image{Algorithm: digest.SHA512, Layers: []rt.Layer{
		{Tar: rt.Tar(rt.Symlink("lib", "usr/lib"), rt.Dir("usr"), rt.Dir("usr/lib"), rt.File("a", "lower")), Compression: rt.Gzip},
		{Tar: rt.Tar(rt.File("lib/b", "through the link")), Compression: rt.Zstd}, // kept by its chainID
	}}
	var man v1.Manifest
	img.Mangle = func(m *v1.Manifest, _ *v1.Image) { man = *m }
	ref, d := r.Add("long:1", img)
	if d.Algorithm() != digest.SHA512 || man.Layers[0].Digest.Algorithm() != digest.SHA512 {
		t.Fatal("the test's own image has other digests")
	}
	repo := strings.TrimSuffix(ref, ":1")
	got, err := Pull(ctx, repo+"@"+string(d), o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != oci.Digest(d) || got.ID.Algorithm() != "sha512" {
		t.Errorf("%s, config %s", got.Digest, got.ID)
	}
	root := flat(t, o, got)
	wantFile(t, root+"/usr/lib/b", "through the link")
	hits := r.Hits("")
	if _, err := Pull(ctx, repo+"@"+string(d), o); err != nil || r.Hits("") != hits {
		t.Errorf("pulled again: %v, %d requests", err, r.Hits("")-hits)
	}
	found, err := o.Store.Find(string(d)[:20])
	if err != nil || len(found) != 1 {
		t.Errorf("by the digest's first digits: %v %v", found, err)
	}
	if in, err := o.Store.Inspect(string(d)); err != nil || len(in.Manifest) == 0 {
		t.Errorf("inspect: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Store.Dir(), "blobs", "sha512", d.Encoded())); err != nil {
		t.Error(err)
	}
	if _, err := o.Store.Remove(ctx, string(d)); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Store.Collect(ctx, false); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(o.Store.Dir(), "blobs", "*", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	index, _ := r.AddIndex("long:index", img)
	if _, err := Pull(ctx, index, o); err != nil {
		t.Errorf("an index: %v", err)
	}
	dir := t.TempDir()
	if err := rt.WriteLayout(dir, map[string]rt.Image{"a": img}); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(ctx, "oci:"+dir+":a", o); err != nil {
		t.Errorf("a layout: %v", err)
	}
	bad := img
	bad.Mangle = func(_ *v1.Manifest, c *v1.Image) { c.RootFS.DiffIDs[1] = digest.SHA512.FromString("no") }
	ref, _ = r.Add("long:bad", bad)
	other := o
	other.Platform = "linux/amd64"
	if _, err := Pull(ctx, ref, other); err == nil || !strings.Contains(err.Error(), "layer, unpacked,") {
		t.Errorf("a wrong diffID: %v", err)
	}
	// What comes under a digest is hashed by that digest's algorithm.
	ref, d = r.Add("long:2", rt.Image{Algorithm: digest.SHA512, Layers: []rt.Layer{{Tar: rt.Tar(rt.File("n", "n")), Compression: rt.None}}})
	r.SetBlob(d, []byte(`{"schemaVersion":2}`))
	if _, err := Pull(ctx, strings.TrimSuffix(ref, ":2")+"@"+string(d), o); err == nil || !strings.Contains(err.Error(), "does not match its digest") {
		t.Errorf("another manifest: %v", err)
	}
	for _, d := range []string{"sha384:" + strings.Repeat("0", 96), "md5:" + strings.Repeat("0", 32), "sha512:" + strings.Repeat("0", 64)} {
		if _, err := Pull(ctx, repo+"@"+d, o); err == nil {
			t.Errorf("%s was accepted", d)
		}
	}
}

// What a layer is compressed with is what its type says, where the type says it and others believe it.
func TestLayerTypes(t *testing.T) {
	r, o := registry(t), options(t)
	tar := rt.Tar(rt.File("a", "a"))
	for n, c := range []struct {
		docker  bool
		claimed rt.Compression
		is      rt.Compression
		want    string
	}{
		{false, rt.Gzip, rt.Zstd, "and it is zstd"}, {false, rt.Gzip, rt.None, "neither gzip nor zstd"}, {false, rt.None, rt.Gzip, "and it is gzip"},
		{false, rt.Zstd, rt.Gzip, "and it is gzip"}, {true, rt.Gzip, rt.Zstd, ""}, {true, rt.Gzip, rt.None, ""}, {true, rt.None, rt.Gzip, ""},
	} {
		img := rt.Image{Docker: c.docker, Layers: []rt.Layer{{Tar: tar, Compression: c.is}}}
		claimed := map[rt.Compression]string{rt.Gzip: "+gzip", rt.Zstd: "+zstd"}[c.claimed]
		img.Mangle = func(m *v1.Manifest, _ *v1.Image) {
			m.Layers[0].MediaType = v1.MediaTypeImageLayer + claimed
			if c.docker {
				m.Layers[0].MediaType = "application/vnd.docker.image.rootfs.diff.tar" + strings.Replace(claimed, "+", ".", 1)
			}
		}
		ref, _ := r.Add("a:"+string(rune('a'+n)), img)
		dir := t.TempDir()
		if err := rt.WriteLayout(dir, map[string]rt.Image{"a": img}); err != nil {
			t.Fatal(err)
		}
		for _, ref := range []string{ref, "oci:" + dir} {
			_, err := Pull(ctx, ref, o)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%+v: %v", c, err)
			}
			if _, err := o.Store.Collect(ctx, false); err != nil {
				t.Fatal(err)
			}
		}
	}
}

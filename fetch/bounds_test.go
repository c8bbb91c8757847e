package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cove/fetch/layer"
	rt "cove/fetch/registrytest"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Whatever an image is too much of, it is refused by that name, from a registry and from a layout, and nothing is left.
func TestBounds(t *testing.T) {
	zeros := strings.Repeat("\x00", 32<<20)
	layers := func(n int, body string, c rt.Compression) rt.Image {
		var i rt.Image
		for n := range n {
			i.Layers = append(i.Layers, rt.Layer{Tar: rt.Tar(rt.File(fmt.Sprint(n), body)), Compression: c})
		}
		return i
	}
	var files []rt.Entry
	for n := range 50 {
		files = append(files, rt.File(fmt.Sprint(n), ""))
	}
	wordy := rt.Simple(rt.File("a", "a"))
	wordy.Mangle = func(m *v1.Manifest, _ *v1.Image) {
		m.Annotations = map[string]string{"x": strings.Repeat("x", 5<<20)}
	}
	for name, c := range map[string]struct {
		img  rt.Image
		set  func(o *Options)
		what string
	}{
		"bytes":                    {layers(1, zeros[:2<<20], rt.None), func(o *Options) { o.Limits.Bytes = 1 << 20 }, "bytes"},
		"bytes, of all layers":     {layers(6, zeros[:300<<10], rt.None), func(o *Options) { o.Limits.Bytes = 1 << 20 }, "bytes"},
		"ratio, gzip":              {layers(1, zeros, rt.Gzip), func(o *Options) { o.Limits.RatioFrom = 1 << 20 }, "ratio"},
		"ratio, zstd":              {layers(1, zeros, rt.Zstd), func(o *Options) { o.Limits.RatioFrom = 1 << 20 }, "ratio"},
		"ratio, of one's own":      {layers(1, strings.Repeat("some text ", 1<<20), rt.Gzip), func(o *Options) { o.Limits.RatioFrom, o.Limits.Ratio = 1<<20, 2 }, "ratio"},
		"entries":                  {rt.Simple(files...), func(o *Options) { o.Limits.Entries = 49 }, "entries"},
		"manifest":                 {wordy, func(*Options) {}, "manifest"},
		"manifest, of one's own":   {layers(1, "", rt.Gzip), func(o *Options) { o.MaxManifest = 300 }, "manifest"},
		"bytes, not above":         {layers(1, "x", rt.Gzip), func(o *Options) { o.Limits.Bytes = 1 << 20 }, ""},
		"entries, not above":       {rt.Simple(files...), func(o *Options) { o.Limits.Entries = 50 }, ""},
		"manifest, and it may be":  {wordy, func(o *Options) { o.MaxManifest = 8 << 20 }, ""},
		"ratio, as large as it is": {layers(1, zeros, rt.Gzip), func(o *Options) { o.Limits.RatioFrom, o.Limits.Ratio = 1<<20, 5000 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, o := registry(t), options(t)
			c.set(&o)
			ref, _ := r.Add("a:1", c.img)
			index, _ := r.AddIndex("b:1", c.img)
			dir := t.TempDir()
			if err := rt.WriteLayout(dir, map[string]rt.Image{"a": c.img}); err != nil {
				t.Fatal(err)
			}
			for _, ref := range []string{ref, index, "oci:" + dir} {
				_, err := Pull(ctx, ref, o)
				var limit *layer.LimitError
				if c.what == "" {
					if err != nil {
						t.Errorf("%s: %v", ref, err)
					}
				} else if !errors.As(err, &limit) || limit.What != c.what {
					t.Errorf("%s: %v", ref, err)
				} else {
					empty(t, o)
				}
			}
		})
	}
}

// Indexes in indexes are followed as deep as they may be, and found again when a digest names the first.
func TestIndexDepth(t *testing.T) {
	r, o := registry(t), options(t)
	_, d := r.AddIndex("a:1", rt.Simple(rt.File("a", "a")))
	for depth := 2; depth <= 6; depth++ {
		data, err := json.Marshal(v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{{
			MediaType: v1.MediaTypeImageIndex, Digest: d, Size: int64(len(r.Blob(d)))}}})
		if err != nil {
			t.Fatal(err)
		}
		var ref string
		ref, d = r.AddManifest(fmt.Sprintf("a:%d", depth), v1.MediaTypeImageIndex, []byte(strings.Replace(string(data), `"schemaVersion":0`, `"schemaVersion":2`, 1)))
		o.MaxDepth = 0
		_, err = Pull(ctx, ref, o)
		var limit *layer.LimitError
		if deep := depth > 4; deep != (errors.As(err, &limit) && limit.What == "depth") || !deep && err != nil {
			t.Errorf("depth %d: %v", depth, err)
		}
		o.MaxDepth = 6
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Errorf("depth %d, allowed: %v", depth, err)
		}
		r.Log()
		img, err := Pull(ctx, strings.TrimSuffix(ref, fmt.Sprintf(":%d", depth))+"@"+d.String(), o)
		if log := r.Log(); err != nil || len(log) != 0 || img.Digest.Validate() != nil {
			t.Errorf("depth %d, by digest: %v, %d requests", depth, err, len(log))
		}
	}
	// One that names itself cannot be: it would have to hold its own digest. One that says it has another size can.
	self := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":7}]}`, v1.MediaTypeImageIndex, d)
	ref, _ := r.AddManifest("b:1", v1.MediaTypeImageIndex, []byte(self))
	var size *SizeError
	if _, err := Pull(ctx, ref, o); !errors.As(err, &size) {
		t.Error(err)
	}
}

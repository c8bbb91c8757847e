package fetch

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"cove/fetch/layer"
	"cove/fetch/oci"
	rt "cove/fetch/registrytest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// saved packs a docker archive of these layers, by the names they have in it.
func saved(layers [][]byte, names []string, more ...rt.Entry) []byte {
	var diffIDs []string
	for _, l := range layers {
		diffIDs = append(diffIDs, fmt.Sprintf("%q", digest.FromBytes(l)))
	}
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%s]}}`, strings.Join(diffIDs, ","))
	manifest := fmt.Sprintf(`[{"Config":"c.json","RepoTags":["app:1"],"Layers":["%s"]}]`, strings.Join(names, `","`))
	return rt.Tar(append(more, rt.File("c.json", config), rt.File("manifest.json", manifest))...)
}

func TestArchives(t *testing.T) {
	o := options(t)
	o.Platform = "linux/amd64"
	o.Limits = layer.Limits{RatioFrom: 1 << 20}
	a := rt.Tar(rt.File("a", "a"))
	zeros := rt.Tar(rt.File("zeros", strings.Repeat("\x00", 8<<20)))
	at := filepath.Join(t.TempDir(), "saved.tar")
	for name, c := range map[string]struct {
		data []byte
		want string // in the error; "" is none
	}{
		"plain":           {saved([][]byte{a}, []string{"a.tar"}, rt.File("a.tar", string(a))), ""},
		"gzip":            {rt.Compress(saved([][]byte{a}, []string{"a.tar"}, rt.File("a.tar", string(a))), rt.Gzip), ""},
		"zstd":            {rt.Compress(saved([][]byte{a}, []string{"a.tar"}, rt.File("a.tar", string(a))), rt.Zstd), ""},
		"layers of gzip":  {saved([][]byte{a}, []string{"a.tar"}, rt.File("a.tar", string(rt.Compress(a, rt.Gzip)))), ""},
		"one layer twice": {saved([][]byte{a, a}, []string{"a.tar", "a.tar"}, rt.File("a.tar", string(a))), ""},
		"a link to it":    {saved([][]byte{a, a}, []string{"1/l.tar", "2/l.tar"}, rt.File("1/l.tar", string(a)), rt.Symlink("2/l.tar", "../1/l.tar")), ""},
		"a link out":      {saved([][]byte{a}, []string{"l.tar"}, rt.Symlink("l.tar", "/etc/hostname")), "l.tar"},
		"links in a ring": {saved([][]byte{a}, []string{"x"}, rt.Symlink("x", "y"), rt.Symlink("y", "x")), "not exist"},
		"climbing":        {saved([][]byte{a}, []string{"../../../../etc/hostname"}), "not exist"},
		"escapes":         {saved([][]byte{a}, []string{`\u001b[31m`}), "not exist"},
		"two manifests":   {saved([][]byte{a}, []string{"a.tar"}, rt.File("a.tar", string(a)), rt.File("manifest.json", "[]")), "twice"},
		"other layer":     {saved([][]byte{a}, []string{"a.tar"}, rt.File("a.tar", string(zeros))), "digest"},
		"too few":         {saved([][]byte{a, a}, []string{"a.tar"}, rt.File("a.tar", string(a))), "2 layers"},
		"bomb":            {rt.Compress(saved([][]byte{zeros}, []string{"a.tar"}, rt.File("a.tar", string(zeros))), rt.Gzip), "200 times"},
		"zstd bomb":       {rt.Compress(saved([][]byte{zeros}, []string{"a.tar"}, rt.File("a.tar", string(zeros))), rt.Zstd), "200 times"},
		"bomb in it":      {saved([][]byte{zeros}, []string{"a.tar"}, rt.File("a.tar", string(rt.Compress(zeros, rt.Gzip)))), "200 times"},
		"cut":             {rt.Compress(saved([][]byte{a}, []string{"a.tar"}, rt.File("a.tar", string(a))), rt.Gzip)[:200], ""},
		"large":           {rt.Tar(rt.File("manifest.json", strings.Repeat(" ", 5<<20))), "at most"},
		"null":            {rt.Tar(rt.File("manifest.json", "[null]")), "not exist"},
	} {
		if err := os.WriteFile(at, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		img, err := Pull(ctx, "docker-archive:"+at, o)
		switch {
		case name == "cut":
			if err == nil {
				t.Error("cut: accepted")
			}
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		case err == nil:
			wantFile(t, flat(t, o, img)+"/a", "a")
		case strings.Contains(err.Error(), "\x1b"):
			t.Errorf("%s: raw escape in %q", name, err)
		}
		if err == nil {
			if _, err := o.Store.Remove(ctx, string(img.Digest)); err != nil {
				t.Fatal(err)
			}
		}
		empty(t, o)
	}
}

// A layout in a compressed tar, and one whose tar leads out of it.
func TestLayoutArchives(t *testing.T) {
	o := options(t)
	o.Limits = layer.Limits{RatioFrom: 1 << 20}
	dir := t.TempDir()
	if err := rt.WriteLayout(dir, map[string]rt.Image{"one": rt.Simple(rt.File("a", "a"))}); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "layout.tar")
	plain := tarDir(t, dir)
	for name, data := range map[string][]byte{"plain": plain, "gzip": rt.Compress(plain, rt.Gzip)} {
		if err := os.WriteFile(at, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Pull(ctx, "oci-archive:"+at, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var bomb bytes.Buffer
	w := tar.NewWriter(&bomb)
	_ = w.WriteHeader(&tar.Header{Name: "index.json", Size: 8 << 20, Mode: 0o644})
	_, _ = w.Write(make([]byte, 8<<20))
	w.Close()
	var lim *layer.LimitError
	if err := os.WriteFile(at, rt.Compress(bomb.Bytes(), rt.Gzip), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(ctx, "oci-archive:"+at, o); !errors.As(err, &lim) {
		t.Errorf("bomb: %v", err)
	}
	link := rt.Tar(rt.Symlink("index.json", filepath.Join(dir, "index.json")), rt.Symlink("blobs", filepath.Join(dir, "blobs")))
	if err := os.WriteFile(at, link, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(ctx, "oci-archive:"+at, o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("links out: %v", err)
	}
}

// An archive ends with who asked for it, and neither its names nor its windows fill the memory.
func TestHostileArchive(t *testing.T) {
	o := options(t)
	at := filepath.Join(t.TempDir(), "layout.tar")
	for name, compress := range map[string]func(io.Writer) io.WriteCloser{
		"names": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"window": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithWindowSize(128<<20), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
	} {
		f, err := os.Create(at)
		if err != nil {
			t.Fatal(err)
		}
		z := compress(f)
		w := tar.NewWriter(z)
		if name == "names" {
			for n := range 20_000 {
				_ = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("%0*d", 4000, n), Mode: 0o644})
			}
		} else {
			_ = w.WriteHeader(&tar.Header{Name: "big", Size: 150 << 20, Mode: 0o644})
			b := make([]byte, 1<<20)
			for n := range 150 {
				b[n*100] = byte(n)
				_, _ = w.Write(b)
			}
		}
		if err := errors.Join(w.Close(), z.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		debug.FreeOSMemory()
		before := inUse()
		most := int64(0)
		done := make(chan struct{})
		go func() {
			_, err = openTar(ctx, at, o)
			close(done)
		}()
		for wait := true; wait; {
			select {
			case <-done:
				wait = false
			case <-time.After(5 * time.Millisecond):
			}
			most = max(most, inUse()-before)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if most > 50<<20 {
			t.Errorf("%s: %d MB", name, most>>20)
		}
		stopped, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := openTar(stopped, at, o); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		empty(t, o)
	}
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// Nothing that a document says makes an error of megabytes.
func TestLongWords(t *testing.T) {
	long := strings.Repeat("\x1bx", 500_000)
	d := digest.FromString("x")
	for name, doc := range map[string]string{
		"document type": fmt.Sprintf(`{"schemaVersion":2,"mediaType":"x%s"}`, strings.Repeat("y", 1_000_000)),
		"layer type": fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":"%s","digest":%[2]q,"size":1}]}`,
			v1.MediaTypeImageConfig, d, strings.Repeat("y", 1_000_000)),
		"number": `{"schemaVersion":` + strings.Repeat("1", 1_000_000) + `}`,
	} {
		if _, err := parseDocument([]byte(doc), ""); err == nil || len(err.Error()) > 1000 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	if err := oci.Digest(long).Check(); err == nil || len(err.Error()) > 2000 || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("digest: %.300v", err)
	}
	var many []oci.Descriptor
	for i := range 10_000 {
		many = append(many, oci.Descriptor{Platform: &oci.Platform{OS: "linux", Architecture: fmt.Sprintf("a%d%s", i, long[:200])}})
	}
	if _, err := oci.Choose(many, oci.Platform{OS: "linux", Architecture: "amd64"}); err == nil || len(err.Error()) > 4000 {
		t.Errorf("platforms: %.300v", err)
	}
	if _, err := parseDocument([]byte(`{"schemaVersion":2,"mediaType":"text/plain","manifests":[]}`), ""); err == nil {
		t.Error("a document of another type was accepted")
	}
}

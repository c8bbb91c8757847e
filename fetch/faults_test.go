package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
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
	"cove/fetch/wire"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// impatient is how the tests wait.
var impatient = wire.Settings{Pause: 5 * time.Millisecond, Silence: 300 * time.Millisecond, Slow: 400 * time.Millisecond, MinRate: 1 << 10,
	Document: 600 * time.Millisecond, MaxWait: 2 * time.Second}

// faulty is a registry with one image, of one layer that is as long as it is sent.
type faulty struct {
	*rt.Registry
	o    Options
	ref  string
	man  digest.Digest
	blob digest.Digest // the layer
	data []byte        // its bytes
	conf digest.Digest
	wait []Event // the Waiting ones
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{Registry: registry(t), o: options(t)}
	text := make([]byte, 3<<20)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(text)
	img := rt.Simple(rt.File("a", string(text)))
	img.Layers[0].Compression = rt.None
	img.Mangle = func(m *v1.Manifest, _ *v1.Image) { f.blob = m.Layers[0].Digest }
	f.ref, f.man = f.Add("a:1", img)
	f.data = f.Blob(f.blob)
	var m v1.Manifest
	if err := jsonInto(f.Blob(f.man), &m); err != nil {
		t.Fatal(err)
	}
	f.conf = m.Config.Digest
	f.o.Wire = impatient
	f.o.Progress = func(e Event) {
		if e.Kind == Waiting {
			f.wait = append(f.wait, e)
		}
	}
	return f
}

// What a registry does wrong, and what is made of it: "" is an image; else what the error says.
func TestRegistryFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(f *faulty) rt.Fault
		want string
		most int // requests, 0: any number
	}{
		{"500, then not", func(*faulty) rt.Fault { return rt.On("/manifests/1", 2, rt.Status(500)) }, "", 5},
		{"500 for ever", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Status(500)) }, "/v2/a/manifests/1: 500 Internal Server Error: unknown: try again", 4},
		{"503 blob", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), 2, rt.Status(503)) }, "", 5},
		{"502 blob for ever", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), -1, rt.Status(502)) }, ": 502 Bad Gateway", 6},
		{"501", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Status(501)) }, "501", 1},
		{"404", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Status(404)) }, "404 Not Found", 1},
		{"204", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Status(204)) }, "204", 1},
		{"429, wait a second", func(*faulty) rt.Fault { return rt.On("/manifests/1", 1, rt.Status(429, "Retry-After", "1")) }, "", 4},
		{"429, wait an hour", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Status(429, "Retry-After", "3600")) }, "429 Too Many Requests: unknown: try again (it asks to wait 1h0m0s, and 2s is the longest", 1},
		{"429, wait until a day", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, rt.Status(429, "Retry-After", time.Now().Add(48*time.Hour).UTC().Format(http.TimeFormat)))
		}, "it asks to wait 4", 1},
		{"429, wait a nonsense", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), 1, rt.Status(429, "Retry-After", "-1e9")) }, "", 4},
		{"429, wait till the sun is cold", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", 1, rt.Status(429, "Retry-After", "99999999999999999999999"))
		}, "", 4},
		{"429 blob", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), -1, rt.Status(429, "Retry-After", "900")) }, "429 Too Many Requests", 3},
		{"silent manifest, once", func(*faulty) rt.Fault { return rt.On("/manifests/1", 1, rt.Silent) }, "", 4},
		{"silent manifest", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Silent) }, "the server has sent nothing for 300ms", 2},
		{"silent config", func(f *faulty) rt.Fault { return rt.On(f.conf.String(), -1, rt.Silent) }, "the server has sent nothing for 300ms", 3},
		{"body stalls, once", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), 1, rt.Stall(f.data, 1<<20)) }, "", 4},
		{"body stalls", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), -1, rt.Stall(f.data, 1000)) }, "the server has sent nothing for 300ms", 4},
		{"cut again and again", func(f *faulty) rt.Fault {
			at := 0
			return rt.On(f.blob.String(), 9, func(w http.ResponseWriter, r *http.Request) { at += len(f.data) / 10; rt.Cut(f.data, at)(w, r) })
		}, "", 12},
		{"cut, 2 MiB apart", func(f *faulty) rt.Fault {
			at := 0
			return rt.On(f.blob.String(), 2, func(w http.ResponseWriter, r *http.Request) { at += len(f.data) / 3; rt.Cut(f.data, at)(w, r) })
		}, "", 5},
		{"cut at the same byte", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), -1, rt.Cut(f.data, 5000)) }, "unexpected EOF", 6},
		{"cut manifest", func(f *faulty) rt.Fault { return rt.On("/manifests/1", 1, rt.Cut(f.Blob(f.man), 10)) }, "", 4},
		{"cut config", func(f *faulty) rt.Fault { return rt.On(f.conf.String(), 1, rt.Cut(f.Blob(f.conf), 10)) }, "", 4},
		{"cut before the answer", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", 1, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, "", 5},
		{"Range ignored", func(f *faulty) rt.Fault {
			return cutThen(f, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.data) })
		}, "", 4},
		{"Range of other bytes", func(f *faulty) rt.Fault {
			return cutThen(f, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(f.data)-1, len(f.data)))
				w.WriteHeader(206)
				_, _ = w.Write(f.data[5:])
			})
		}, "asked for the bytes 1572", 4},
		{"Range without saying which", func(f *faulty) rt.Fault {
			return cutThen(f, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); _, _ = w.Write(f.data[1000:]) })
		}, "and got \"\"", 4},
		{"rest of another blob", func(f *faulty) rt.Fault {
			return cutThen(f, func(w http.ResponseWriter, req *http.Request) {
				other := bytes.Clone(f.data)
				other[len(other)-3000] ^= 1
				rt.Cut(other, len(other))(w, req)
			})
		}, "does not match its digest", 4},
		{"206 that was not asked for", func(f *faulty) rt.Fault {
			return rt.On(f.blob.String(), -1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); _, _ = w.Write(f.data) })
		}, "206 Partial Content", 3},
		{"longer Content-Length", func(f *faulty) rt.Fault {
			return rt.On(f.blob.String(), -1, rt.Cut(append(bytes.Clone(f.data), "more"...), 100))
		}, "size does not match: Content-Length is", 3},
		{"shorter Content-Length", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), -1, rt.Cut(f.data[:100], 100)) }, "size does not match: Content-Length is 100", 3},
		{"longer, not said", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), -1, rt.Endless(f.data)) }, "does not match its size", 3},
		{"endless manifest", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Endless(bytes.Repeat([]byte(" "), 1<<16))) }, "a manifest of more than 4194304 bytes", 1},
		{"large manifest, said so", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "999999999") })
		}, "a manifest of more than 4194304 bytes", 1},
		{"dripping manifest", func(f *faulty) rt.Fault {
			return rt.On("/manifests/1", -1, rt.Drip(f.Blob(f.man), 50*time.Millisecond))
		}, "the answer has not come to its end within 600ms", 2},
		{"dripping layer", func(f *faulty) rt.Fault { return rt.On(f.blob.String(), -1, rt.Drip(f.data, 20*time.Millisecond)) }, "sends too slowly (less than 1024 bytes a second)", 4},
		{"endless headers", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, rt.Status(200, "X", strings.Repeat("x", 400<<10)))
		}, "header", 4},
		{"gzip, not asked for", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Status(200, "Content-Encoding", "gzip")) }, "the encoding \"gzip\"", 1},
		{"another digest in the header", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Docker-Content-Digest", digest.FromString("other").String())
				_, _ = w.Write([]byte("{}"))
			})
		}, "does not match its digest", 1},
		{"a dripping error", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(403)
				rt.Drip(bytes.Repeat([]byte("no "), 100), 100*time.Millisecond)(w, r)
			})
		}, "403 Forbidden", 1},
		{"escapes", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(418)
				fmt.Fprintf(w, "{\"errors\":[{\"code\":\"\\u001b]0;x\\u0007\",\"message\":\"\\u001b[2J\\u009b31m\\u202e%s\"}]}", strings.Repeat("x", 10_000))
			})
		}, `418 I'm a teapot: \x1b]0;x\a: \x1b[2J`, 1},
		{"malformed answer", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, raw("HTTP/1.1 200 \x1b[31mOK\r\n\x1b[2J: x\r\nbad line\x1b[5m\r\n\r\n"))
		}, "malformed", 4},
		{"redirects in a circle", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, rt.Status(307, "Location", "/v2/a/manifests/1"))
		}, "more than 5 redirects", 6},
		{"redirect to a file", func(f *faulty) rt.Fault {
			return rt.On(f.blob.String(), -1, rt.Status(302, "Location", "file:///etc/passwd"))
		}, `a redirect to "file": is not followed`, 3},
		{"redirect to nowhere", func(*faulty) rt.Fault { return rt.On("/manifests/1", -1, rt.Status(301)) }, "a redirect to no address", 1},
		{"redirect with a password", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, rt.Status(301, "Location", "http://me:s3cret@127.0.0.1:1/x?y=s3cret"))
		}, "with a user name in the address (http://127.0.0.1:1/x)", 1},
		{"redirect to the metadata service", func(*faulty) rt.Fault {
			return rt.On("/manifests/1", -1, rt.Status(302, "Location", "http://169.254.169.254/latest/meta-data"))
		}, "169.254.169.254 is a link-local address", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFaulty(t)
			f.SetFault(c.fail(f))
			f.Log()
			began := time.Now()
			_, err := Pull(ctx, f.ref, f.o)
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %s", err, c.want)
			case err != nil && strings.ContainsAny(err.Error(), "\x1b\x07\u009b\u202e\n"):
				t.Errorf("raw: %q", err)
			case err != nil && len(err.Error()) > 1200:
				t.Errorf("%d bytes of error", len(err.Error()))
			}
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
			if log := f.Log(); c.most > 0 && len(log) > c.most {
				t.Errorf("%d requests: %+v", len(log), log)
			}
			if err != nil {
				empty(t, f.o)
			}
		})
	}
}

// cutThen cuts the layer in the middle, and has then answer for what is missing.
func cutThen(f *faulty, then http.HandlerFunc) rt.Fault {
	first := rt.On(f.blob.String(), 1, rt.Cut(f.data, 1_572_864))
	rest := rt.On(f.blob.String(), -1, then)
	return func(w http.ResponseWriter, r *http.Request) bool { return first(w, r) || rest(w, r) }
}

func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = conn.Write([]byte(answer))
			conn.Close()
		}
	}
}

// A body that is cut goes on at the byte that was reached, and nowhere before it.
func TestResume(t *testing.T) {
	f := newFaulty(t)
	var mu sync.Mutex
	cuts := []int{1 << 20, 2<<20 + 1, 2<<20 + 5}
	f.SetFault(rt.On(f.blob.String(), len(cuts), func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		at := cuts[0]
		cuts = cuts[1:]
		mu.Unlock()
		rt.Cut(f.data, at)(w, r)
	}))
	if _, err := Pull(ctx, f.ref, f.o); err != nil {
		t.Fatal(err)
	}
	var ranges []string
	for _, r := range f.Log() {
		if strings.HasSuffix(r.Path, f.blob.String()) {
			ranges = append(ranges, r.Range)
		}
	}
	if want := fmt.Sprintf("[ bytes=%d- bytes=%d- bytes=%d-]", 1<<20, 2<<20+1, 2<<20+5); fmt.Sprint(ranges) != want {
		t.Errorf("asked for %q, want %s", ranges, want)
	}
}

// A wait that is asked for is waited, and told.
func TestRetryAfter(t *testing.T) {
	f := newFaulty(t)
	f.SetFault(rt.On("/manifests/1", 1, rt.Status(429, "Retry-After", "1")))
	began := time.Now()
	if _, err := Pull(ctx, f.ref, f.o); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d < time.Second {
		t.Errorf("asked again after %v", d)
	}
	if len(f.wait) != 1 || f.wait[0].Wait != time.Second || !strings.Contains(f.wait[0].Why, "429 Too Many Requests") {
		t.Errorf("told of %+v", f.wait)
	}
}

// All of a pull has a time, too.
func TestMaxTime(t *testing.T) {
	f := newFaulty(t)
	f.o.Wire = wire.Settings{}
	f.o.MaxTime = 300 * time.Millisecond
	f.SetFault(rt.On(f.blob.String(), -1, rt.Drip(f.data, time.Millisecond)))
	_, err := Pull(ctx, f.ref, f.o)
	var limit *layer.LimitError
	if !errors.As(err, &limit) || limit.What != "time" || !strings.Contains(err.Error(), "not done after 300ms") {
		t.Fatal(err)
	}
	empty(t, f.o)
}

// What a tag named first is what is fetched, whatever it names in the meantime.
func TestTagMoves(t *testing.T) {
	r, o := registry(t), options(t)
	other, d2 := r.Add("other:1", rt.Simple(rt.File("n", "2")))
	for _, add := range []func(string, rt.Image) (string, digest.Digest){r.Add, func(n string, i rt.Image) (string, digest.Digest) { return r.AddIndex(n, i) }} {
		ref, d1 := add("a:1", rt.Simple(rt.File("n", "1")))
		r.SetTag("a:1", d1)
		r.SetFault(func(_ http.ResponseWriter, req *http.Request) bool {
			if !strings.HasSuffix(req.URL.Path, "/manifests/1") { // what comes after it
				r.SetTag("a:1", d2)
			}
			return false
		})
		r.Log()
		img, err := Pull(ctx, ref, o)
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, flat(t, o, img)+"/n", "1")
		asked := 0
		for _, q := range r.Log() {
			if strings.HasSuffix(q.Path, "/manifests/1") {
				asked++
			}
		}
		if asked != 1 {
			t.Errorf("the tag was asked for %d times", asked)
		}
		r.SetFault(nil)
		o.Policy = Always
		img, err = Pull(ctx, ref, o) // and now it names the other
		if err != nil || img.Digest != oci.Digest(d2) {
			t.Fatal(img, err)
		}
		if _, err := o.Store.Remove(ctx, ref); err != nil {
			t.Fatal(err)
		}
		o.Policy = Missing
	}
	_ = other
}

// Nothing new takes one request, and none for what the store has of what is new.
func TestNothingNew(t *testing.T) {
	r, o := registry(t), options(t)
	o.Policy = Always
	for _, c := range []struct {
		name string
		add  func() (string, digest.Digest)
	}{
		{"image", func() (string, digest.Digest) { return r.Add("a:1", rt.Simple(rt.File("a", "a"))) }},
		{"index", func() (string, digest.Digest) { return r.AddIndex("b:1", rt.Simple(rt.File("b", "b"))) }},
		{"pinned", func() (string, digest.Digest) {
			_, d := r.Add("c:1", rt.Simple(rt.File("c", "c")))
			return r.Addr + "/c@" + string(d), d
		}},
	} {
		ref, _ := c.add()
		first, err := Pull(ctx, ref, o)
		if err != nil {
			t.Fatal(err)
		}
		r.Log()
		again, err := Pull(ctx, ref, o)
		if err != nil || again.Digest != first.Digest || len(again.Layers) != 1 {
			t.Fatal(again, err)
		}
		if log := r.Log(); len(log) != 1 || log[0].Method != http.MethodHead {
			t.Errorf("%s: %+v", c.name, log)
		}
		// A registry without HEAD, and one that does not say the digest, is asked for the document.
		r.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return req.Method == http.MethodHead
		})
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		r.SetFault(nil)
	}
	// Of an image with another tag, the documents are there.
	ref, d := r.Add("d:1", rt.Simple(rt.File("d", "d")))
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	r.SetTag("d:2", d)
	r.Log()
	if _, err := Pull(ctx, r.Addr+"/d:2", o); err != nil {
		t.Fatal(err)
	}
	if log := r.Log(); len(log) != 1 {
		t.Errorf("another name: %+v", log)
	}
	// What is in the store is not believed when it is damaged.
	path := filepath.Join(o.Store.Dir(), "blobs", "sha256", d.Encoded())
	if err := os.WriteFile(path, []byte(`{"schemaVersion":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
}

// A descriptor's urls and data are somebody else's word: they are neither fetched nor used.
func TestURLsAreNotFetched(t *testing.T) {
	r, o := registry(t), options(t)
	elsewhere := registry(t)
	img := rt.Simple(rt.File("a", "a"))
	var blob digest.Digest
	img.Mangle = func(m *v1.Manifest, _ *v1.Image) {
		l := &m.Layers[0]
		blob = l.Digest
		l.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
		l.URLs = []string{elsewhere.URL() + "/layer"}
		l.Data = []byte("something else")
	}
	ref, _ := r.Add("a:1", img)
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Store.Remove(ctx, ref); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Store.Collect(ctx, false); err != nil {
		t.Fatal(err)
	}
	r.SetBlob(blob, nil)
	if _, err := Pull(ctx, ref, o); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
	if n := elsewhere.Hits(""); n != 0 {
		t.Errorf("%d requests for urls", n)
	}
}

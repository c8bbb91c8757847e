package fetch

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cove/fetch/image"
	"cove/fetch/oci"
	rt "cove/fetch/registrytest"
	"cove/fetch/wire"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// trees describes every layer of an image: what lstat(2) says, extended attributes and contents.
func trees(t testing.TB, img *Image) string {
	t.Helper()
	var lines []string
	for n, root := range img.Layers {
		err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, path)
			line := fmt.Sprintf("%d %s %o %d:%d %d links %d", n, rel, st.Mode, st.Uid, st.Gid, st.Rdev, st.Nlink)
			if st.Mode&unix.S_IFMT != unix.S_IFCHR {
				line += fmt.Sprintf(" %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFREG:
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				line += fmt.Sprintf(" %x", sha256.Sum256(data))
			case unix.S_IFLNK:
				to, _ := os.Readlink(path)
				line += " -> " + to
			}
			buf := make([]byte, 4096)
			if size, err := unix.Llistxattr(path, buf); err == nil {
				names := strings.Split(strings.TrimSuffix(string(buf[:size]), "\x00"), "\x00")
				sort.Strings(names)
				for _, name := range names {
					value := make([]byte, 4096)
					if size, err := unix.Lgetxattr(path, name, value); err == nil {
						line += fmt.Sprintf(" %s=%x", name, value[:size])
					}
				}
			}
			lines = append(lines, line)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(lines, "\n")
}

// full is an image with some of everything that a layer can hold and that this test's user can read back.
func full() rt.Image {
	caps := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	with := func(e rt.Entry, kv ...string) rt.Entry {
		e.PAXRecords = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			e.PAXRecords["SCHILY.xattr."+kv[i]] = kv[i+1]
		}
		return e
	}
	fine := rt.File("etc/fine", "fine")
	fine.ModTime, fine.Format = time.Unix(1e9, 123456789), tar.FormatPAX
	setuid := rt.Program("bin/su", "su")
	setuid.Mode = 0o4755
	fifo := rt.Entry{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}}
	return rt.Image{Config: v1.ImageConfig{Env: []string{"A=b&c"}, Labels: map[string]string{"k": "<v>"}},
		Layers: []rt.Layer{
			{Tar: rt.Tar(rt.Dir("etc"), fine, rt.File("etc/gone", "g"), rt.Dir("bin"), setuid, rt.Symlink("lib", "usr/lib"), rt.Dir("usr/lib"),
				rt.Dir("opaque"), rt.File("opaque/x", "x"), rt.Owned(rt.File("etc/theirs", "33"), 33, 65534)), Compression: rt.Gzip},
			{Tar: rt.Tar(with(rt.File("etc/caps", "c"), "security.capability", caps, "user.x", "\x00y"), rt.File("etc/.wh.gone", ""), rt.Link("bin/hard", "etc/caps"),
				rt.File("lib/through", "t"), rt.Dir("opaque"), rt.File("opaque/.wh..wh..opq", ""), rt.File("opaque/y", "y"), fifo), Compression: rt.Zstd},
		}}
}

func share(o Options) ShareOptions {
	return ShareOptions{Store: o.Store, Compression: Gzip, Wire: o.Wire}
}

// noScratch fails when something is left of a push or a save in the store.
func noScratch(t *testing.T, o Options) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(o.Store.Dir(), "tmp", "*"))
	hidden, err2 := filepath.Glob(filepath.Join(o.Store.Dir(), "tmp", ".*"))
	if err != nil || err2 != nil || len(left)+len(hidden) > 0 {
		t.Errorf("left in the store: %v %v %v %v", left, hidden, err, err2)
	}
}

// An image that goes to another registry is the same image there, but for the digests of its layers.
func TestPushRoundTrip(t *testing.T) {
	for _, c := range []Compression{Gzip, Zstd} {
		t.Run(string(c), func(t *testing.T) {
			from, to, o := registry(t), registry(t), options(t)
			ref, _ := from.Add("app:1", full())
			img, err := Pull(ctx, ref, o)
			if err != nil {
				t.Fatal(err)
			}
			so := share(o)
			so.Compression = c
			sent, err := Push(ctx, ref, to.Addr+"/copy/app:2", so)
			if err != nil {
				t.Fatal(err)
			}
			if sent.Packed != 2 || sent.Kept != 0 || sent.Ref != to.Addr+"/copy/app:2" {
				t.Errorf("%+v", sent)
			}
			noScratch(t, o)
			d, mediaType, data := to.Manifest("copy/app:2")
			if oci.Digest(d) != sent.Digest || mediaType != v1.MediaTypeImageManifest || !strings.Contains(string(data), "tar+"+string(c)) {
				t.Errorf("%s %s %s", d, mediaType, data)
			}
			other := options(t)
			back, err := Pull(ctx, to.Addr+"/copy/app:2", other)
			if err != nil {
				t.Fatal(err)
			}
			if os.Getuid() == 0 {
				if was, is := trees(t, img), trees(t, back); was != is {
					t.Errorf("it was\n%s\nand is\n%s", was, is)
				}
			}
			if back.ID != sent.ID || back.Config.Env[0] != "A=b&c" || back.Config.Labels["k"] != "<v>" {
				t.Errorf("%+v", back.Config)
			}
			// Packed once more out of the other store it is what it was: nothing has to be sent.
			before := len(to.Pushed())
			again, err := Push(ctx, to.Addr+"/copy/app:2", to.Addr+"/copy/app:3", share(other))
			if err != nil || again.Digest != sent.Digest || again.Kept != 2 || len(to.Pushed()) != before+1 {
				t.Errorf("%+v %v %v", again, err, to.Pushed()[before:])
			}
			before = len(to.Pushed())
			if again, err = Push(ctx, ref, to.Addr+"/copy/app:2", so); err != nil || again.Digest != sent.Digest || len(to.Pushed()) != before+1 {
				t.Errorf("%+v %v %v", again, err, to.Pushed()[before:])
			}
		})
	}
}

// In the registry that it came from, an image stays what it was: its blobs are mounted from where they are.
func TestPushMounts(t *testing.T) {
	r, o := registry(t), options(t)
	r.Separate()
	ref, d := r.Add("base:1", full())
	r.RequireLogin("me", "s3cret-word", true)
	o.AuthFile = filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(o.AuthFile, r.AuthFile("me", "s3cret-word"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	so := share(o)
	so.AuthFile = o.AuthFile
	sent, err := Push(ctx, ref, r.Addr+"/mine/app:1", so)
	if err != nil || sent.Digest != oci.Digest(d) || sent.Kept != 2 {
		t.Fatalf("%+v %v", sent, err)
	}
	pushed := strings.Join(r.Pushed(), "\n")
	if strings.Count(pushed, "mount mine/app ") != 2 || strings.Count(pushed, "blob mine/app ") != 1 {
		t.Errorf("%s", pushed)
	}
}

func TestPushFaults(t *testing.T) {
	quick := wire.Settings{Pause: time.Millisecond}
	upload := func(req *http.Request) bool {
		return strings.Contains(req.URL.Path, "/uploads/") && req.Method == http.MethodPut
	}
	for name, one := range map[string]struct {
		fault func(n int, w http.ResponseWriter, req *http.Request) bool
		err   string
	}{
		"nothing": {},
		"500 twice": {fault: func(n int, w http.ResponseWriter, req *http.Request) bool {
			if upload(req) && n < 2 {
				w.WriteHeader(500)
				return true
			}
			return false
		}},
		"500 always": {fault: func(_ int, w http.ResponseWriter, req *http.Request) bool {
			if upload(req) {
				w.WriteHeader(500)
			}
			return upload(req)
		}, err: "500 Internal Server Error"},
		"cut": {fault: func(n int, _ http.ResponseWriter, req *http.Request) bool {
			if upload(req) && n < 2 {
				_, _ = io.CopyN(io.Discard, req.Body, 10)
				panic(http.ErrAbortHandler)
			}
			return false
		}},
		"401": {fault: func(_ int, w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodPost {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(401)
			}
			return req.Method == http.MethodPost
		}, err: "401 Unauthorized"},
		"manifest refused": {fault: func(_ int, w http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.Path, "/manifests/") && req.Method == http.MethodPut {
				w.WriteHeader(400)
				return true
			}
			return false
		}, err: "manifest: PUT"},
		"sent elsewhere": {fault: func(_ int, w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodPost {
				w.Header().Set("Location", "file:///etc/passwd")
				w.WriteHeader(202)
			}
			return req.Method == http.MethodPost
		}, err: "is not followed"},
		"another digest taken": {fault: func(_ int, w http.ResponseWriter, req *http.Request) bool {
			if strings.Contains(req.URL.Path, "/manifests/") && req.Method == http.MethodPut {
				w.Header().Set("Docker-Content-Digest", "sha256:0")
				w.WriteHeader(201)
				return true
			}
			return false
		}, err: "was sent, and it has taken"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, o := registry(t), registry(t), options(t)
			ref, _ := from.Add("app:1", rt.Simple(rt.File("a", strings.Repeat("a", 100_000))))
			if _, err := Pull(ctx, ref, o); err != nil {
				t.Fatal(err)
			}
			var n atomic.Int64
			if one.fault != nil {
				to.SetFault(func(w http.ResponseWriter, req *http.Request) bool {
					if upload(req) {
						return one.fault(int(n.Add(1))-1, w, req)
					}
					return one.fault(0, w, req)
				})
			}
			so := share(o)
			so.Wire = quick
			_, err := Push(ctx, ref, to.Addr+"/app:1", so)
			if one.err == "" && err != nil || one.err != "" && (err == nil || !strings.Contains(err.Error(), one.err) || strings.Contains(err.Error(), "\x1b")) {
				t.Errorf("%v, want %q", err, one.err)
			}
			noScratch(t, o)
		})
	}
}

func TestPushInterrupted(t *testing.T) {
	from, to, o := registry(t), registry(t), options(t)
	ref, _ := from.Add("app:1", rt.Simple(rt.File("a", "a")))
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	to.SetFault(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPut {
			return false
		}
		cancel()
		_, _ = io.Copy(io.Discard, req.Body) // the server sees the end of a connection only where nothing waits to be read
		<-req.Context().Done()
		return true
	})
	if _, err := Push(ctx, ref, to.Addr+"/app:1", share(o)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	noScratch(t, o)
}

func TestPushWhere(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	for dest, want := range map[string]string{
		"web": "names no registry", "a/b": "names no registry", "oci-archive:/tmp/x": "is no registry",
		r.Addr + "/x@sha256:" + strings.Repeat("0", 64): "give a tag", r.Addr + "/UPPER": "reference",
	} {
		if _, err := Push(ctx, ref, dest, share(o)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dest, err, want)
		}
	}
	if _, err := Push(ctx, "nothing", "", share(o)); err == nil || !strings.Contains(err.Error(), "not in the store") {
		t.Error(err)
	}
	if sent, err := Push(ctx, ref, "", share(o)); err != nil || sent.Ref != ref {
		t.Errorf("%+v %v", sent, err)
	}
}

// What is saved is the image when it is loaded again.
func TestSaveRoundTrip(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", full())
	img, err := Pull(ctx, ref, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []image.Transport{image.ViaOCIArchive, image.ViaDockerArchive} {
		t.Run(string(format), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "saved.tar")
			if err := os.WriteFile(file, []byte("older"), 0o640); err != nil {
				t.Fatal(err)
			}
			sent, err := Save(ctx, ref, SaveTarget{Format: format, Path: file}, share(o))
			if err != nil {
				t.Fatal(err)
			}
			noScratch(t, o)
			var again bytes.Buffer
			if _, err := Save(ctx, ref, SaveTarget{Format: format, Out: &again}, share(o)); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(data, again.Bytes()) {
				t.Errorf("saved twice, it is not the same (%v)", err)
			}
			dirs := map[string]bool{".": true}
			for r := tar.NewReader(&again); ; {
				h, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if name := filepath.Clean(h.Name); h.Typeflag == tar.TypeDir {
					dirs[name] = true
				} else if !dirs[filepath.Dir(name)] {
					t.Errorf("%s: its folder has no entry, which skopeo then gives to root", h.Name)
				}
			}
			if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o640 {
				t.Errorf("%v %v", st.Mode(), err)
			}
			for _, name := range []string{string(format) + ":" + file, string(format) + ":" + file + ":" + ref} {
				back, err := Pull(ctx, name, options(t))
				if err != nil {
					t.Fatal(err)
				}
				if back.ID != sent.ID || sent.Digest != "" && back.Digest != sent.Digest {
					t.Errorf("%s: %s %s, saved %+v", name, back.ID, back.Digest, sent)
				}
				if os.Getuid() == 0 {
					if was, is := trees(t, img), trees(t, back); was != is {
						t.Errorf("it was\n%s\nand is\n%s", was, is)
					}
				}
			}
		})
	}
}

// Whatever goes wrong, the file that was there stays, and nothing lies beside it.
func TestSaveAtomic(t *testing.T) {
	r, o := registry(t), options(t)
	ref, _ := r.Add("app:1", full())
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "saved.tar")
	if err := os.WriteFile(file, []byte("older"), 0o640); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	so := share(o)
	so.Progress = func(e Event) {
		if e.Kind == LayerDone {
			cancel()
		}
	}
	if _, err := Save(ended, ref, SaveTarget{Format: image.ViaOCIArchive, Path: file}, so); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Save(ctx, ref, SaveTarget{Format: image.ViaOCIArchive, Path: dir}, share(o)); !errors.Is(err, unix.EISDIR) {
		t.Error(err)
	}
	if _, err := Save(ctx, ref, SaveTarget{Format: image.ViaOCIArchive, Path: dir + "/no/such"}, share(o)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	full := errors.New("no more")
	err := replaceFile(file, func(w io.Writer) error {
		_, _ = w.Write(make([]byte, 3<<20))
		return full
	})
	if !errors.Is(err, full) {
		t.Error(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "older" {
		t.Errorf("%q %v", data, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if err := os.Symlink(file, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if _, err := Save(ctx, ref, SaveTarget{Format: image.ViaOCIArchive, Path: dir + "/link"}, share(o)); err != nil {
		t.Error(err)
	}
	if st, err := os.Lstat(dir + "/link"); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v %v", st.Mode(), err)
	}
}

// Of a config that other diffIDs come into everything else stays, whatever it may be.
func TestWithDiffIDs(t *testing.T) {
	got, err := withDiffIDs([]byte(`{"odd":{"a":[1,"<&>"]},"rootfs":{"type":"layers","diff_ids":["x"]},"container":"c"}`), []oci.Digest{oci.FromString("l")})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"container":"c","odd":{"a":[1,"<&>"]},"rootfs":{"type":"layers","diff_ids":["` + string(oci.FromString("l")) + `"]}}`
	if string(got) != want || !json.Valid(got) {
		t.Errorf("%s", got)
	}
}

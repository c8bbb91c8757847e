package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cove/fetch/oci"
	rt "cove/fetch/registrytest"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
)

func asError[T error](err error, target *T) bool { return errors.As(err, target) }

// tlsRegistry is one over https whose authority is in the user's certs.d.
func tlsRegistry(t *testing.T) (*rt.Registry, Options) {
	t.Helper()
	r, o := rt.NewTLS(), options(t)
	t.Cleanup(r.Close)
	o.Wire = impatient
	certs(t, r.Addr, r.CA())
	return r, o
}

func certs(t *testing.T, host string, ca []byte) {
	t.Helper()
	dir := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "containers", "certs.d", host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
}

// registriesConf has it be the machine's registries.conf.
func registriesConf(t *testing.T, format string, args ...any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", path)
	sysregistriesv2.InvalidateCache() // it reads the file once in a process
	t.Cleanup(sysregistriesv2.InvalidateCache)
}

// dialling leads a name to a registry.
func dialling(o *Options, names map[string]*rt.Registry) {
	o.Wire.Dial = func(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		if r := names[host]; r != nil {
			addr = r.Addr
		}
		return d.DialContext(ctx, network, addr)
	}
}

func TestHTTPS(t *testing.T) {
	r, o := tlsRegistry(t)
	ref, _ := r.Add("a:1", rt.Simple(rt.File("a", "a")))
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal("with the authority in certs.d:", err)
	}
	// Another authority than the registry's: on loopback too, what is configured is checked.
	other := rt.NewTLS()
	defer other.Close()
	ref, _ = other.Add("a:1", rt.Simple(rt.File("a", "a")))
	certs(t, other.Addr, rt.NewCA())
	if _, err := Pull(ctx, ref, o); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with another's: %v", err)
	}
	if n := other.Hits(""); n != 0 {
		t.Errorf("%d requests came through", n)
	}
	// By name: nobody but who the machine trusts, and never over http.
	plain := registry(t)
	dialling(&o, map[string]*rt.Registry{"example.com": r, "plain.example.com": plain})
	r.Add("b:1", rt.Simple(rt.File("b", "b")))
	if _, err := Pull(ctx, "example.com/b:1", o); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("without the authority: %v", err)
	}
	certs(t, "example.com", r.CA())
	if _, err := Pull(ctx, "example.com/b:1", o); err != nil {
		t.Errorf("with it: %v", err)
	}
	plain.Add("b:1", rt.Simple(rt.File("b", "b")))
	if _, err := Pull(ctx, "plain.example.com/b:1", o); err == nil || plain.Hits("") != 0 {
		t.Errorf("http: %v", err)
	}
	// registries.conf can have it so.
	registriesConf(t, "[[registry]]\nlocation = 'plain.example.com'\ninsecure = true\n")
	if _, err := Pull(ctx, "plain.example.com/b:1", o); err != nil {
		t.Errorf("insecure: %v", err)
	}
	registriesConf(t, "[[registry]]\nlocation = 'plain.example.com'\nblocked = true\n")
	o.Policy = Always
	if _, err := Pull(ctx, "plain.example.com/b:1", o); err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("blocked: %v", err)
	}
}

// Mirrors are asked first; one that has nothing, nobody behind it, or other bytes than were named is left for the next.
func TestMirrors(t *testing.T) {
	var man v1.Manifest
	img := rt.Image{Layers: []rt.Layer{{Tar: rt.Tar(rt.File("a", "a")), Compression: rt.Gzip}, {Tar: rt.Tar(rt.File("b", "b")), Compression: rt.Gzip}}}
	img.Mangle = func(m *v1.Manifest, _ *v1.Image) { man = *m }
	for _, c := range []struct {
		name   string
		spoil  func(mirror *rt.Registry, man digest.Digest)
		pinned bool
		origin int // requests that the registry itself gets; -1: some
	}{
		{"good", func(*rt.Registry, digest.Digest) {}, false, 0},
		{"good, pinned", func(*rt.Registry, digest.Digest) {}, true, 0},
		{"nothing there", func(m *rt.Registry, d digest.Digest) { m.SetBlob(d, nil) }, false, -1},
		{"500", func(m *rt.Registry, _ digest.Digest) { m.SetFault(rt.On("", -1, rt.Status(500))) }, false, -1},
		{"silent", func(m *rt.Registry, _ digest.Digest) { m.SetFault(rt.On("", -1, rt.Silent)) }, false, -1},
		{"gone", func(m *rt.Registry, _ digest.Digest) { m.Close() }, false, -1},
		{"a page", func(m *rt.Registry, _ digest.Digest) {
			m.SetFault(rt.On("/manifests/1", -1, rt.Status(200)))
		}, false, -1},
		{"other manifest", func(m *rt.Registry, d digest.Digest) { m.SetBlob(d, []byte(`{"schemaVersion":2}`)) }, true, -1},
		{"other manifest, by the header", func(m *rt.Registry, d digest.Digest) { m.SetBlob(d, []byte(`{"schemaVersion":2}`)) }, false, -1},
		{"other layer", func(m *rt.Registry, _ digest.Digest) { m.SetBlob(man.Layers[1].Digest, []byte("evil")) }, false, 1},
		{"other layer, as long", func(m *rt.Registry, _ digest.Digest) {
			data := bytes.Clone(m.Blob(man.Layers[1].Digest))
			data[len(data)/2] ^= 1
			m.SetBlob(man.Layers[1].Digest, data)
		}, false, 1},
		{"other layer, that unpacks", func(m *rt.Registry, _ digest.Digest) {
			m.SetBlob(man.Layers[1].Digest, append(rt.Compress(rt.Tar(rt.File("evil", "evil")), rt.Gzip), 0))
		}, false, 1},
		{"no layer", func(m *rt.Registry, _ digest.Digest) { m.SetBlob(man.Layers[0].Digest, nil) }, false, 1},
		{"other config", func(m *rt.Registry, d digest.Digest) {
			var have v1.Manifest
			if err := jsonInto(m.Blob(d), &have); err != nil {
				panic(err)
			}
			m.SetBlob(have.Config.Digest, bytes.Repeat([]byte("x"), int(have.Config.Size)))
		}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			mirror, o := tlsRegistry(t)
			origin := registry(t)
			ref, d := origin.Add("team/a:1", img)
			mirror.Add("copy/a:1", img)
			registriesConf(t, "[[registry]]\nprefix = '%s/team'\nlocation = '%[1]s/team'\n[[registry.mirror]]\nlocation = '%s/copy'\n", origin.Addr, mirror.Addr)
			c.spoil(mirror, d)
			if c.pinned {
				ref = strings.TrimSuffix(ref, ":1") + "@" + string(d)
			}
			got, err := Pull(ctx, ref, o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest != oci.Digest(d) || len(got.Layers) != 2 || !strings.HasPrefix(got.Ref, origin.Addr) {
				t.Errorf("%+v", got)
			}
			root := flat(t, o, got)
			wantFile(t, root+"/a", "a")
			wantFile(t, root+"/b", "b")
			if log := origin.Log(); c.origin >= 0 && len(log) != c.origin || c.origin < 0 && len(log) == 0 {
				t.Errorf("the registry itself: %+v", log)
			}
		})
	}
	// When nobody has it, the registry's own answer is the one, and the mirrors' are told.
	mirror, o := tlsRegistry(t)
	origin := registry(t)
	registriesConf(t, "[[registry]]\nlocation = '%s'\n[[registry.mirror]]\nlocation = '%s'\n", origin.Addr, mirror.Addr)
	_, err := Pull(ctx, origin.Addr+"/none:1", o)
	if err == nil || !strings.Contains(err.Error(), "GET "+origin.URL()+"/v2/none/manifests/1: 404") || !strings.Contains(err.Error(), "(mirrors: GET "+mirror.URL()) {
		t.Error(err)
	}
	// A mirror's own demand for a password is not answered with the registry's.
	ref, _ := origin.Add("a:1", img)
	login(t, origin, &o, false)
	mirror.RequireLogin("me", secret, false)
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Fatal(err)
	}
	for _, q := range mirror.Log() {
		if q.Authorization != "" {
			t.Errorf("sent to the mirror: %+v", q)
		}
	}
	// Two mirrors that have a layer wrong each: what is left is enough.
	second, o2 := tlsRegistry(t)
	certs(t, mirror.Addr, mirror.CA())
	mirror.RequireLogin("", "", false)
	origin.RequireLogin("", "", false)
	ref, _ = origin.Add("two:1", img)
	mirror.Add("two:1", img)
	second.Add("two:1", img)
	mirror.SetBlob(man.Layers[0].Digest, []byte("x"))
	second.SetBlob(man.Layers[0].Digest, nil)
	second.SetBlob(man.Layers[1].Digest, []byte("y"))
	registriesConf(t, "[[registry]]\nlocation = '%s'\n[[registry.mirror]]\nlocation = '%s'\n[[registry.mirror]]\nlocation = '%s'\n", origin.Addr, second.Addr, mirror.Addr)
	origin.Log()
	if _, err := Pull(ctx, ref, o2); err != nil {
		t.Fatal(err)
	}
	if log := origin.Log(); len(log) != 1 || !strings.HasSuffix(log[0].Path, man.Layers[0].Digest.String()) {
		t.Errorf("the registry itself: %+v", log)
	}
}

package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cove/fetch/policy"
	"cove/fetch/policy/policytest"
	rt "cove/fetch/registrytest"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
)

// signedByPolicy asks for a signature by a key, of whatever image.
func signedByPolicy(t *testing.T, key []byte) {
	t.Helper()
	containersFile(t, "policy.json", `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"`+keyFile(t, key)+`"}]}`)
}

// A lookaside may be a web server; one that fails is no unsigned image, and never a signed one.
func TestLookasideHTTP(t *testing.T) {
	r, o := registry(t), options(t)
	o.Policy = Always
	ref, d := r.Add("team/app:1", rt.Simple(rt.File("a", "a")))
	gpg, other := policytest.NewGPG("a", 0), policytest.NewGPG("b", 0)
	var status atomic.Int32
	at := fmt.Sprintf("/sigs/team/app@sha256=%s/signature-", d.Encoded())
	sigs := map[string][]byte{at + "1": other.Sign(d, ref), at + "2": gpg.Sign(d, ref)}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		sig := sigs[req.URL.Path]
		switch {
		case status.Load() != 0:
			w.WriteHeader(int(status.Load()))
		case sig == nil:
			http.NotFound(w, req)
		default:
			_, _ = w.Write(sig)
		}
	}))
	defer web.Close()
	containersFile(t, "registries.d/a.yaml", "docker:\n  "+r.Addr+"/team:\n    lookaside: "+web.URL+"/sigs\n")
	signedByPolicy(t, gpg.Public())
	if _, err := Pull(ctx, ref, o); err != nil {
		t.Error(err)
	}
	delete(sigs, at+"2")
	if _, err := Pull(ctx, ref, o); !errors.Is(err, policy.ErrWrongKey) {
		t.Error(err)
	}
	sigs[at+"1"] = []byte("<html>")
	if _, err := Pull(ctx, ref, o); !errors.Is(err, policy.ErrDamaged) {
		t.Error(err)
	}
	status.Store(http.StatusForbidden)
	if _, err := Pull(ctx, ref, o); err == nil || errors.Is(err, policy.ErrNoSignature) || !strings.Contains(err.Error(), "403") {
		t.Error(err)
	}
	var refused *PolicyError
	o.Policy = Newer // what is in the store serves when the source cannot be reached, and not when the policy cannot be met
	if _, err := Pull(ctx, ref, o); !errors.As(err, &refused) {
		t.Error(err)
	}
}

// A lookaside may be a stranger's: it neither fills the memory, nor holds us for ever, nor writes to the terminal.
func TestHostileLookaside(t *testing.T) {
	r, o := registry(t), options(t)
	o.Policy = Always
	ref, _ := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	was := lookasideTime
	t.Cleanup(func() { lookasideTime = was })
	lookasideTime = 3 * time.Second
	var asked atomic.Int32
	for name, c := range map[string]struct {
		do   http.HandlerFunc
		want string
	}{
		"large":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxSignature)) }, "more than 8388608 bytes"},
		"larger": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxSignature+1)) }, "larger than 1048576 bytes"},
		"drip": {func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(300 * time.Millisecond)
			_, _ = w.Write([]byte("x"))
		}, "within 3s"},
		"escapes": {raw("HTTP/1.1 200 OK\r\nX\x1b[31mY\r\n\r\n"), `\x1b[31m`},
	} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { asked.Add(1); c.do(w, req) }))
		containersFile(t, "registries.d/a.yaml", "default-docker:\n  lookaside: "+web.URL+"\n")
		signedByPolicy(t, policytest.NewGPG("a", 0).Public())
		asked.Store(0)
		_, err := Pull(ctx, ref, o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\x1b") || errors.Is(err, policy.ErrNoSignature) || asked.Load() > 12 {
			t.Errorf("%s: %q after %d requests, want %s", name, fmt.Sprint(err), asked.Load(), c.want)
		}
		web.Close()
	}
}

// The name that is checked is the one that was meant, not the mirror's or an alias's.
func TestSignatureOfMirror(t *testing.T) {
	r, o := registry(t), options(t)
	o.Policy = Always
	mirrored, d := r.Add("mirror/team/app:1", rt.Simple(rt.File("a", "a")))
	const ref = "logical.example/team/app:1"
	containersFile(t, "registries.conf", fmt.Sprintf("[[registry]]\nprefix = \"logical.example\"\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"%s/mirror\"\ninsecure = true\n[aliases]\n\"nick\" = \"logical.example/team/app\"\n", r.Addr))
	gpg, cosign := policytest.NewGPG("a", 0), policytest.NewCosign()
	root := t.TempDir()
	containersFile(t, "registries.d/a.yaml", "default-docker:\n  lookaside: file://"+root+"\n  use-sigstore-attachments: true\n")
	sysregistriesv2.InvalidateCache()
	t.Cleanup(sysregistriesv2.InvalidateCache)
	for _, name := range []string{ref, mirrored} {
		lookaside(t, root, "team/app", d, gpg.Sign(d, name))
		lookaside(t, root, "mirror/team/app", d, gpg.Sign(d, name))
		policytest.Attach(r, "mirror/team/app", d, cosign.Sign(d, name))
		for _, typed := range []string{ref, "nick:1"} {
			signedByPolicy(t, gpg.Public())
			if _, err := Pull(ctx, typed, o); (err == nil) != (name == ref) {
				t.Errorf("%s signed as %s: %v", typed, name, err)
			}
			containersFile(t, "policy.json", `{"default":[{"type":"reject"}],"transports":{"docker":{"logical.example":[{"type":"sigstoreSigned","keyPath":"`+keyFile(t, cosign.Public())+`"}]}}}`)
			if _, err := Pull(ctx, typed, o); (err == nil) != (name == ref) {
				t.Errorf("%s signed as %s for sigstore: %v", typed, name, err)
			}
		}
	}
}

// What is not as it should be beside an image is an error, and lets nothing in.
func TestBadAttachments(t *testing.T) {
	r, o := registry(t), options(t)
	o.Policy = Always
	ref, d := r.Add("app:1", rt.Simple(rt.File("a", "a")))
	cosign := policytest.NewCosign()
	containersFile(t, "registries.d/a.yaml", "default-docker:\n  use-sigstore-attachments: true\n")
	containersFile(t, "policy.json", `{"default":[{"type":"sigstoreSigned","keyPath":"`+keyFile(t, cosign.Public())+`"}]}`)
	good := cosign.Sign(d, ref)
	try := func(what, want string) {
		t.Helper()
		_, err := Pull(ctx, ref, o)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	try("none", "no signature was found")
	policytest.Attach(r, "app", d, good)
	try("good", "")
	if _, err := Resolve(ctx, ref, []string{""}, o); err != nil { // what cove.lock names is let in too
		t.Error(err)
	}
	r.SetBlob(digest.FromBytes(good.Payload), []byte(strings.Repeat("x", len(good.Payload))))
	try("another payload", "does not match its digest")
	r.SetBlob(digest.FromBytes(good.Payload), append([]byte(" "), good.Payload...))
	try("a longer payload", "does not match")
	r.SetBlob(digest.FromBytes(good.Payload), nil)
	try("no payload", "refused by")
	var many []policy.Signature
	for range maxSignatures + 1 {
		many = append(many, good)
	}
	policytest.Attach(r, "app", d, many...)
	try("many", "at most 128")
	large := cosign.SignPayload(make([]byte, maxSignature+1))
	policytest.Attach(r, "app", d, large)
	try("large", "size 1048577")
	var heavy []policy.Signature
	for n := range 9 {
		heavy = append(heavy, cosign.SignPayload(append(make([]byte, maxSignature-1), byte(n))))
	}
	policytest.Attach(r, "app", d, heavy...)
	try("heavy", "more than 8388608 bytes")
	at := "app:sha256-" + d.Encoded() + ".sig"
	r.AddManifest(at, "application/vnd.docker.distribution.manifest.v2+json", []byte(`{}`))
	try("docker's type", "want application/vnd.oci.image.manifest.v1+json")
	r.AddManifest(at, "application/vnd.oci.image.manifest.v1+json", []byte(`{"layers":1}`))
	try("not understood", "not understood")
	containersFile(t, "registries.d/a.yaml", "default-docker: [\n")
	try("registries.d", "a.yaml")
}

// A directory is used where it is, and so the policy is asked whenever it is.
func TestPolicyOfDirectory(t *testing.T) {
	o := options(t)
	dir := t.TempDir()
	for list, want := range map[string]bool{`[{"type":"insecureAcceptAnything"}]`: true, `[{"type":"reject"}]`: false,
		`[{"type":"signedBy","keyType":"GPGKeys","keyPath":"` + keyFile(t, policytest.NewGPG("a", 0).Public()) + `"}]`: false} {
		containersFile(t, "policy.json", fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"dir":{%q:%s}}}`, dir, list))
		if _, err := Pull(ctx, "dir:"+dir, o); (err == nil) != want {
			t.Errorf("%s: %v", list, err)
		}
	}
	// One that cannot be read is not one that is not there.
	file := containersFile(t, "policy.json", "")
	for _, break_ := range []func() error{
		func() error { return os.Truncate(file, 0) },
		func() error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) },
		func() error { return errors.Join(os.Remove(file), os.Symlink(file, file)) },
	} {
		if err := break_(); err != nil {
			t.Fatal(err)
		}
		if _, err := Pull(ctx, "dir:"+dir, o); err == nil || !strings.Contains(err.Error(), "policy.json") {
			t.Error(err)
		}
	}
	t.Setenv("CONTAINERS_POLICY_JSON", "/none/policy.json")
	if _, err := Pull(ctx, "dir:"+dir, o); err == nil || !strings.Contains(err.Error(), "/none/policy.json") {
		t.Error(err)
	}
}

package fetch

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cove/fetch/policy"
	"cove/fetch/policy/policytest"
	rt "cove/fetch/registrytest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"
)

// skopeo is the program that says what podman would do: both are made of the same library.
func skopeo(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("skopeo")
	if err != nil && os.Getenv("COVE_TEST_REQUIRE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// noSigstore is what Debian 12's skopeo says of sigstore's signatures, which it is built without.
const noSigstore = "sigstore disabled"

// containersFile writes a file of the user's containers folder.
func containersFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "containers", name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// keyFile writes a key where a policy.json finds it.
func keyFile(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// lookaside puts an OpenPGP signature where registries.d says.
func lookaside(t *testing.T, root, repository string, d digest.Digest, sigs ...[]byte) {
	t.Helper()
	dir := filepath.Join(root, fmt.Sprintf("%s@%s=%s", repository, d.Algorithm(), d.Encoded()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, sig := range sigs {
		if err := os.WriteFile(fmt.Sprintf("%s/signature-%d", dir, i+1), sig, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever a policy.json asks and whatever signatures there are: cove lets in what skopeo lets in.
func TestPolicyAsSkopeo(t *testing.T) {
	bin := skopeo(t)
	r, o := registry(t), options(t)
	o.Policy = Always
	gpg, other, cosign, otherCosign := policytest.NewGPG("a", 0), policytest.NewGPG("b", 0), policytest.NewCosign(), policytest.NewCosign()
	store := t.TempDir()
	registries := filepath.Dir(containersFile(t, "registries.d/test.yaml", fmt.Sprintf("docker:\n  %s:\n    lookaside: file://%s\n    use-sigstore-attachments: true\n  %s/off:\n    use-sigstore-attachments: false\n",
		r.Addr, store, r.Addr)))
	add := func(name string) (string, digest.Digest) { return r.Add(name, rt.Simple(rt.File("a", name))) }

	plain, _ := add("plain:1")
	ref, d := add("signed:1")
	lookaside(t, store, "signed", d, other.Sign(d, ref), gpg.Sign(d, ref))
	policytest.Attach(r, "signed", d, otherCosign.Sign(d, ref), cosign.Sign(d, ref))
	renamed, d := add("renamed:1")
	lookaside(t, store, "renamed", d, gpg.Sign(d, "quay.io/orig/renamed:1"))
	policytest.Attach(r, "renamed", d, cosign.Sign(d, r.Addr+"/renamed"))
	swapped, d := add("swapped:1")
	lookaside(t, store, "swapped", d, gpg.Sign(digest.FromString("x"), swapped))
	policytest.Attach(r, "swapped", d, cosign.Sign(digest.FromString("x"), swapped))
	off, d := add("off/app:1")
	policytest.Attach(r, "off/app", d, cosign.Sign(d, off))
	pinned := r.Addr + "/signed@" + string(mustDigest(t, r, "signed"))
	indexOnly, index := r.AddIndex("index:1", rt.Simple(rt.File("a", "index")))
	lookaside(t, store, "index", index, gpg.Sign(index, indexOnly))
	policytest.Attach(r, "index", index, cosign.Sign(index, indexOnly))
	instance, _ := r.AddIndex("instance:1", rt.Simple(rt.File("a", "instance")))
	within := rt.Simple(rt.File("a", "instance")).Build(rt.Blobs{}).Digest
	lookaside(t, store, "instance", within, gpg.Sign(within, instance))
	policytest.Attach(r, "instance", within, cosign.Sign(within, instance))

	layouts := t.TempDir()
	run(t, bin, "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "docker://"+plain, "oci:"+layouts+"/layout:1")
	run(t, bin, "--insecure-policy", "copy", "-q", "oci:"+layouts+"/layout:1", "oci-archive:"+layouts+"/oci.tar:1")
	run(t, bin, "--insecure-policy", "copy", "-q", "oci:"+layouts+"/layout:1", "docker-archive:"+layouts+"/docker.tar:quay.io/a/b:1")
	run(t, bin, "--insecure-policy", "copy", "-q", "oci:"+layouts+"/layout:1", "dir:"+layouts+"/dir")
	if err := os.Symlink(layouts, layouts+"-link"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(layouts + "-link") })

	accept, reject := `[{"type":"insecureAcceptAnything"}]`, `[{"type":"reject"}]`
	def := func(list string) string { return `{"default":` + list + `}` }
	simple := func(more string) string {
		return `{"type":"signedBy","keyType":"GPGKeys","keyPath":"` + keyFile(t, gpg.Public()) + `"` + more + `}`
	}
	sigstore := func(more string) string {
		return `{"type":"sigstoreSigned","keyPath":"` + keyFile(t, cosign.Public()) + `"` + more + `}`
	}
	in := func(transport, scope, list string) string {
		return fmt.Sprintf(`{"default":%s,"transports":{%q:{%q:%s}}}`, reject, transport, scope, list)
	}
	repository, anyTag := `,"signedIdentity":{"type":"matchRepository"}`, `,"signedIdentity":{"type":"exactRepository","dockerRepository":"quay.io/orig/renamed"}`
	remap := fmt.Sprintf(`,"signedIdentity":{"type":"remapIdentity","prefix":%q,"signedPrefix":"quay.io/orig"}`, r.Addr)
	broken := []string{`{}`, `{"default":[]}`, def(accept) + `x`, `{"default":` + accept + `,"x":1}`, def(`[{"type":"reject","x":1}]`),
		def(`[{"type":"signedBy","keyType":"GPGKeys"}]`), def(`[{"type":"signedBy","keyType":"signedByGPGKeys","keyPath":"/k"}]`),
		def(`[{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}]`), def(`[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/none"}]`),
		in("oci", "/", accept), in("docker-archive", layouts, accept), in("oci", "relative", accept)}
	policies := append(broken,
		def(accept), def(reject), def(`[`+simple("")+`]`), def(`[`+sigstore("")+`]`), def(`[`+simple("")+`,`+sigstore("")+`]`),
		def(`[`+simple(repository)+`]`), def(`[`+sigstore(repository)+`]`), def(`[`+simple(anyTag)+`]`), def(`[`+simple(remap)+`]`),
		def(`[`+simple(`,"signedIdentity":{"type":"matchExact"}`)+`]`), def(`[`+sigstore(`,"signedIdentity":{"type":"matchExact"}`)+`]`),
		def(`[`+simple(`,"signedIdentity":{"type":"exactReference","dockerReference":"`+ref+`"}`)+`]`),
		in("docker", r.Addr, `[`+simple("")+`]`), in("docker", r.Addr+"/signed", accept), in("docker", ref, accept), in("docker", "", accept),
		in("docker", pinned, accept), in("docker", "127.0.0.1", accept), in("docker", "*.0.0.1", accept), in("docker", r.Addr+"/off", accept), in("docker", r.Addr+"/of", accept),
		in("oci", layouts, accept), in("oci", layouts+"/layout", accept), in("oci", layouts+"/lay", accept), in("oci", "", accept), in("oci", layouts+"-link", accept),
		in("oci-archive", layouts+"/oci.tar", accept), in("oci-archive", "", accept), in("docker-archive", "", accept), in("docker-archive", "", `[`+simple("")+`]`),
		in("dir", layouts, accept), in("dir", layouts+"/dir", accept), in("dir", layouts+"/other", accept),
	)
	images := []string{plain, ref, renamed, swapped, off, pinned, indexOnly, instance}
	files := []string{"oci:" + layouts + "/layout:1", "oci:" + layouts + "-link/layout:1", "oci-archive:" + layouts + "/oci.tar:1", "docker-archive:" + layouts + "/docker.tar:quay.io/a/b:1", "dir:" + layouts + "/dir"}
	let, kept, unknown := 0, 0, 0
	for n, text := range policies {
		file := containersFile(t, "policy.json", text)
		among := images
		switch {
		case n < len(broken):
			among = images[:1]
		case n > len(broken)+2 && !strings.Contains(text, `"docker":`) && strings.Contains(text, "transports"):
			// Those that the scope is about, and another one.
			among = slices.DeleteFunc(slices.Clone(files), func(f string) bool {
				transport, _, _ := strings.Cut(f, ":")
				return !strings.Contains(text, `"`+transport+`":`)
			})
			among = append(among, files[n%len(files)])
		case n == len(broken)+2:
			among = files
		case strings.Contains(text, `"docker"`):
			among = []string{plain, ref, off, pinned}
		}
		said := make([]bytes.Buffer, len(among))
		cmds := make([]*exec.Cmd, len(among))
		for i, img := range among {
			if !strings.Contains(img, ":"+layouts) {
				img = "docker://" + img
			}
			cmds[i] = exec.Command(bin, "--policy", file, "--registries.d", registries, "copy", "-q", "--remove-signatures", "--src-tls-verify=false", img, "oci:"+t.TempDir()+"/out:1")
			cmds[i].Stdout, cmds[i].Stderr = &said[i], &said[i]
			if err := cmds[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		for i, img := range among {
			_, err := Pull(ctx, img, o)
			oracle := cmds[i].Wait()
			switch {
			case bytes.Contains(said[i].Bytes(), []byte(noSigstore)):
				unknown++
			case (err == nil) != (oracle == nil):
				t.Errorf("policy %s\nimage %s\ncove: %v\nskopeo: %v %s", text, img, err, oracle, &said[i])
			case err == nil:
				let++
			default:
				kept++
			}
		}
	}
	t.Logf("%d let in, %d refused, %d that this skopeo cannot tell", let, kept, unknown)
	if let < 30 || kept < 60 {
		t.Errorf("%d let in, %d refused: the cases are not what they should be", let, kept)
	}
}

func mustDigest(t *testing.T, r *rt.Registry, name string) digest.Digest {
	t.Helper()
	_, d := r.Add(name+":1", rt.Simple(rt.File("a", name+":1")))
	return d
}

func run(t *testing.T, argv ...string) []byte {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	return out
}

// What skopeo signs, by gpg and by sigstore's key, is right for cove.
func TestSignedBySkopeo(t *testing.T) {
	bin := skopeo(t)
	r, o := registry(t), options(t)
	o.Policy = Always
	root := t.TempDir()
	containersFile(t, "registries.d/test.yaml", "default-docker:\n  lookaside: file://"+root+"\n  use-sigstore-attachments: true\n")
	ref, d := r.Add("app:1", rt.Simple(rt.File("a", "a")))

	// gpg's agent has its socket in its home, whose path must be short.
	gnupg, err := os.MkdirTemp("/tmp", "cg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(gnupg) })
	t.Setenv("GNUPGHOME", gnupg)
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--kill", "all").Run() })
	run(t, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "cove-test@example.com", "rsa2048", "sign", "never")
	manifest := filepath.Join(t.TempDir(), "manifest.json")
	if err := os.WriteFile(manifest, r.Blob(d), 0o644); err != nil {
		t.Fatal(err)
	}
	sig := filepath.Join(t.TempDir(), "sig")
	run(t, bin, "standalone-sign", manifest, ref, "cove-test@example.com", "--output", sig)
	made, err := os.ReadFile(sig)
	if err != nil {
		t.Fatal(err)
	}
	armored := keyFile(t, run(t, "gpg", "--armor", "--export", "cove-test@example.com"))
	binary := keyFile(t, run(t, "gpg", "--export", "cove-test@example.com"))
	for _, key := range []string{armored, binary} {
		containersFile(t, "policy.json", `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"`+key+`"}]}`)
		if err := os.RemoveAll(filepath.Join(root, "app@sha256="+d.Encoded())); err != nil {
			t.Fatal(err)
		}
		if _, err := Pull(ctx, ref, o); err == nil {
			t.Error("let in without a signature")
		}
		lookaside(t, root, "app", d, made)
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Error(err)
		}
	}
}

// What sigstore's key signs is right for cove, in the registry and at the lookaside: by skopeo where that can sign, which
// Debian 12's cannot, and else by policytest, whose claims have to be skopeo's where that can.
func TestSigstoreBySkopeo(t *testing.T) {
	bin := skopeo(t)
	r, o := registry(t), options(t)
	o.Policy = Always
	root := t.TempDir()
	containersFile(t, "registries.d/test.yaml", "default-docker:\n  lookaside: file://"+root+"\n  use-sigstore-attachments: true\n")
	cosign, other := policytest.NewCosign(), policytest.NewCosign()
	tries := map[string]func(name string, d digest.Digest, sig policy.Signature){
		"attached": func(name string, d digest.Digest, sig policy.Signature) { policytest.Attach(r, name, d, sig) },
		"beside":   func(name string, d digest.Digest, sig policy.Signature) { lookaside(t, root, name, d, asInDir(t, sig)) },
	}
	for name, put := range tries {
		ref, d := r.Add(name+":1", rt.Simple(rt.File("a", name)))
		containersFile(t, "policy.json", `{"default":[{"type":"sigstoreSigned","keyPath":"`+keyFile(t, cosign.Public())+`"}]}`)
		if _, err := Pull(ctx, ref, o); !errors.Is(err, policy.ErrNoSignature) {
			t.Errorf("%s: without a signature: %v", name, err)
		}
		put(name, d, sigstoreSign(t, bin, cosign, ref, d))
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		containersFile(t, "policy.json", `{"default":[{"type":"sigstoreSigned","keyPath":"`+keyFile(t, other.Public())+`"}]}`)
		if _, err := Pull(ctx, ref, o); !errors.Is(err, policy.ErrWrongKey) {
			t.Errorf("%s: by another key: %v", name, err)
		}
	}
}

// sigstoreSign signs by skopeo, or by policytest where this skopeo cannot.
func sigstoreSign(t *testing.T, bin string, key *policytest.Cosign, ref string, d digest.Digest) policy.Signature {
	t.Helper()
	own := key.Sign(d, ref)
	private, phrase, out := filepath.Join(t.TempDir(), "cosign.key"), filepath.Join(t.TempDir(), "phrase"), filepath.Join(t.TempDir(), "dir")
	for file, data := range map[string][]byte{private: encrypted(t, key, "secret"), phrase: []byte("secret\n")} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	said, err := exec.Command(bin, "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--sign-by-sigstore-private-key", private,
		"--sign-passphrase-file", phrase, "--sign-identity", ref, "docker://"+ref, "dir:"+out).CombinedOutput()
	if bytes.Contains(said, []byte(noSigstore)) {
		t.Log("this skopeo signs nothing for sigstore: the signature is policytest's")
		return own
	}
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	sig := inDir(t, out+"/signature-1")
	var mine, its struct{ Critical any }
	if err := errors.Join(json.Unmarshal(own.Payload, &mine), json.Unmarshal(sig.Payload, &its)); err != nil || !reflect.DeepEqual(mine, its) || sig.MediaType != own.MediaType {
		t.Errorf("policytest signs something else than skopeo: %s, %s (%v)", own.Payload, sig.Payload, err)
	}
	return sig
}

const sigstoreJSON = "\x00sigstore-json\n"

// asInDir is a signature as the transport dir: and a lookaside keep it.
func asInDir(t *testing.T, sig policy.Signature) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"mimeType": sig.MediaType, "payload": sig.Payload, "annotations": sig.Annotations})
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(sigstoreJSON), data...)
}

// inDir reads a signature as the transport dir: keeps it.
func inDir(t *testing.T, file string) policy.Signature {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data, ok := bytes.CutPrefix(data, []byte(sigstoreJSON))
	var sig struct {
		MimeType    string
		Payload     []byte
		Annotations map[string]string
	}
	if err := json.Unmarshal(data, &sig); err != nil || !ok {
		t.Fatalf("%v: %s", err, data)
	}
	return policy.Signature{MediaType: sig.MimeType, Payload: sig.Payload, Annotations: sig.Annotations}
}

// encrypted is a private key as `cosign generate-key-pair` writes it.
func encrypted(t *testing.T, c *policytest.Cosign, phrase string) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Private)
	if err != nil {
		t.Fatal(err)
	}
	salt, nonce := make([]byte, 32), [24]byte{}
	_, _ = rand.Read(salt)
	_, _ = rand.Read(nonce[:])
	derived, err := scrypt.Key([]byte(phrase), salt, 32768, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	sealed := secretbox.Seal(nil, der, &nonce, (*[32]byte)(derived))
	b64 := base64.StdEncoding.EncodeToString
	text, err := json.Marshal(map[string]any{
		"kdf":        map[string]any{"name": "scrypt", "params": map[string]int{"N": 32768, "r": 8, "p": 1}, "salt": b64(salt)},
		"cipher":     map[string]string{"name": "nacl/secretbox", "nonce": b64(nonce[:])},
		"ciphertext": b64(sealed),
	})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED COSIGN PRIVATE KEY", Bytes: text})
}

package policy_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"

	"cove/fetch/policy"
	"cove/fetch/policy/policytest"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
)

// noIssuer is a message whose signature does not say who made it.
func noIssuer(g *policytest.GPG, content []byte) []byte {
	id := g.Entity.PrimaryKey.KeyId
	msg := []byte{0xc4, 13, 3, 0, 8, 22}
	msg = binary.BigEndian.AppendUint64(msg, id)
	msg = append(msg, 1)
	msg = append(msg, 0xcb, byte(6+len(content)), 'b', 0, 0, 0, 0, 0)
	msg = append(msg, content...)
	sig := []byte{4, 0, 22, 8, 0, 6, 5, 2, 0x65, 0, 0, 0, 0, 0, 0, 0}
	for range 2 {
		sig = append(append(sig, 1, 0, 0x80), make([]byte, 31)...)
	}
	return append(append(msg, 0xc2, byte(len(sig))), sig...)
}

// Whatever is found where signatures are kept: it ends with an error, and nothing but what the key signed is right.
func FuzzSignature(f *testing.F) {
	const ref = "quay.io/acme/app:1"
	gpg, cosign := policytest.NewGPG("a", 0), policytest.NewCosign()
	manifest := []byte("manifest")
	d := digest.FromBytes(manifest)
	f.Add(gpg.Sign(digest.FromString("x"), ref))
	f.Add(noIssuer(gpg, []byte("hello")))
	f.Add(policytest.Claim(policytest.CosignType, d, ref, nil))
	named, err := reference.ParseNamed(ref)
	if err != nil {
		f.Fatal(err)
	}
	var keys []*policy.Key
	for _, data := range [][]byte{gpg.Public(), cosign.Public()} {
		k, err := policy.ParseKey("k", data)
		if err != nil {
			f.Fatal(err)
		}
		keys = append(keys, k)
	}
	mime := map[string]string{"dev.cosignproject.cosign/signature": cosign.Sign(d, ref).Annotations["dev.cosignproject.cosign/signature"]}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &policy.Subject{Transport: "docker", Named: named, Manifest: manifest, Found: func(sigstore bool) ([]policy.Signature, error) {
			return []policy.Signature{{OpenPGP: data, MediaType: policy.SigstoreMediaType, Payload: data, Annotations: mime}}, nil
		}}
		if p, err := policy.SignedBy(keys, s); err == nil && !(p.Key.Sigstore() && bytes.Equal(data, policytest.Claim(policytest.CosignType, d, ref, nil))) {
			t.Errorf("%x is taken for a signature", data)
		}
	})
}

// Whatever a policy.json is: what it lets in without a signature, it says so of in full.
func FuzzPolicy(f *testing.F) {
	for _, text := range []string{accept, reject, `[{"type":"signedBy","keyType":"GPGKeys","keyData":"aw==","signedIdentity":{"type":"matchExact"}}]`,
		`[{"type":"sigstoreSigned","keyDatas":["aw=="]}]`, `[{"type":"sigstoreSigned","keyPath":"/dev/null","rekorPublicKeyPath":"/r"}]`} {
		f.Add([]byte(`{"default":` + text + `,"transports":{"docker":{"quay.io":` + text + `,"":` + reject + `}}}`))
	}
	named, err := reference.ParseNamed("quay.io/acme/app:1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := policy.Parse("policy.json", data)
		if err != nil {
			return
		}
		for _, s := range []*policy.Subject{{Transport: "docker", Named: named}, {Transport: "oci", Path: "/srv"}} {
			s.Found = func(bool) ([]policy.Signature, error) { return nil, nil }
			rules := p.For(s)
			if rules.Check(s) != nil {
				continue
			}
			if rules.Hopeless() != nil {
				t.Errorf("%q: hopeless, and let in", data)
			}
			var plain any
			if err := json.Unmarshal(data, &plain); err != nil {
				t.Fatalf("%q is no JSON: %v", data, err)
			}
			if text, err := json.Marshal(plain); err != nil || !bytes.Contains(text, []byte(`{"type":"insecureAcceptAnything"}`)) {
				t.Errorf("%q lets in what nobody signed", data)
			}
		}
	})
}

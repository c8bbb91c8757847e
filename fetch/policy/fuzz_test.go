package policy_test

import (
	"bytes"
	"encoding/binary"
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

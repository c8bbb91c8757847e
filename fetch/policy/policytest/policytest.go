// Package policytest makes keys and signatures of images for tests: sigstore's as cosign makes them, and those of
// containers-signature(5).
package policytest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"

	"cove/fetch/policy"
	"cove/fetch/registrytest"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// must ends a test whose own means fail.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("policytest: %v", err))
	}
}

// Claim is what is signed: the JSON of either format.
func Claim(kind string, d digest.Digest, reference string, optional any) []byte {
	data, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"type":     kind,
			"image":    map[string]any{"docker-manifest-digest": d},
			"identity": map[string]any{"docker-reference": reference},
		},
		"optional": optional,
	})
	must(err)
	return data
}

// The types of the two formats.
const (
	CosignType = "cosign container image signature"
	AtomicType = "atomic container signature"
)

// Cosign is a key as `cosign generate-key-pair` makes it.
type Cosign struct{ Private *ecdsa.PrivateKey }

// NewCosign makes a key.
func NewCosign() *Cosign {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return &Cosign{k}
}

// Public is the text of cosign.pub.
func (c *Cosign) Public() []byte { return PEM(&c.Private.PublicKey) }

// PEM is a public key's text.
func PEM(key crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Sign signs a manifest under a name.
func (c *Cosign) Sign(d digest.Digest, reference string) policy.Signature {
	return c.SignPayload(Claim(CosignType, d, reference, nil))
}

// SignPayload signs any bytes.
func (c *Cosign) SignPayload(payload []byte) policy.Signature {
	sum := sha256.Sum256(payload)
	raw, err := ecdsa.SignASN1(rand.Reader, c.Private, sum[:])
	must(err)
	return policy.Signature{MediaType: policy.SigstoreMediaType, Payload: payload,
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(raw)}}
}

// Attach puts signatures of a manifest beside it, as cosign does: as the layers of an image whose tag is the digest.
func Attach(r *registrytest.Registry, repository string, d digest.Digest, sigs ...policy.Signature) {
	config := []byte("{}")
	r.SetBlob(digest.FromBytes(config), config)
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{},
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}}
	for _, s := range sigs {
		r.SetBlob(digest.FromBytes(s.Payload), s.Payload)
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: s.MediaType, Digest: digest.FromBytes(s.Payload), Size: int64(len(s.Payload)), Annotations: s.Annotations})
	}
	data, err := json.Marshal(m)
	must(err)
	r.AddManifest(repository+":"+d.Algorithm().String()+"-"+d.Encoded()+".sig", v1.MediaTypeImageManifest, data)
}

// GPG is an OpenPGP key.
type GPG struct {
	Entity *openpgp.Entity
	config *packet.Config
}

// NewGPG makes a key. Its life is 0 for one that does not end.
func NewGPG(name string, life time.Duration) *GPG { return newGPG(name, life, time.Now()) }

// NewExpired makes a key whose time is over.
func NewExpired(name string) *GPG { return newGPG(name, time.Hour, time.Now().Add(-48*time.Hour)) }

func newGPG(name string, life time.Duration, made time.Time) *GPG {
	c := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(life / time.Second), Time: func() time.Time { return made }}
	e, err := openpgp.NewEntity(name, "", name+"@example.com", c)
	must(err)
	return &GPG{e, c}
}

// Public is the key's armoured text.
func (g *GPG) Public() []byte {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	must(err)
	must(g.Entity.Serialize(w))
	must(w.Close())
	return b.Bytes()
}

// Sign signs a manifest under a name.
func (g *GPG) Sign(d digest.Digest, reference string) []byte {
	return g.SignPayload(Claim(AtomicType, d, reference, map[string]any{"creator": "policytest", "timestamp": 1700000000}))
}

// SignPayload signs any bytes.
func (g *GPG) SignPayload(payload []byte) []byte {
	var b bytes.Buffer
	w, err := openpgp.Sign(&b, g.Entity, nil, g.config)
	must(err)
	_, err = w.Write(payload)
	must(err)
	must(w.Close())
	return b.Bytes()
}

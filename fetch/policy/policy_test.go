package policy_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cove/fetch/policy"
	"cove/fetch/policy/policytest"

	"github.com/opencontainers/go-digest"
)

const accept, reject = `[{"type":"insecureAcceptAnything"}]`, `[{"type":"reject"}]`

// signed is an image and the signatures that are found for it.
type signed struct {
	*policy.Subject
	gpg, cosign []policy.Signature
	err         error
}

func image(t *testing.T, ref string) (*signed, digest.Digest) {
	manifest := []byte(`{"schemaVersion":2}`)
	s := &signed{Subject: &policy.Subject{Transport: "docker", Manifest: manifest}}
	if ref != "" {
		s.Named = name(t, ref)
	}
	s.Found = func(sigstore bool) ([]policy.Signature, error) {
		if sigstore {
			return s.cosign, s.err
		}
		return s.gpg, s.err
	}
	return s, digest.FromBytes(manifest)
}

// key writes a key's file.
func key(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func requires(kind, file, more string) string {
	keyType := ""
	if kind == "signedBy" {
		keyType = `"keyType":"GPGKeys",`
	}
	return fmt.Sprintf(`{"default":[{"type":%q,%s"keyPath":%q%s}]}`, kind, keyType, file, more)
}

// Both formats: right, and wrong in every way that there is.
func TestSignatures(t *testing.T) {
	const ref = "quay.io/acme/app:1"
	gpg, cosign, otherGPG, otherCosign := policytest.NewGPG("right", 0), policytest.NewCosign(), policytest.NewGPG("other", 0), policytest.NewCosign()
	expired := policytest.NewExpired("old")
	s, d := image(t, ref)
	other := digest.FromString("other")
	pgp := func(b []byte) policy.Signature { return policy.Signature{OpenPGP: b} }
	claim := func(kind string, optional any) []byte { return policytest.Claim(kind, d, ref, optional) }
	damaged := gpg.Sign(d, ref)
	damaged[len(damaged)-3] ^= 1
	flipped := cosign.Sign(d, ref)
	flipped.Payload = bytes.Replace(flipped.Payload, []byte("app"), []byte("apq"), 1)
	bare := cosign.Sign(d, ref)
	bare.Annotations = nil
	attestation := cosign.Sign(d, ref)
	attestation.MediaType = "application/vnd.dsse.envelope.v1+json"
	noBase64 := cosign.Sign(d, ref)
	noBase64.Annotations = map[string]string{"dev.cosignproject.cosign/signature": "***"}
	for what, c := range map[string]struct {
		sig    policy.Signature
		cosign bool
		want   error
	}{
		"gpg":                   {pgp(gpg.Sign(d, ref)), false, nil},
		"gpg other key":         {pgp(otherGPG.Sign(d, ref)), false, policy.ErrWrongKey},
		"gpg expired key":       {pgp(expired.Sign(d, ref)), false, policy.ErrDamaged},
		"gpg other content":     {pgp(gpg.Sign(other, ref)), false, policy.ErrWrongManifest},
		"gpg other tag":         {pgp(gpg.Sign(d, "quay.io/acme/app:2")), false, policy.ErrWrongIdentity},
		"gpg other name":        {pgp(gpg.Sign(d, "quay.io/acme/apps:1")), false, policy.ErrWrongIdentity},
		"gpg no tag":            {pgp(gpg.Sign(d, "quay.io/acme/app")), false, policy.ErrWrongIdentity},
		"gpg no name":           {pgp(gpg.Sign(d, "")), false, policy.ErrWrongIdentity},
		"gpg damaged":           {pgp(damaged), false, policy.ErrDamaged},
		"gpg nothing":           {pgp(nil), false, policy.ErrDamaged},
		"gpg text":              {pgp(claim(policytest.AtomicType, nil)), false, policy.ErrDamaged},
		"gpg cosign's type":     {pgp(gpg.SignPayload(claim(policytest.CosignType, map[string]any{}))), false, policy.ErrDamaged},
		"gpg optional null":     {pgp(gpg.SignPayload(claim(policytest.AtomicType, nil))), false, policy.ErrDamaged},
		"gpg half a timestamp":  {pgp(gpg.SignPayload(claim(policytest.AtomicType, map[string]any{"timestamp": 1.5}))), false, policy.ErrDamaged},
		"gpg more in optional":  {pgp(gpg.SignPayload(claim(policytest.AtomicType, map[string]any{"x": []int{1}}))), false, nil},
		"gpg not JSON":          {pgp(gpg.SignPayload([]byte("hello"))), false, policy.ErrDamaged},
		"gpg large":             {pgp(gpg.SignPayload(bytes.Repeat([]byte(" "), 2<<20))), false, policy.ErrDamaged},
		"cosign":                {cosign.Sign(d, ref), true, nil},
		"cosign other key":      {otherCosign.Sign(d, ref), true, policy.ErrWrongKey},
		"cosign other content":  {cosign.Sign(other, ref), true, policy.ErrWrongManifest},
		"cosign other name":     {cosign.Sign(d, "quay.io/acme/app:2"), true, policy.ErrWrongIdentity},
		"cosign no tag":         {cosign.Sign(d, "quay.io/acme/app"), true, policy.ErrWrongIdentity},
		"cosign changed":        {flipped, true, policy.ErrWrongKey},
		"cosign no signature":   {bare, true, policy.ErrDamaged},
		"cosign no base64":      {noBase64, true, policy.ErrDamaged},
		"cosign attestation":    {attestation, true, policy.ErrNoSignature},
		"cosign optional":       {cosign.SignPayload(claim(policytest.CosignType, map[string]any{"creator": "me"})), true, nil},
		"cosign gpg's type":     {cosign.SignPayload(claim(policytest.AtomicType, nil)), true, policy.ErrDamaged},
		"cosign more than that": {cosign.SignPayload([]byte(`{"critical":{},"optional":{},"more":{}}`)), true, policy.ErrDamaged},
	} {
		kind, file := "signedBy", key(t, append(gpg.Public(), ""...))
		s.gpg, s.cosign = []policy.Signature{c.sig}, nil
		if c.cosign {
			kind, file = "sigstoreSigned", key(t, cosign.Public())
			s.gpg, s.cosign = nil, s.gpg
		}
		if what == "gpg expired key" {
			file = key(t, expired.Public())
		}
		p := parse(t, requires(kind, file, ""))
		err := p.For(s.Subject).Check(s.Subject)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		var refused *policy.Error
		if err != nil && (!errors.As(err, &refused) || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), "policy.json (default)")) {
			t.Errorf("%s: %v", what, err)
		}
		// One right signature is enough, whatever lies beside it.
		if c.cosign {
			s.cosign = append(s.cosign, otherCosign.Sign(d, ref), cosign.Sign(d, ref))
		} else {
			s.gpg = append(s.gpg, pgp(otherGPG.Sign(d, ref)), pgp(gpg.Sign(d, ref)))
		}
		if err := p.For(s.Subject).Check(s.Subject); err != nil && what != "gpg expired key" {
			t.Errorf("%s and a right one: %v", what, err)
		}
	}
}

// Requirements are all to be met; what nobody can meet is told before anything is fetched.
func TestRequirements(t *testing.T) {
	const ref = "quay.io/acme/app:1"
	gpg, cosign := policytest.NewGPG("a", 0), policytest.NewCosign()
	s, d := image(t, ref)
	s.gpg, s.cosign = []policy.Signature{{OpenPGP: gpg.Sign(d, ref)}}, []policy.Signature{cosign.Sign(d, ref)}
	one := func(kind, file string) string {
		return strings.TrimSuffix(strings.TrimPrefix(requires(kind, file, ""), `{"default":[`), "]}")
	}
	simple, sigstore := one("signedBy", key(t, gpg.Public())), one("sigstoreSigned", key(t, cosign.Public()))
	other := one("sigstoreSigned", key(t, policytest.NewCosign().Public()))
	data := base64.StdEncoding.EncodeToString(gpg.Public())
	datas := base64.StdEncoding.EncodeToString(policytest.NewCosign().Public()) + `","` + base64.StdEncoding.EncodeToString(cosign.Public())
	for list, want := range map[string]string{
		simple: "", sigstore: "", simple + "," + sigstore: "", `{"type":"insecureAcceptAnything"},` + sigstore: "",
		`{"type":"signedBy","keyType":"GPGKeys","keyData":"` + data + `"}`:                                                                         "",
		`{"type":"sigstoreSigned","keyDatas":["` + datas + `"]}`:                                                                                   "",
		`{"type":"sigstoreSigned","keyPaths":["` + key(t, policytest.NewCosign().Public()) + `","` + key(t, cosign.Public()) + `"]}`:               "",
		`{"type":"signedBy","keyType":"GPGKeys","keyPaths":["` + key(t, policytest.NewGPG("b", 0).Public()) + `","` + key(t, gpg.Public()) + `"]}`: "",
		simple + "," + other:                        "is not by a key that is asked for",
		sigstore + `,{"type":"reject"}`:             "reject",
		one("signedBy", "/none"):                    "read the key: open /none",
		one("sigstoreSigned", "/none"):              "read the key: open /none",
		one("signedBy", key(t, nil)):                "there is no key in it",
		one("sigstoreSigned", key(t, nil)):          "no public key in PEM",
		one("sigstoreSigned", key(t, gpg.Public())): "no public key in PEM",
		one("signedBy", key(t, cosign.Public())):    "neither an OpenPGP key",
	} {
		p := parse(t, `{"default":[`+list+`]}`)
		err := p.For(s.Subject).Check(s.Subject)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", list, err, want)
		}
	}
	for list, want := range map[string]string{
		`{"type":"reject"}`: "refused by policy.json (default): reject",
		`{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}`:                                             "it asks for signedBaseLayer",
		`{"type":"signedBy","keyType":"signedByGPGKeys","keyPath":"/k"}`:                                                   "keyType signedByGPGKeys",
		`{"type":"sigstoreSigned","fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"},"rekorPublicKeyPath":"/r"}`: "fulcio",
		`{"type":"sigstoreSigned","pki":{"caRootsPath":"/c","subjectEmail":"e"}}`:                                          "pki",
		simple + `,{"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyPath":"/r"}`:                                     "Rekor",
	} {
		rules := parse(t, `{"default":[`+list+`]}`).For(s.Subject)
		for _, err := range []error{rules.Hopeless(), rules.Check(s.Subject)} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", list, err, want)
			}
		}
	}
	if err := parse(t, `{"default":[`+simple+`]}`).For(s.Subject).Hopeless(); err != nil {
		t.Error(err)
	}
	s.err = errors.New("no route")
	if err := parse(t, `{"default":[`+simple+`]}`).For(s.Subject).Check(s.Subject); !errors.Is(err, s.err) {
		t.Error(err)
	}
	s.gpg, s.err = nil, nil
	if err := parse(t, `{"default":[`+simple+`]}`).For(s.Subject).Check(s.Subject); !errors.Is(err, policy.ErrNoSignature) {
		t.Error(err)
	}
}

// Keys of the other kinds that cosign takes.
func TestSigstoreKeys(t *testing.T) {
	const ref = "quay.io/acme/app:1"
	s, d := image(t, ref)
	payload := policytest.Claim(policytest.CosignType, d, ref, nil)
	sum := sha256.Sum256(payload)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaSig, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		public crypto.PublicKey
		raw    []byte
	}{"rsa": {&rsaKey.PublicKey, rsaSig}, "ed25519": {edKey.Public(), ed25519.Sign(edKey, payload)}} {
		p := parse(t, requires("sigstoreSigned", key(t, policytest.PEM(c.public)), ""))
		for _, right := range []bool{true, false} {
			if !right {
				c.raw[3] ^= 1
			}
			s.cosign = []policy.Signature{{MediaType: policy.SigstoreMediaType, Payload: payload,
				Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(c.raw)}}}
			if err := p.For(s.Subject).Check(s.Subject); (err == nil) != right {
				t.Errorf("%s, right %v: %v", what, right, err)
			}
		}
	}
}

// Every kind of signedIdentity, for images by tag, by digest and without a name.
func TestIdentity(t *testing.T) {
	pin := "@sha256:" + strings.Repeat("ab", 32)
	gpg := policytest.NewGPG("a", 0)
	file := key(t, gpg.Public())
	exact, repo, either := `{"type":"matchExact"}`, `{"type":"matchRepository"}`, `{"type":"matchRepoDigestOrExact"}`
	remap := `{"type":"remapIdentity","prefix":"mirror.example/quay","signedPrefix":"quay.io"}`
	for _, c := range []struct {
		image, identity, signed string
		want                    bool
	}{
		{"quay.io/a/b:1", exact, "quay.io/a/b:1", true},
		{"quay.io/a/b:1", exact, "quay.io/a/b:2", false},
		{"quay.io/a/b:1", exact, "quay.io/a/b", false},
		{"docker.io/library/b:1", exact, "b:1", true},
		{"quay.io/a/b" + pin, exact, "quay.io/a/b" + pin, true},
		{"quay.io/a/b" + pin, exact, "quay.io/a/b:1", false},
		{"", exact, "quay.io/a/b:1", false},
		{"quay.io/a/b:1", either, "quay.io/a/b:1", true},
		{"quay.io/a/b:1", either, "quay.io/a/b:2", false},
		{"quay.io/a/b:1", either, "quay.io/a/b", false},
		{"quay.io/a/b:1", either, "quay.io/a/b" + pin, false},
		{"quay.io/a/b" + pin, either, "quay.io/a/b:2", true},
		{"quay.io/a/b" + pin, either, "quay.io/a/b", false},
		{"quay.io/a/b" + pin, either, "quay.io/a/c:2", false},
		{"", either, "quay.io/a/b:1", false},
		{"quay.io/a/b:1", repo, "quay.io/a/b:2", true},
		{"quay.io/a/b:1", repo, "quay.io/a/b", true},
		{"quay.io/a/b:1", repo, "quay.io/a/bb:1", false},
		{"quay.io/a/b:1", repo, "quay.io/a", false},
		{"", repo, "quay.io/a/b:1", false},
		{"quay.io/a/b:1", `{"type":"exactReference","dockerReference":"quay.io/x:3"}`, "quay.io/x:3", true},
		{"", `{"type":"exactReference","dockerReference":"quay.io/x:3"}`, "quay.io/x:3", true},
		{"quay.io/x:3", `{"type":"exactReference","dockerReference":"quay.io/x:3"}`, "quay.io/x:4", false},
		{"", `{"type":"exactRepository","dockerRepository":"quay.io/x"}`, "quay.io/x:4", true},
		{"quay.io/a/b:1", `{"type":"exactRepository","dockerRepository":"quay.io/x"}`, "quay.io/a/b:1", false},
		{"mirror.example/quay/a/b:1", remap, "quay.io/a/b:1", true},
		{"mirror.example/quay/a/b:1", remap, "mirror.example/quay/a/b:1", false},
		{"mirror.example/quay/a/b:1", remap, "quay.io/a/b:2", false},
		{"mirror.example/quay/a/b" + pin, remap, "quay.io/a/b:2", true},
		{"mirror.example/quays/a/b:1", remap, "quay.ios/a/b:1", false},
		{"other.example/a/b:1", remap, "other.example/a/b:1", true},
		{"mirror.example/quay:1", remap, "quay.io:1", false}, // a host alone names no image
		{"", remap, "quay.io/a/b:1", false},
		{"quay.io/a/b:1", exact, "not a name", false},
		{"quay.io/a/b:1", repo, "", false},
	} {
		s, d := image(t, c.image)
		s.gpg = []policy.Signature{{OpenPGP: gpg.Sign(d, c.signed)}}
		p := parse(t, requires("signedBy", file, `,"signedIdentity":`+c.identity))
		err := p.For(&policy.Subject{Transport: "oci", Path: "/"}).Check(s.Subject)
		if (err == nil) != c.want || err != nil && !errors.Is(err, policy.ErrWrongIdentity) {
			t.Errorf("image %q, %s, signed %q: %v", c.image, c.identity, c.signed, err)
		}
	}
}

// A key by itself: any of those given, on the image or the index above it, for its name or its repository.
func TestSignedBy(t *testing.T) {
	const ref = "quay.io/acme/app:1"
	gpg, cosign, other := policytest.NewGPG("a", 0), policytest.NewCosign(), policytest.NewCosign()
	keys := func(files ...[]byte) []*policy.Key {
		var out []*policy.Key
		for i, data := range files {
			k, err := policy.ParseKey(fmt.Sprintf("key%d", i), data)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, k)
		}
		return out
	}
	s, d := image(t, ref)
	for signed, want := range map[string]bool{ref: true, "quay.io/acme/app": true, "quay.io/acme/app:2": false, "quay.io/acme": false, "": false} {
		s.gpg, s.cosign = nil, []policy.Signature{cosign.Sign(d, signed)}
		p, err := policy.SignedBy(keys(gpg.Public(), other.Public(), cosign.Public()), s.Subject)
		if (err == nil) != want || err != nil && !errors.Is(err, policy.ErrWrongIdentity) && signed != "" {
			t.Errorf("%q: %v", signed, err)
		}
		if err == nil && (p.Key.File != "key2" || p.Fingerprint != p.Key.Fingerprint() || p.Signed.String() != d.String() || p.Identity != signed) {
			t.Errorf("%+v", p)
		}
	}
	s.gpg, s.cosign = []policy.Signature{{OpenPGP: gpg.Sign(d, ref)}}, nil
	if p, err := policy.SignedBy(keys(cosign.Public(), gpg.Public()), s.Subject); err != nil || p.Key.File != "key1" {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := policy.SignedBy(keys(cosign.Public()), s.Subject); !errors.Is(err, policy.ErrNoSignature) {
		t.Error(err)
	}
	// The index leads to the image by its digest.
	above, _ := image(t, ref)
	above.Manifest = []byte("index")
	above.cosign = []policy.Signature{cosign.Sign(digest.FromString("index"), ref)}
	s.gpg = nil
	if p, err := policy.SignedBy(keys(cosign.Public()), s.Subject, above.Subject); err != nil || string(p.Signed) != string(digest.FromString("index")) {
		t.Errorf("%+v %v", p, err)
	}
	above.cosign = []policy.Signature{cosign.Sign(d, ref)}
	if _, err := policy.SignedBy(keys(cosign.Public()), s.Subject, above.Subject); !errors.Is(err, policy.ErrWrongManifest) {
		t.Error(err)
	}
}

func TestParseKey(t *testing.T) {
	for want, data := range map[string][]byte{
		"neither an OpenPGP key": []byte("hello"), "a private key": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"want PUBLIC KEY": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
	} {
		if _, err := policy.ParseKey("k", data); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "read key k: ") {
			t.Errorf("%s: %v", data, err)
		}
	}
}

package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"cove/fetch/oci"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// What can be wrong with the signatures of an image. Errors of this package wrap these.
var (
	ErrNoSignature   = errors.New("no signature was found")
	ErrWrongKey      = errors.New("is not by a key that is asked for")
	ErrWrongIdentity = errors.New("is for an image of another name")
	ErrWrongManifest = errors.New("is for other content")
	ErrDamaged       = errors.New("is not valid")
)

// Names in sigstore's storage, as cosign has them.
const (
	SigstoreMediaType  = "application/vnd.dev.cosign.simplesigning.v1+json"
	sigstoreAnnotation = "dev.cosignproject.cosign/signature"
)

// Signature is one that was found for an image: an OpenPGP message, or what sigstore keeps beside an image.
type Signature struct {
	OpenPGP []byte

	MediaType   string
	Payload     []byte
	Annotations map[string]string
}

// claim is what a signature says, once it was found right.
type claim struct {
	digest    oci.Digest
	reference string
	key       string // the fingerprint of the key that made it
}

const maxPayload = 1 << 20

// byOpenPGP checks a signature of containers-signature(5).
func byOpenPGP(sig []byte, ring openpgp.EntityList) (c *claim, err error) {
	// go-crypto 1.4.1 follows a nil pointer where a signature does not name its maker, and its reader of packets is
	// large: what a stranger sent must not end us.
	defer func() {
		if r := recover(); r != nil {
			c, err = nil, fmt.Errorf("%w: no OpenPGP that is understood", ErrDamaged)
		}
	}()
	md, err := openpgp.ReadMessage(bytes.NewReader(sig), ring, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, oci.Clean(err.Error()))
	}
	if !md.IsSigned {
		return nil, fmt.Errorf("%w: the OpenPGP message is not signed", ErrDamaged)
	}
	// The signature lies behind the content, and is checked when that was read to its end.
	content, err := io.ReadAll(io.LimitReader(md.UnverifiedBody, maxPayload+1))
	switch {
	case err != nil && md.SignatureError == nil:
		return nil, fmt.Errorf("%w: %s", ErrDamaged, oci.Clean(err.Error()))
	case len(content) > maxPayload:
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrDamaged, maxPayload)
	case md.SignedBy == nil:
		return nil, fmt.Errorf("%w (it names the key %016X)", ErrWrongKey, md.SignedByKeyId)
	case md.SignatureError != nil:
		return nil, fmt.Errorf("%w: %s", ErrDamaged, oci.Clean(md.SignatureError.Error()))
	case md.Signature == nil:
		return nil, fmt.Errorf("%w: the signature is missing behind the content", ErrDamaged)
	}
	c, err = parseClaim(content, "atomic container signature", false)
	if err == nil {
		c.key = ringFingerprint(md.SignedBy.Entity)
	}
	return c, err
}

// bySigstore checks a signature of sigstore's.
func bySigstore(sig Signature, keys []crypto.PublicKey) (*claim, error) {
	text, ok := sig.Annotations[sigstoreAnnotation]
	if !ok {
		return nil, fmt.Errorf("%w: the annotation %s is missing", ErrDamaged, sigstoreAnnotation)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: the annotation %s: %w", ErrDamaged, sigstoreAnnotation, err)
	}
	for _, key := range keys {
		if !signed(key, sig.Payload, raw) {
			continue
		}
		c, err := parseClaim(sig.Payload, "cosign container image signature", true)
		if err == nil {
			c.key = publicFingerprint(key)
		}
		return c, err
	}
	return nil, ErrWrongKey // or damaged: a bare signature does not name its key
}

// signed checks a bare signature the way sigstore's tools make it for that kind of key.
func signed(key crypto.PublicKey, payload, raw []byte) bool {
	sum := sha256.Sum256(payload)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], raw)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], raw) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, payload, raw)
	}
	return false
}

// parseClaim reads what both formats sign. cosign writes "optional": null, of which containers-signature(5) knows nothing.
func parseClaim(data []byte, want string, mayBeNull bool) (*claim, error) {
	c, err := readClaim(data, want, mayBeNull)
	if err != nil {
		return nil, fmt.Errorf("%w: what is signed: %w", ErrDamaged, err)
	}
	return c, nil
}

func readClaim(data []byte, want string, mayBeNull bool) (*claim, error) {
	var critical, optional, image, identity json.RawMessage
	if err := exactly(data, map[string]any{"critical": &critical, "optional": &optional}); err != nil {
		return nil, err
	}
	if !mayBeNull || string(optional) != "null" {
		var creator string
		var stamp float64
		err := object(optional, func(key string) any {
			switch key {
			case "creator":
				return &creator
			case "timestamp":
				return &stamp
			}
			return new(json.RawMessage)
		})
		if err == nil && stamp != float64(int64(stamp)) {
			err = errors.New("timestamp is no integer")
		}
		if err != nil {
			return nil, fmt.Errorf("optional: %w", err)
		}
	}
	kind, c := "", &claim{}
	if err := exactly(critical, map[string]any{"type": &kind, "image": &image, "identity": &identity}); err != nil {
		return nil, fmt.Errorf("critical: %w", err)
	}
	if kind != want {
		return nil, fmt.Errorf("it is of type %s", oci.Short(kind))
	}
	if err := exactly(image, map[string]any{"docker-manifest-digest": &c.digest}); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	if err := exactly(identity, map[string]any{"docker-reference": &c.reference}); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return c, nil
}

package policy

import (
	"crypto"
	"errors"
	"fmt"

	"cove/fetch/oci"

	"go.podman.io/image/v5/docker/reference"
)

// Proof is a right signature, as it is to be remembered.
type Proof struct {
	Key         *Key
	Fingerprint string     // of the key that made it
	Signed      oci.Digest // the manifest, or an index that leads to it
	Identity    string     // the name that was signed
}

// SignedBy looks for a signature by one of the keys, on the image or on one of the documents that led to it: an index
// names its images by digest, and so whoever signed it has signed them. (A policy.json is asked about the image alone,
// as podman does.) The name that is signed must be the image's, or, where it has neither tag nor digest, as cosign's,
// the repository's.
func SignedBy(keys []*Key, subjects ...*Subject) (*Proof, error) {
	missing := &Unsigned{}
	for _, k := range keys {
		missing.Keys = append(missing.Keys, k.File)
	}
	for _, s := range subjects {
		for _, k := range keys {
			c, err := s.anyOf(k.Sigstore(), []string{k.File}, func(sig Signature) (*claim, error) { return s.isBy(k, sig) })
			if err == nil {
				return &Proof{k, c.key, c.digest, c.reference}, nil
			}
			var unsigned *Unsigned
			if !errors.As(err, &unsigned) {
				return nil, err
			}
			missing.Wrong = append(missing.Wrong, unsigned.Wrong...)
		}
	}
	missing.Wrong = distinct(missing.Wrong)
	return nil, missing
}

func (s *Subject) isBy(k *Key, sig Signature) (*claim, error) {
	var c *claim
	var err error
	if k.Sigstore() {
		c, err = bySigstore(sig, []crypto.PublicKey{k.public})
	} else {
		c, err = byOpenPGP(sig.OpenPGP, k.ring)
	}
	if err != nil {
		return nil, err
	}
	return c, s.about(c, identity{kind: "matchNamed"})
}

// named is the identity that a key by itself asks for.
func named(image, signed reference.Named) bool {
	if reference.IsNameOnly(signed) {
		return signed.Name() == image.Name()
	}
	return repoDigestOrExact(image, signed)
}

// distinct drops what was said already: two keys have the same to say of a signature by a third.
func distinct(errs []error) []error {
	seen := map[string]bool{}
	var out []error
	for _, err := range errs {
		if text := fmt.Sprint(err); !seen[text] {
			seen[text] = true
			out = append(out, err)
		}
	}
	return out
}

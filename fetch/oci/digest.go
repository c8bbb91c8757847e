package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Digest names bytes: "sha256:HEX". Other algorithms are not known here: everything that makes
// images uses this one.
type Digest string

const sha256Prefix = "sha256:"

// Why a digest is none.
var (
	ErrDigestFormat    = errors.New("invalid checksum digest format")
	ErrDigestLength    = errors.New("invalid checksum digest length")
	ErrDigestAlgorithm = errors.New("only sha256 is known here")
)

// Validate tells whether d is a digest in full, in lower case: its Encoded is a safe file name then.
func (d Digest) Validate() error {
	algorithm, encoded, ok := strings.Cut(string(d), ":")
	if !ok || algorithm == "" || encoded == "" {
		return ErrDigestFormat
	}
	if algorithm != "sha256" {
		return ErrDigestAlgorithm
	}
	if len(encoded) != 2*sha256.Size {
		return ErrDigestLength
	}
	for _, c := range []byte(encoded) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ErrDigestFormat
		}
	}
	return nil
}

// Check is Validate with an error that names d.
func (d Digest) Check() error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %s: %w", Short(string(d)), err)
	}
	return nil
}

// Encoded is the part after the algorithm. It panics when d is no digest at all: what was not
// checked is not to become a file name.
func (d Digest) Encoded() string {
	_, encoded, ok := strings.Cut(string(d), ":")
	if !ok {
		panic(fmt.Sprintf("no ':' in digest %q", string(d)))
	}
	return encoded
}

func (d Digest) String() string { return string(d) }

// FromEncoded makes a digest of its hexadecimal part.
func FromEncoded(hexadecimal string) Digest { return Digest(sha256Prefix + hexadecimal) }

// FromBytes is the digest of data.
func FromBytes(data []byte) Digest {
	sum := sha256.Sum256(data)
	return FromEncoded(hex.EncodeToString(sum[:]))
}

// FromString is the digest of s.
func FromString(s string) Digest { return FromBytes([]byte(s)) }

// FromReader is the digest of all that r gives.
func FromReader(r io.Reader) (Digest, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return "", err
	}
	return FromEncoded(hex.EncodeToString(sum.Sum(nil))), nil
}

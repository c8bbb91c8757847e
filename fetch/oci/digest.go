package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Digest names bytes: "sha256:HEX" or "sha512:HEX", the two algorithms that image-spec
// (descriptor.md, "Registered algorithms") has and that nobody has broken.
type Digest string

const (
	sha256Prefix = "sha256:"
	sha512Prefix = "sha512:"
)

// Why a digest is none.
var (
	ErrDigestFormat    = errors.New("invalid checksum digest format")
	ErrDigestLength    = errors.New("invalid checksum digest length")
	ErrDigestAlgorithm = errors.New("only sha256 and sha512 are known here")
)

// Algorithms are the directories that a layout and the store keep blobs in.
func Algorithms() []string { return []string{"sha256", "sha512"} }

// Validate tells whether d is a digest in full, in lower case: its Encoded is a safe file name then,
// and, as the two algorithms' have not the same length, one that no other digest has.
func (d Digest) Validate() error {
	algorithm, encoded, ok := strings.Cut(string(d), ":")
	if !ok || algorithm == "" || encoded == "" {
		return ErrDigestFormat
	}
	size := 0
	switch algorithm {
	case "sha256":
		size = sha256.Size
	case "sha512":
		size = sha512.Size
	default:
		return ErrDigestAlgorithm
	}
	if len(encoded) != 2*size {
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

// Algorithm is the part before the colon.
func (d Digest) Algorithm() string {
	algorithm, _, _ := strings.Cut(string(d), ":")
	return algorithm
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

// Hash is what bytes are written to that d is to name.
func (d Digest) Hash() hash.Hash { return NewHash(d.Algorithm()) }

// Of is the digest of data by d's algorithm: d itself when they are the bytes that it names.
func (d Digest) Of(data []byte) Digest {
	h := d.Hash()
	h.Write(data)
	return FromHash(h)
}

// Names tells whether data are the bytes that d names.
func (d Digest) Names(data []byte) bool { return d.Validate() == nil && d.Of(data) == d }

// NewHash is a hash of that algorithm: sha256 unless it is "sha512".
func NewHash(algorithm string) hash.Hash {
	if algorithm == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

// FromHash is the digest of what was written to a hash that NewHash made.
func FromHash(h hash.Hash) Digest { return FromEncoded(hex.EncodeToString(h.Sum(nil))) }

// FromEncoded makes a digest of its hexadecimal part, whose length tells the algorithm.
func FromEncoded(hexadecimal string) Digest {
	if len(hexadecimal) == 2*sha512.Size {
		return Digest(sha512Prefix + hexadecimal)
	}
	return Digest(sha256Prefix + hexadecimal)
}

// FromBytes is the sha256 digest of data.
func FromBytes(data []byte) Digest {
	sum := sha256.Sum256(data)
	return FromEncoded(hex.EncodeToString(sum[:]))
}

// FromString is the sha256 digest of s.
func FromString(s string) Digest { return FromBytes([]byte(s)) }

// FromReader is the digest of all that r gives, by the algorithm of like.
func FromReader(r io.Reader, like Digest) (Digest, error) {
	h := like.Hash()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return FromHash(h), nil
}

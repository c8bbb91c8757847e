package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// keySource is where a policy.json has keys from.
type keySource struct {
	path  string
	paths []string
	data  []byte // base64 in the file
	datas [][]byte
}

func (s keySource) empty() bool {
	return s.path == "" && len(s.paths) == 0 && len(s.data) == 0 && len(s.datas) == 0
}

// read returns the keys and what to call each.
func (s keySource) read() (keys [][]byte, names []string, err error) {
	paths := s.paths
	if s.path != "" {
		paths = []string{s.path}
	}
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, nil, fmt.Errorf("read the key: %w", err)
		}
		keys, names = append(keys, data), append(names, p)
	}
	datas := s.datas
	if len(s.data) > 0 {
		datas = [][]byte{s.data}
	}
	for i, data := range datas {
		keys, names = append(keys, data), append(names, fmt.Sprintf("keyData %d", i+1))
	}
	return keys, names, nil
}

// Key is a public key as a user has it in a file: cosign's PEM or OpenPGP's.
type Key struct {
	File   string // for messages
	public crypto.PublicKey
	ring   openpgp.EntityList
}

// ParseKey reads the file of a key.
func ParseKey(file string, data []byte) (*Key, error) {
	k := &Key{File: file}
	var err error
	switch block, _ := pem.Decode(data); {
	case block != nil && strings.HasPrefix(block.Type, "PGP"):
		k.ring, err = readRing(data)
	case block != nil && strings.Contains(block.Type, "PRIVATE KEY"):
		err = errors.New("a private key: want the public one")
	case block != nil:
		k.public, err = readPublic(data)
	default: // OpenPGP's armour has headers of its own, or there is none
		k.ring, err = readRing(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", file, err)
	}
	return k, nil
}

// Sigstore tells whether the key is for sigstore's signatures; else it is OpenPGP's.
func (k *Key) Sigstore() bool { return k.public != nil }

// Fingerprint names the key: of an OpenPGP file, all the keys in it.
func (k *Key) Fingerprint() string {
	if k.public != nil {
		return publicFingerprint(k.public)
	}
	var all []string
	for _, e := range k.ring {
		all = append(all, ringFingerprint(e))
	}
	return strings.Join(all, " ")
}

// readRing reads OpenPGP public keys, armoured or not.
func readRing(data []byte) (openpgp.EntityList, error) {
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil {
		if ring, err = openpgp.ReadArmoredKeyRing(bytes.NewReader(data)); err != nil {
			return nil, errors.New("neither an OpenPGP key nor a public key in PEM (cosign's)")
		}
	}
	for _, e := range ring {
		if e.PrivateKey != nil {
			return nil, errors.New("a private key: want the public one")
		}
	}
	if len(ring) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return ring, nil
}

func ringFingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}

// readPublic reads a public key in PEM, of the kinds that sigstore's tools make.
func readPublic(data []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no public key in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM of type %q: want PUBLIC KEY", block.Type)
	}
	if err != nil {
		return nil, err
	}
	switch key.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
		return key, nil
	}
	return nil, fmt.Errorf("a key of a kind that signs no images (%T)", key)
}

func publicFingerprint(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "" // readPublic has read it from that form
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

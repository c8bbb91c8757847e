package policy

import (
	"crypto"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"cove/fetch/oci"

	"github.com/ProtonMail/go-crypto/openpgp"
	"go.podman.io/image/v5/docker/reference"
)

// Subject is the image that is judged.
type Subject struct {
	Transport string          // docker, oci, ...
	Path      string          // for those that have one: absolute, without symbolic links
	Named     reference.Named // what the user's reference names; nil where it is no registry's
	Manifest  []byte          // of the image that is used, not of an index above it

	// Found gets the signatures of the manifest, of one kind.
	Found func(sigstore bool) ([]Signature, error)
}

// Error says that a policy.json does not let an image in.
type Error struct {
	File  string
	Scope string // the part of it that is about the image
	Wants string // the requirement that is not met; "" when all are refused
	Err   error
}

func (e *Error) Error() string {
	if e.Wants == "" {
		return fmt.Sprintf("refused by %s (%s): %v", e.File, e.Scope, e.Err)
	}
	return fmt.Sprintf("refused by %s (%s): it asks for %s: %v", e.File, e.Scope, e.Wants, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Rules are the requirements of a policy for one image; all must be met.
type Rules struct {
	file, scope string
	list        []requirement
}

// For finds the most special scope: the image's own, those above it, the transport's "", and the default.
func (p *Policy) For(s *Subject) *Rules {
	scopes := p.transports[s.Transport]
	for _, scope := range append(scopesOf(s), "") {
		if list, ok := scopes[scope]; ok {
			where := s.Transport
			if scope != "" {
				where = fmt.Sprintf("%s, scope %s", s.Transport, oci.Short(scope))
			}
			return &Rules{p.File, where, list}
		}
	}
	return &Rules{p.File, "default", p.fallback}
}

// scopesOf are the names under which a policy may speak of an image, the most special first.
func scopesOf(s *Subject) []string {
	switch s.Transport {
	case "docker":
		return RegistryScopes(s.Named)
	case "oci", "oci-archive", "dir":
		// The tag is no part of it: "DIR:TAG" and "DIR" may be the same image. Nor is "/", which would be "".
		var out []string
		for p := s.Path; p != "/" && p != "."; p = filepath.Dir(p) {
			out = append(out, p)
		}
		return out
	}
	return nil
}

// RegistryScopes are the names of an image in a registry and of all that it lies in, which registries.d(5) knows too.
func RegistryScopes(named reference.Named) []string {
	out := []string{named.String()}
	for name := named.Name(); ; {
		out = append(out, name)
		slash := strings.LastIndexByte(name, '/')
		if slash < 0 {
			break
		}
		name = name[:slash]
	}
	// "*.example.com", from the longest on
	host, _, _ := strings.Cut(reference.Domain(named), ":")
	for {
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			return out
		}
		out, host = append(out, "*."+rest), rest
	}
}

// Hopeless is the error of requirements that no signature meets: nothing need be fetched for them.
func (r *Rules) Hopeless() error {
	for _, req := range r.list {
		switch req := req.(type) {
		case reject:
			return &Error{r.file, r.scope, "", errors.New("reject")}
		case unsupported:
			return r.fails(req, fmt.Errorf("%s, and cove cannot check that: this protection cannot be given", req.why))
		}
	}
	return nil
}

// Check tells whether the image meets the requirements.
func (r *Rules) Check(s *Subject) error {
	if err := r.Hopeless(); err != nil {
		return err
	}
	if len(r.list) == 0 {
		return &Error{r.file, r.scope, "", errors.New("it says nothing of this image")}
	}
	for _, req := range r.list {
		if err := req.check(s); err != nil {
			return r.fails(req, err)
		}
	}
	return nil
}

func (r *Rules) fails(req requirement, err error) error {
	return &Error{r.file, r.scope, req.name(), err}
}

// A requirement is one entry of a policy's list.
type requirement interface {
	name() string
	check(s *Subject) error
}

type acceptAnything struct{}

func (acceptAnything) name() string         { return "insecureAcceptAnything" }
func (acceptAnything) check(*Subject) error { return nil }

type reject struct{}

func (reject) name() string         { return "reject" }
func (reject) check(*Subject) error { return errors.New("reject") }

// unsupported is a requirement that is in the format and cannot be met here. podman refuses the same, Fulcio, PKI and
// Rekor excepted.
type unsupported struct{ kind, why string }

func (u unsupported) name() string         { return u.kind }
func (u unsupported) check(*Subject) error { return errors.New(u.why) }

// signedBy asks for an OpenPGP signature.
type signedBy struct {
	keyType  string
	keys     keySource
	identity identity
}

func (signedBy) name() string { return "a signature (signedBy)" }

func (r signedBy) check(s *Subject) error {
	files, names, err := r.keys.read()
	if err != nil {
		return err
	}
	var ring openpgp.EntityList
	for i, data := range files {
		more, err := readRing(data)
		if err != nil {
			return fmt.Errorf("read key %s: %w", names[i], err)
		}
		ring = append(ring, more...)
	}
	_, err = s.anyOf(false, names, func(sig Signature) (*claim, error) {
		c, err := byOpenPGP(sig.OpenPGP, ring)
		if err != nil {
			return nil, err
		}
		return c, s.about(c, r.identity)
	})
	return err
}

// sigstoreSigned asks for a signature of sigstore's, with a key.
type sigstoreSigned struct {
	keys     keySource
	identity identity
}

func (sigstoreSigned) name() string { return "a signature (sigstoreSigned)" }

func (r sigstoreSigned) check(s *Subject) error {
	files, names, err := r.keys.read()
	if err != nil {
		return err
	}
	var keys []crypto.PublicKey
	for i, data := range files {
		key, err := readPublic(data)
		if err != nil {
			return fmt.Errorf("read key %s: %w", names[i], err)
		}
		keys = append(keys, key)
	}
	_, err = s.anyOf(true, names, func(sig Signature) (*claim, error) {
		c, err := bySigstore(sig, keys)
		if err != nil {
			return nil, err
		}
		return c, s.about(c, r.identity)
	})
	return err
}

// anyOf looks for one right signature among those of a kind. keys are the files that the user would look into.
func (s *Subject) anyOf(sigstore bool, keys []string, judge func(Signature) (*claim, error)) (*claim, error) {
	all, err := s.Found(sigstore)
	if err != nil {
		return nil, fmt.Errorf("look for signatures: %w", err)
	}
	var wrong []error
	for _, sig := range all {
		if sigstore && sig.MediaType != SigstoreMediaType {
			continue // an attestation, or the like
		}
		c, err := judge(sig)
		if err == nil {
			return c, nil
		}
		wrong = append(wrong, fmt.Errorf("signature %d %w", len(wrong)+1, err))
	}
	return nil, &Unsigned{Keys: keys, Wrong: wrong}
}

// about tells whether a signature is for this image.
func (s *Subject) about(c *claim, id identity) error {
	if !names(c.digest, s.Manifest) {
		return fmt.Errorf("%w: %s, and the image is %s", ErrWrongManifest, oci.Short(string(c.digest)), oci.FromBytes(s.Manifest))
	}
	if !id.accepts(s.Named, c.reference) {
		return fmt.Errorf("%w: %s, asked for is %s (%s)", ErrWrongIdentity, oci.Short(c.reference), s.called(), id)
	}
	return nil
}

// names tells whether a digest that was signed is that of the manifest, by either algorithm.
func names(d oci.Digest, manifest []byte) bool {
	if d.Validate() != nil {
		return false
	}
	sum := d.Hash()
	sum.Write(manifest)
	return oci.FromHash(sum) == d
}

func (s *Subject) called() string {
	if s.Named == nil {
		return "an image without a registry's name"
	}
	return s.Named.String()
}

// Unsigned says that none of an image's signatures is right.
type Unsigned struct {
	Keys  []string // files of the keys that were asked for
	Wrong []error  // what is wrong with each signature; none: there are none
}

func (e *Unsigned) Error() string {
	if len(e.Wrong) == 0 {
		return ErrNoSignature.Error()
	}
	var parts []string
	for _, err := range e.Wrong {
		parts = append(parts, err.Error())
	}
	return fmt.Sprintf("%s (asked for: %s)", strings.Join(parts, "; "), oci.Clean(strings.Join(e.Keys, ", ")))
}

func (e *Unsigned) Unwrap() []error {
	if len(e.Wrong) == 0 {
		return []error{ErrNoSignature}
	}
	return e.Wrong
}

package fetch

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/fetch/policy"
	"cove/fetch/store"
	"cove/fetch/wire"

	"go.podman.io/image/v5/docker/reference"
)

// PolicyError says that the machine's policy.json does not let an image in.
type PolicyError = policy.Error

// readPolicy reads the machine's policy.json; nil where there is none, and then everything is accepted.
func readPolicy() (*policy.Policy, error) {
	file, err := image.PolicyFile()
	if err != nil || file == "" {
		return nil, err
	}
	f, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readAtMost(f, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return policy.Parse(file, data)
}

// subject is the image as a policy.json speaks of it: by the name that the user's reference has, whatever mirror it
// comes from, and by paths without symbolic links.
func (t *target) subject(named reference.Named) (*policy.Subject, error) {
	s := &policy.Subject{Transport: string(t.Via), Named: named}
	var err error
	if t.asked != nil && named != nil { // what a lock makes of it is no other name
		s.Named, err = sameTag(named, t.asked)
	}
	if t.Path == "" || err != nil {
		return s, err
	}
	if s.Path, err = filepath.EvalSymlinks(t.Path); err != nil {
		return nil, err
	}
	if t.Via == image.ViaDockerArchive {
		s.Named = archiveName(t.Tag)
	}
	return s, nil
}

// archiveName is the name that a docker archive's tag is, for the identity that a signature must be for; nil without one.
func archiveName(tag string) reference.Named {
	named, err := reference.ParseNormalizedNamed(tag)
	if err != nil {
		return nil
	}
	return reference.TagNameOnly(named)
}

// readRules reads what policy.json asks of the image, and tells at once what nothing can meet. nil: it asks nothing.
func (p *puller) readRules(named reference.Named) (*policy.Rules, error) {
	machine, err := readPolicy()
	if err != nil || machine == nil {
		return nil, err
	}
	s, err := p.t.subject(named)
	if err != nil {
		return nil, err
	}
	rules := machine.For(s)
	return rules, rules.Hopeless()
}

// admit judges the manifest that is about to be used. It comes before everything that is read because of the manifest,
// and is about those very bytes: of an index it is the image that was chosen, as podman has it.
func (p *puller) admit(ctx context.Context) error {
	p.signed = nil
	if p.rules != nil {
		s, err := p.signable(ctx, p.man.Digest, false)
		if err == nil {
			err = p.rules.Check(s)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range p.o.Demands {
		if err := p.meet(ctx, d); err != nil {
			return &SignatureError{d.By, err}
		}
	}
	return nil
}

// A SignatureError says that an image is not signed by a key that who wants to use it asks for.
type SignatureError struct {
	By  string // who asks: "--verify-key"
	Err error
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("not signed as %s asks: %v", oci.Clean(e.By), e.Err)
}

func (e *SignatureError) Unwrap() error { return e.Err }

// meet looks for a signature by one of the demand's keys, on the manifest or a document that led to it, and notes it.
func (p *puller) meet(ctx context.Context, d image.Demand) error {
	var keys []*policy.Key
	digests := map[*policy.Key]oci.Digest{}
	for _, k := range d.Keys {
		key, err := policy.ParseKey(k.File, k.Data)
		if err != nil {
			return err
		}
		keys, digests[key] = append(keys, key), k.Digest()
	}
	if err := p.lockedIndex(ctx); err != nil {
		return err
	}
	var subjects []*policy.Subject
	for _, doc := range slices.Backward(p.chain) {
		s, err := p.signable(ctx, doc, true)
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
	}
	proof, err := policy.SignedBy(keys, subjects...)
	if err != nil {
		return err
	}
	p.signed = append(p.signed, store.Signed{Key: digests[proof.Key], By: proof.Fingerprint, Ref: subjects[0].Named.String(),
		Document: proof.Signed, Identity: proof.Identity, Time: time.Now().UTC()})
	return nil
}

// lockedIndex puts the index that a locked manifest was found in above it, for where the lock leads there is none on the
// way. It has to name the manifest; where it is gone, or does not, there is only the manifest to be signed.
func (p *puller) lockedIndex(ctx context.Context) error {
	l := p.o.Locked
	if l == nil || l.Index == "" || len(p.chain) != 1 || p.docs[l.Index] != nil {
		return nil
	}
	data, mediaType, err := p.src.manifest(ctx, l.Index)
	if wire.Unreachable(err) || ctx.Err() != nil {
		return err
	}
	if err != nil || verifyDigest("index", data, l.Index) != nil {
		return nil
	}
	doc, err := parseDocument(data, mediaType)
	if err == nil && slices.ContainsFunc(doc.Manifests, func(m oci.Descriptor) bool { return m.Digest == p.man.Digest }) {
		p.docs[l.Index], p.chain = data, append([]oci.Digest{l.Index}, p.chain...)
	}
	return nil
}

// signable is a document of the image being pulled, with the signatures that are found for it. With everywhere
// sigstore's are looked for also where registries.d does not say so.
func (p *puller) signable(ctx context.Context, d oci.Digest, everywhere bool) (*policy.Subject, error) {
	s, err := p.t.subject(p.named)
	if err != nil {
		return nil, err
	}
	s.Manifest = p.docs[d]
	if p.found[d] == nil {
		p.found[d] = &signatures{puller: p, digest: d}
	}
	s.Found = func(sigstore bool) ([]policy.Signature, error) { return p.found[d].find(ctx, sigstore, everywhere) }
	return s, nil
}

// checkPlain asks policy.json about a directory that is used where it is.
func (t *target) checkPlain() error {
	machine, err := readPolicy()
	if err != nil || machine == nil {
		return err
	}
	s, err := t.subject(nil)
	if err != nil {
		return err
	}
	s.Found = func(bool) ([]policy.Signature, error) { return nil, nil }
	return machine.For(s).Check(s)
}

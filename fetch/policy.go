package fetch

import (
	"context"
	"fmt"
	"path/filepath"

	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/fetch/policy"

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
	if p.rules == nil {
		return nil
	}
	s, err := p.signable(ctx, p.man.Digest, false)
	if err != nil {
		return err
	}
	return p.rules.Check(s)
}

// signable is a document of the image being pulled, with the signatures that are found for it. With everywhere
// sigstore's are looked for also where registries.d does not say so.
func (p *puller) signable(ctx context.Context, d oci.Digest, everywhere bool) (*policy.Subject, error) {
	s, err := p.t.subject(p.named)
	if err != nil {
		return nil, err
	}
	s.Manifest = p.docs[d]
	f := &signatures{puller: p, digest: d, everywhere: everywhere}
	s.Found = func(sigstore bool) ([]policy.Signature, error) { return f.find(ctx, sigstore) }
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

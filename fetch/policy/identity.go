package policy

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"cove/fetch/oci"

	"go.podman.io/image/v5/docker/reference"
)

// identity says which name must be in a signature: the signedIdentity of containers-policy.json(5), and matchNamed,
// which is none of a policy.json's.
type identity struct {
	kind                 string
	reference            string // of exactReference and exactRepository
	prefix, signedPrefix string // of remapIdentity
}

func (m identity) String() string {
	switch m.kind {
	case "matchNamed":
		return "the same name, or the same repository without a tag"
	case "exactReference", "exactRepository":
		return m.kind + " " + oci.Clean(m.reference)
	case "remapIdentity":
		return fmt.Sprintf("%s from %s to %s", m.kind, oci.Clean(m.prefix), oci.Clean(m.signedPrefix))
	}
	return m.kind
}

// check refuses names that are none.
func (m identity) check() error {
	switch m.kind {
	case "exactReference", "exactRepository":
		named, err := reference.ParseNormalizedNamed(m.reference)
		if err != nil {
			return fmt.Errorf("%s: %w", oci.Short(m.reference), err)
		}
		if m.kind == "exactReference" && reference.IsNameOnly(named) {
			return fmt.Errorf("%s has neither a tag nor a digest", oci.Short(m.reference))
		}
	case "remapIdentity":
		for _, p := range []string{m.prefix, m.signedPrefix} {
			if !isPrefix().MatchString(p) {
				return fmt.Errorf("prefix %s: want HOST[:PORT][/NAME...]", oci.Short(p))
			}
		}
	}
	return nil
}

// isPrefix: a registry's host, and perhaps the start of a repository's path.
var isPrefix = sync.OnceValue(func() *regexp.Regexp {
	const part = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
	return regexp.MustCompile("^" + reference.DomainRegexp.String() + "(?:/" + part + ")*$")
})

// accepts tells whether signed, the name in a signature, is the right one for an image that the user called image;
// nil is an image without such a name, as one in a layout.
func (m identity) accepts(image reference.Named, signed string) bool {
	its, err := reference.ParseNormalizedNamed(signed)
	if err != nil {
		return false
	}
	switch m.kind {
	case "exactReference", "exactRepository":
		if image, err = reference.ParseNormalizedNamed(m.reference); err != nil {
			return false
		}
	case "remapIdentity":
		if image, err = m.remap(image); err != nil {
			return false
		}
	}
	if image == nil {
		return false
	}
	switch m.kind {
	case "matchRepository", "exactRepository":
		return its.Name() == image.Name()
	case "matchRepoDigestOrExact", "remapIdentity":
		return repoDigestOrExact(image, its)
	case "matchNamed":
		return named(image, its)
	case "matchExact", "exactReference":
		// No tag is made up for either: a signature for a bare name says nothing of a tag.
		return !reference.IsNameOnly(its) && !reference.IsNameOnly(image) && its.String() == image.String()
	}
	return false
}

// repoDigestOrExact: the very name; but for an image that is called by its digest the repository, for the digest was
// compared already.
func repoDigestOrExact(image, signed reference.Named) bool {
	if reference.IsNameOnly(signed) {
		return false
	}
	if _, tagged := image.(reference.Tagged); tagged {
		return signed.String() == image.String()
	}
	_, digested := image.(reference.Digested)
	return digested && signed.Name() == image.Name()
}

// remap gives an image of a mirror the name that its original has.
func (m identity) remap(image reference.Named) (reference.Named, error) {
	if image == nil || image.Name() != m.prefix && !strings.HasPrefix(image.Name(), m.prefix+"/") {
		return image, nil
	}
	return reference.ParseNamed(m.signedPrefix + strings.TrimPrefix(image.String(), m.prefix))
}

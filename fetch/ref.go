package fetch

import (
	"fmt"
	"net/netip"
	"strings"

	"cove/fetch/image"
	"cove/fetch/oci"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// target is a reference, taken apart.
type target struct {
	image.Target
	named reference.Named // ViaRegistry: with a tag or digest
	asked reference.Named // the same as it was written, where a lock has put another digest into named; else nil
}

// parse takes a reference apart.
func parse(ref string) (*target, error) { return parseLocked(ref, nil) }

// parseLocked is parse for an image that is locked: in a registry its digest is what is asked for.
func parseLocked(ref string, locked *image.Locked) (*target, error) {
	t := &target{}
	plain, err := image.Parse(ref, func(name string) (*image.Target, error) {
		return locked.Target(name, func(name string) (*image.Target, error) {
			named, err := reference.ParseNormalizedNamed(name)
			if err != nil {
				return nil, fmt.Errorf("reference %q: %w", name, err)
			}
			t.asked, t.named = t.named, withOneTag(named) // when it is called again, it is with the lock's digest
			return registryTarget(name, t.named), nil
		})
	})
	if err != nil {
		return nil, err
	}
	t.Target = *plain
	return t, nil
}

func registryTarget(name string, named reference.Named) *image.Target {
	t := &image.Target{Via: image.ViaRegistry, Text: named.String()}
	if image.IsShort(name) {
		t.Text = name
	}
	if d, ok := named.(reference.Digested); ok {
		t.Pinned = oci.Digest(d.Digest())
	}
	return t
}

// withOneTag adds ":latest" where there is neither tag nor digest; of a tag and a digest the
// digest is what counts.
func withOneTag(named reference.Named) reference.Named {
	if d, ok := named.(reference.Digested); ok {
		if c, err := reference.WithDigest(reference.TrimNamed(named), d.Digest()); err == nil {
			return c
		}
	}
	return reference.TagNameOnly(named)
}

// candidates are the full references that a registry reference may mean, in order.
func candidates(sys *types.SystemContext, t *target) ([]reference.Named, error) {
	if !image.IsShort(t.Text) {
		return []reference.Named{t.named}, nil
	}
	typed, err := reference.Parse(t.Text)
	if err != nil {
		return nil, fmt.Errorf("reference %q: %w", t.Text, err)
	}
	repo, ok := typed.(reference.Named)
	if !ok {
		return nil, fmt.Errorf("reference %q names no repository", t.Text)
	}
	alias, _, err := sysregistriesv2.ResolveShortNameAlias(sys, reference.TrimNamed(repo).String())
	if err != nil {
		return nil, fmt.Errorf("short name %q: %w", t.Text, err)
	}
	if alias != nil {
		named, err := sameTag(alias, t.named)
		return []reference.Named{named}, err
	}
	registries, err := sysregistriesv2.UnqualifiedSearchRegistries(sys)
	if err != nil {
		return nil, fmt.Errorf("short name %q: %w", t.Text, err)
	}
	if len(registries) == 0 {
		return []reference.Named{t.named}, nil // docker.io/library
	}
	var out []reference.Named
	for _, r := range registries {
		base, err := reference.ParseNormalizedNamed(r + "/" + reference.TrimNamed(repo).String())
		if err != nil {
			return nil, fmt.Errorf("short name %q in registry %q: %w", t.Text, r, err)
		}
		named, err := sameTag(base, t.named)
		if err != nil {
			return nil, err
		}
		out = append(out, named)
	}
	mode, err := sysregistriesv2.GetShortNameMode(sys)
	if err != nil {
		return nil, err
	}
	// Asking one registry after the other lets the first one answer for any name; "enforcing"
	// forbids it without asking the user, and cove does not ask.
	if len(out) > 1 && mode == types.ShortNameModeEnforcing {
		return nil, fmt.Errorf("short name %q may mean %s: write it in full (registries.conf has short-name-mode enforcing)", t.Text, joinNames(out))
	}
	return out, nil
}

func joinNames(names []reference.Named) string {
	var parts []string
	for _, n := range names {
		parts = append(parts, n.String())
	}
	return strings.Join(parts, ", ")
}

// sameTag gives base the tag or digest of like.
func sameTag(base, like reference.Named) (reference.Named, error) {
	base = reference.TrimNamed(base)
	switch l := like.(type) {
	case reference.Canonical:
		return reference.WithDigest(base, l.Digest())
	case reference.NamedTagged:
		return reference.WithTag(base, l.Tag())
	}
	return reference.TagNameOnly(base), nil
}

// isLoopback tells whether a registry's host, as written, is this machine. A name that resolves
// to loopback does not count: whoever answers for the name could change that.
func isLoopback(hostport string) bool {
	host := hostport
	if strings.HasPrefix(host, "[") {
		host, _, _ = strings.Cut(host[1:], "]")
	} else {
		host, _, _ = strings.Cut(host, ":")
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

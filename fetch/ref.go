package fetch

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

type transport string

const (
	viaHost          transport = "host"
	viaDir           transport = "dir"
	viaRegistry      transport = "docker"
	viaOCI           transport = "oci"
	viaOCIArchive    transport = "oci-archive"
	viaDockerArchive transport = "docker-archive"
)

// target is a reference, taken apart.
type target struct {
	via   transport
	text  string          // what names it in the store: canonical, or as typed when short
	short bool            // a registry reference without a registry
	named reference.Named // viaRegistry: with a tag or digest
	path  string          // the others: absolute
	tag   string          // the rest of it, may be ""
}

// parse takes a reference apart. It looks at the file system only to tell a path's colons from
// the one before a tag.
func parse(ref string) (*target, error) {
	if ref == "host" {
		return &target{via: viaHost, text: ref}, nil
	}
	scheme, rest, ok := strings.Cut(ref, ":")
	if ok {
		switch via := transport(scheme); via {
		case viaDir, viaOCI, viaOCIArchive, viaDockerArchive:
			return parsePath(via, rest)
		case "docker":
			if name, ok := strings.CutPrefix(rest, "//"); ok {
				return parseRegistry(name)
			}
		case "docker-daemon", "containers-storage", "ostree", "sif", "atomic", "tarball":
			return nil, fmt.Errorf("transport %q is none of ours (docker, oci, oci-archive, docker-archive, dir, host)", scheme)
		}
	}
	return parseRegistry(ref)
}

// parsePath splits PATH[:TAG]. Both may hold colons; the longest PATH that exists is meant.
func parsePath(via transport, rest string) (*target, error) {
	if rest == "" || strings.IndexByte(rest, 0) >= 0 {
		return nil, fmt.Errorf("%s: needs a path", via)
	}
	path, tag := rest, ""
	if via != viaDir {
		for {
			if _, err := os.Lstat(path); err == nil || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errNotDir) {
				break
			}
			i := strings.LastIndexByte(path, ':')
			if i <= 0 {
				path, tag, _ = strings.Cut(rest, ":") // to be told as missing
				break
			}
			path, tag = path[:i], rest[i+1:]
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	t := &target{via: via, path: abs, tag: tag, text: string(via) + ":" + abs}
	if tag != "" {
		t.text += ":" + tag
	}
	return t, nil
}

func parseRegistry(name string) (*target, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, fmt.Errorf("reference %q: %w", name, err)
	}
	t := &target{via: viaRegistry, named: withOneTag(named), short: isShort(name)}
	t.text = t.named.String()
	if t.short {
		t.text = name
	}
	return t, nil
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

// isShort tells a name that does not say its registry, as docker has it: the first component is
// a host when it holds a dot or a colon, or is localhost.
func isShort(name string) bool {
	host, _, ok := strings.Cut(name, "/")
	return !ok || !strings.ContainsAny(host, ".:") && host != "localhost"
}

// wantDigest returns the digest that the reference itself pins.
func (t *target) wantDigest() (digest.Digest, bool) {
	if t.via != viaRegistry {
		return "", false
	}
	d, ok := t.named.(reference.Digested)
	if !ok {
		return "", false
	}
	return d.Digest(), true
}

// candidates are the full references that a registry reference may mean, in order.
func candidates(sys *types.SystemContext, t *target) ([]reference.Named, error) {
	if !t.short {
		return []reference.Named{t.named}, nil
	}
	typed, err := reference.Parse(t.text)
	if err != nil {
		return nil, fmt.Errorf("reference %q: %w", t.text, err)
	}
	repo, ok := typed.(reference.Named)
	if !ok {
		return nil, fmt.Errorf("reference %q names no repository", t.text)
	}
	alias, _, err := sysregistriesv2.ResolveShortNameAlias(sys, reference.TrimNamed(repo).String())
	if err != nil {
		return nil, fmt.Errorf("short name %q: %w", t.text, err)
	}
	if alias != nil {
		named, err := sameTag(alias, t.named)
		return []reference.Named{named}, err
	}
	registries, err := sysregistriesv2.UnqualifiedSearchRegistries(sys)
	if err != nil {
		return nil, fmt.Errorf("short name %q: %w", t.text, err)
	}
	if len(registries) == 0 {
		return []reference.Named{t.named}, nil // docker.io/library
	}
	var out []reference.Named
	for _, r := range registries {
		base, err := reference.ParseNormalizedNamed(r + "/" + reference.TrimNamed(repo).String())
		if err != nil {
			return nil, fmt.Errorf("short name %q in registry %q: %w", t.text, r, err)
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
		return nil, fmt.Errorf("short name %q may mean %s: write it in full (registries.conf has short-name-mode enforcing)", t.text, joinNames(out))
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

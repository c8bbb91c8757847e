package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Approved is what the user's own config.toml agrees to for whatever project wants it. A pattern covers what lies wholly
// within it and nothing that only looks so: names are compared label by label, paths without links, and what cannot be
// said for certain is not covered, and so is asked for.
type Approved struct {
	Registries []string // HOST[:PORT][/PATH], or *.HOST for the names below it, in lower case
	Hosts      []Egress
	Paths      []ApprovedPath
}

// ApprovedPath is a file, or a folder with all that is in it, which may be mounted.
type ApprovedPath struct {
	Path     string // absolute, clean, without links
	Writable bool
}

func (a Approved) pathTexts() []string {
	out := []string{}
	for _, one := range a.Paths {
		mode := ":ro"
		if one.Writable {
			mode = ":rw"
		}
		out = append(out, one.Path+mode)
	}
	return out
}

// approvedBy is where the user agreed to a grant before any question; false when nobody did.
func (p *Profile) approvedBy(g Grant) (Origin, bool) {
	key, i := "", -1
	switch {
	case g.Registry != "":
		key = "trust.registries"
		i = slices.IndexFunc(p.Approved.Registries, func(pattern string) bool { return registryCovers(pattern, g.Registry, g.image) })
	case g.egress != nil:
		key = "trust.hosts"
		i = slices.IndexFunc(p.Approved.Hosts, func(own Egress) bool { return own.covers(*g.egress) })
	case g.mount != nil:
		key = "trust.paths"
		i = slices.IndexFunc(p.Approved.Paths, func(own ApprovedPath) bool { return own.covers(*g.mount) })
	}
	if i < 0 {
		return Origin{}, false
	}
	return p.OriginOf(elementOf(key, i)), true
}

// covers holds the mount against the path once more: a link that was put there since leads elsewhere.
func (a ApprovedPath) covers(m Mount) bool {
	real, ok := quietPath(m.Source)
	return ok && real == m.Source && inside(a.Path, real) && (a.Writable || m.Mode == "ro")
}

// covers says whether every connection that other opens is opened by e too.
func (e Egress) covers(other Egress) bool {
	if other.Any || e.Any || e.Proto != other.Proto {
		return false
	}
	if e.FromPort != 0 && (other.FromPort < e.FromPort || other.ToPort > e.ToPort) { // 0, every port, is below any
		return false
	}
	if e.Name == "" || other.Name == "" {
		return e.Name == other.Name && len(e.Address) == len(other.Address) && e.Bits <= other.Bits && samePrefix(e.Address, other.Address, e.Bits)
	}
	if !e.Below {
		return !other.Below && e.Name == other.Name
	}
	return other.Below && e.Name == other.Name || strings.HasSuffix(other.Name, "."+e.Name)
}

func samePrefix(a, b []byte, bits int) bool {
	for i := range bits {
		if mask := byte(0x80 >> (i % 8)); a[i/8]&mask != b[i/8]&mask {
			return false
		}
	}
	return true
}

// registryCovers compares a pattern with the registry of an image, and with the image's name there when the pattern has a path.
func registryCovers(pattern, registry, image string) bool {
	host, path, hasPath := strings.Cut(pattern, "/")
	registry = strings.ToLower(registry)
	if below, ok := strings.CutPrefix(host, "*."); ok {
		if !strings.HasSuffix(registry, "."+below) {
			return false
		}
	} else if registry != host {
		return false
	}
	if !hasPath {
		return true
	}
	name, _, _ := strings.Cut(image, "@")
	slash := strings.LastIndexByte(name, '/')
	if colon := strings.IndexByte(name[slash+1:], ':'); colon >= 0 {
		name = name[:slash+1+colon]
	}
	first, rest, _ := strings.Cut(name, "/")
	if strings.ToLower(first) == registry {
		name = rest
	}
	if registry == "docker.io" && !strings.Contains(name, "/") {
		name = "library/" + name
	}
	return name == path || strings.HasPrefix(name, path+"/")
}

func setTrustRegistries(p *Profile, c *change) {
	approve(p, c, &p.Approved.Registries, `["docker.io", "ghcr.io/me"]`, func(s string) (string, error) {
		host, path, hasPath := strings.Cut(s, "/")
		name, below := strings.CutPrefix(strings.ToLower(host), "*.")
		if err := tooWide(name, below); err != nil {
			return "", err
		}
		if hasPath {
			if err := checkReference(name + "/" + path); err != nil {
				return "", err
			}
			if strings.ContainsAny(path, ":@") {
				return "", errors.New("want a registry, or a part of its names, without a tag or digest")
			}
		} else if err := checkReference(name + "/x"); err != nil {
			return "", err
		}
		if registryOf(name+"/x") != name {
			return "", fmt.Errorf("%q is no registry's name: it has no dot and no port", host)
		}
		return strings.ToLower(host) + s[len(host):], nil
	})
}

func setTrustHosts(p *Profile, c *change) {
	approve(p, c, &p.Approved.Hosts, `["proxy.golang.org:443"]`, func(s string) (Egress, error) {
		e, err := ParseEgress(s)
		if err == nil && e.Any {
			err = errors.New("is everything; to be asked for nothing that a profile wants of the network is not to be had")
		}
		if err == nil {
			err = tooWide(e.Name, e.Below)
		}
		return e, err
	})
}

// tooWide refuses a pattern for all names below a top-level domain.
func tooWide(name string, below bool) error {
	if host, _, _ := cutPort(name); below && !strings.Contains(host, ".") {
		return fmt.Errorf("is wider than anybody's domain; name one: *.example.%s", host)
	}
	return nil
}

func setTrustPaths(p *Profile, c *change) {
	approve(p, c, &p.Approved.Paths, `["~/.cache/go-build:rw", "~/data"]`, func(s string) (ApprovedPath, error) {
		one := ApprovedPath{}
		if path, ok := strings.CutSuffix(s, ":rw"); ok {
			s, one.Writable = path, true
		} else {
			s = strings.TrimSuffix(s, ":ro")
		}
		path, err := parseSource(s, "", p.home)
		if err != nil {
			return one, err
		}
		real, ok := realPath(path)
		if !ok {
			return one, errors.New("nobody can say where it leads: there is a link to nothing, or a folder that you cannot read")
		}
		home, _ := realPath(p.home)
		if inside(real, home) {
			return one, errors.New("holds your home folder, and so everything that you have; name what projects may have of it")
		}
		one.Path = real
		return one, nil
	})
}

// approve reads a list of patterns, which the user's own file alone may hold.
func approve[E any](p *Profile, c *change, into *[]E, example string, read func(string) (E, error)) {
	if c.origin(c.key).Kind != FromUser {
		c.bad(c.key, c.value, "this is for your own config.toml alone")
		return
	}
	setEach(p, c, into, example, read)
}

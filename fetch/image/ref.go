package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"cove/fetch/oci"
)

// Transport is how the files of an image are come by: the word before the colon of a reference.
type Transport string

const (
	ViaHost          Transport = "host"
	ViaDir           Transport = "dir"
	ViaRegistry      Transport = "docker"
	ViaOCI           Transport = "oci"
	ViaOCIArchive    Transport = "oci-archive"
	ViaDockerArchive Transport = "docker-archive"
)

// Target is a reference, taken apart.
type Target struct {
	Via    Transport
	Text   string     // what names it in the store: canonical, or as typed when short
	Pinned oci.Digest // ViaRegistry: the digest that the reference itself has, or ""
	Asked  string     // ViaRegistry: Text as it would be without the lock that has put Pinned there, or ""
	Path   string     // the others: absolute
	Tag    string     // the rest of it, may be ""
	Typed  string     // ViaRegistry: the ":TAG" in whose place a lock has put Pinned, or ""
}

// Parse takes a reference apart, with registry for one that names an image in a registry. It looks at
// the file system only to tell a path's colons from the one before a tag.
func Parse(ref string, registry func(name string) (*Target, error)) (*Target, error) {
	if ref == "host" {
		return &Target{Via: ViaHost, Text: ref}, nil
	}
	scheme, rest, ok := strings.Cut(ref, ":")
	if ok {
		switch via := Transport(scheme); via {
		case ViaDir, ViaOCI, ViaOCIArchive, ViaDockerArchive:
			return parsePath(via, rest)
		case ViaRegistry:
			if name, ok := strings.CutPrefix(rest, "//"); ok {
				return registry(name)
			}
		case "docker-daemon", "containers-storage", "ostree", "sif", "atomic", "tarball":
			return nil, fmt.Errorf("transport %q is none of ours (docker, oci, oci-archive, docker-archive, dir, host)", scheme)
		}
	}
	return registry(ref)
}

// parsePath splits PATH[:TAG]. Both may hold colons; the longest PATH that exists is meant.
func parsePath(via Transport, rest string) (*Target, error) {
	if rest == "" || strings.IndexByte(rest, 0) >= 0 {
		return nil, fmt.Errorf("%s: needs a path", via)
	}
	path, tag := rest, ""
	if via != ViaDir {
		for {
			// ENOTDIR is what a path through a file gives.
			if _, err := os.Lstat(path); err == nil || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
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
	t := &Target{Via: via, Path: abs, Tag: tag, Text: string(via) + ":" + abs}
	if tag != "" {
		t.Text += ":" + tag
	}
	return t, nil
}

// IsShort tells a name that does not say its registry, as docker has it: the first component is
// a host when it holds a dot or a colon, or is localhost.
func IsShort(name string) bool {
	host, _, ok := strings.Cut(name, "/")
	return !ok || !strings.ContainsAny(host, ".:") && host != "localhost"
}

// LocalHost is the registry in the names of images that were made here and come from none, as podman has it.
const LocalHost = "localhost"

// IsLocal tells such a name, which no registry is asked for. "localhost:5000/..." is a registry's.
func IsLocal(ref string) bool { return strings.HasPrefix(ref, LocalHost+"/") }

// ParseName reads the names of images that people write, by the grammar of
// go.podman.io/image/docker/reference, whose regular expressions take a millisecond to compile. What
// is odd, as another algorithm's digest or a domain that is none, it leaves to that package, and what is wrong. What it does
// read it reads the same: FuzzReference, in package fetch, compares them.
func ParseName(name string) (*Target, error) {
	rest, pinned, isPinned := strings.Cut(name, "@")
	if isPinned && oci.Digest(pinned).Validate() != nil || isIdentifier(name) {
		return nil, ErrUnresolved
	}
	domain, repo, tag := "docker.io", rest, "latest"
	if first, below, ok := strings.Cut(rest, "/"); ok && !IsShort(rest) {
		if !isDomain(first) {
			return nil, ErrUnresolved
		}
		domain, repo = first, below
		if domain == "index.docker.io" {
			domain = "docker.io"
		}
	}
	repo, typedTag, ok := strings.Cut(repo, ":")
	if ok {
		tag = typedTag
	}
	if domain == "docker.io" && !strings.Contains(repo, "/") {
		repo = "library/" + repo
	}
	const longest = 255 // NameTotalLengthMax there
	if !isRepository(repo) || len(domain+"/"+repo) > longest || !isTag(tag) {
		return nil, ErrUnresolved
	}
	t := &Target{Via: ViaRegistry, Text: domain + "/" + repo + ":" + tag, Pinned: oci.Digest(pinned)}
	if isPinned { // of a tag and a digest the digest is what counts
		t.Text = domain + "/" + repo + "@" + pinned
	}
	if IsShort(name) {
		t.Text = name
	}
	return t, nil
}

// isIdentifier tells the 64 hexadecimal digits that no repository may be called.
func isIdentifier(s string) bool { return len(s) == 64 && oci.FromEncoded(s).Validate() == nil }

func isLower(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
func isAlnum(c byte) bool { return isLower(c) || c >= 'A' && c <= 'Z' }

// every tells whether all bytes of s are so, and s is not empty.
func every(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return s != ""
}

// isDomain: host[:port], the host's labels of letters, digits and inner dashes.
func isDomain(s string) bool {
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && !every(port, func(c byte) bool { return c >= '0' && c <= '9' }) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if !every(label, func(c byte) bool { return isAlnum(c) || c == '-' }) || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// isRepository: components of lower-case letters and digits, with one dot, one or two underscores,
// or any number of dashes between those.
func isRepository(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !isComponent(part) {
			return false
		}
	}
	return true
}

func isComponent(s string) bool {
	for i := 0; i < len(s); {
		if !isLower(s[i]) {
			return false // at the start, or after a separator
		}
		for i < len(s) && isLower(s[i]) {
			i++
		}
		if i == len(s) {
			return true
		}
		start := i
		for i < len(s) && s[i] == s[start] {
			i++
		}
		switch n := i - start; {
		case s[start] == '-', s[start] == '.' && n == 1, s[start] == '_' && n <= 2:
		default:
			return false
		}
	}
	return false // empty, or a separator at the end
}

func isTag(s string) bool {
	word := func(c byte) bool { return isAlnum(c) || c == '_' }
	return every(s, func(c byte) bool { return word(c) || c == '.' || c == '-' }) && word(s[0]) && len(s) <= 128
}

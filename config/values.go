package config

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// checkEnvName refuses what the kernel's environment block cannot hold as a name.
func checkEnvName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of a variable is empty")
	case strings.ContainsAny(name, "=\x00"):
		return errors.New("the name of a variable cannot hold = or NUL")
	}
	return nil
}

// checkTarget takes an absolute path inside that cove has not filled itself.
func checkTarget(target string) error {
	switch {
	case strings.Contains(target, "\x00"):
		return errors.New("holds a NUL")
	case !path.IsAbs(target):
		return errors.New("want an absolute path")
	case path.Clean(target) != target:
		return fmt.Errorf("not a clean path; write %q", path.Clean(target))
	case target == "/":
		return errors.New("the root of the sandbox cannot be covered")
	}
	for _, taken := range []string{"/proc", "/sys", "/dev"} {
		if target == taken || strings.HasPrefix(target, taken+"/") {
			return fmt.Errorf("%s is the sandbox's own and cannot be covered", taken)
		}
	}
	return nil
}

// parseTarget takes what checkTarget takes, and ~ or ~/... for the home inside. A slash at the end is only a habit.
func parseTarget(target string) (string, error) {
	if target == "" {
		return "", errors.New("is empty")
	}
	if target != "/" {
		target = strings.TrimRight(target, "/")
	}
	rest, inHome := strings.CutPrefix(target, "~")
	if !inHome {
		return target, checkTarget(target)
	}
	switch {
	case strings.Contains(target, "\x00"):
		return "", errors.New("holds a NUL")
	case rest != "" && rest[0] != '/':
		return "", errors.New(`only "~/" is known, no other user's home`)
	case rest != "" && (path.Clean(rest) != rest || rest == "/"):
		return "", fmt.Errorf("not a clean path; write %q", strings.TrimRight("~"+path.Clean(rest), "/"))
	}
	return target, nil
}

// parseSource makes a path outside absolute. base is "" where relative paths have no meaning.
func parseSource(source, base, home string) (string, error) {
	switch {
	case source == "":
		return "", errors.New("is empty")
	case strings.Contains(source, "\x00"):
		return "", errors.New("holds a NUL")
	case source == "~" || strings.HasPrefix(source, "~/"):
		if !filepath.IsAbs(home) {
			return "", errors.New("HOME is not set to an absolute path, so ~ has no meaning")
		}
		return filepath.Join(home, source[1:]), nil
	case strings.HasPrefix(source, "~"):
		return "", errors.New(`only "~/" is known, no other user's home`)
	case filepath.IsAbs(source):
		return filepath.Clean(source), nil
	case base == "":
		return "", errors.New("want an absolute path or ~/...; a relative one has no meaning here")
	case source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../"):
		return filepath.Join(base, source), nil
	}
	return "", fmt.Errorf("want an absolute path, ~/... or ./...; did you mean %q?", "./"+source)
}

// parseProtect takes a path inside the project.
func parseProtect(p string) (string, error) {
	switch {
	case p == "":
		return "", errors.New("is empty")
	case strings.Contains(p, "\x00"):
		return "", errors.New("holds a NUL")
	case path.IsAbs(p) || strings.HasPrefix(p, "~"):
		return "", errors.New("want a path relative to the project folder")
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return "", errors.New("leaves the project folder")
		}
	}
	clean := path.Clean(p)
	if clean == "." {
		return "", errors.New(`is the whole project; workspace.mode = "ro" does that`)
	}
	return clean, nil
}

// archives are the transports that name a path of this machine.
var archives = []string{"oci", "oci-archive", "docker-archive", "dir"}

// parseImage checks what names an image, and makes its path absolute when it has one.
func parseImage(image, base, home string) (string, error) {
	switch {
	case image == "":
		return "", errors.New("is empty")
	case strings.Contains(image, "\x00"):
		return "", errors.New("holds a NUL")
	case image == "host":
		return image, nil
	}
	scheme, rest, _ := strings.Cut(image, ":")
	for _, known := range archives {
		if scheme == known {
			return parseArchive(scheme, rest, base, home)
		}
	}
	ref := strings.TrimPrefix(image, "docker://")
	switch scheme {
	case "containers-storage", "docker-daemon", "ostree", "sif", "tarball", "http", "https", "file":
		return "", fmt.Errorf("%s: is not known (a registry reference, host, %s:)", scheme, strings.Join(archives, ":, "))
	}
	if err := checkReference(ref); err != nil {
		return "", err
	}
	return ref, nil
}

func parseArchive(scheme, rest, base, home string) (string, error) {
	switch {
	case rest == "":
		return "", fmt.Errorf("%s: names no path", scheme)
	case rest == "~" || strings.HasPrefix(rest, "~/"):
		if !filepath.IsAbs(home) {
			return "", errors.New("HOME is not set to an absolute path, so ~ has no meaning")
		}
		rest = home + rest[1:]
	case filepath.IsAbs(rest):
	case base == "":
		return "", errors.New("want an absolute path; a relative one has no meaning here")
	default:
		rest = strings.TrimSuffix(base, "/") + "/" + strings.TrimPrefix(rest, "./")
	}
	if scheme == "dir" {
		rest = filepath.Clean(rest)
	}
	return scheme + ":" + rest, nil
}

// checkReference takes [REGISTRY[:PORT]/]NAME[:TAG][@DIGEST], the grammar of github.com/distribution/reference, which
// compiles its regular expressions at every start. Package fetch looks at it again.
func checkReference(ref string) error {
	name, digest, hasDigest := strings.Cut(ref, "@")
	if hasDigest {
		algorithm, hex, ok := strings.Cut(digest, ":")
		size := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
		if !ok || size == 0 || len(hex) != size || !only(hex, "0123456789abcdef") {
			return fmt.Errorf("%q is not a digest: sha256: and 64 hexadecimal digits, or sha512: and 128", digest)
		}
	}
	slash := strings.LastIndexByte(name, '/')
	if colon := strings.IndexByte(name[slash+1:], ':'); colon >= 0 {
		tag := name[slash+1+colon+1:]
		name = name[:slash+1+colon]
		if tag == "" || len(tag) > 128 || tag[0] == '.' || tag[0] == '-' || !only(tag, letters+capitals+digits+"_.-") {
			return fmt.Errorf("%q is not a tag", tag)
		}
	}
	registry := registryOf(name)
	rest := strings.TrimPrefix(name, registry+"/")
	host, port, hasPort := cutPort(registry)
	if host == "" || hasPort && (port == "" || !only(port, digits)) || !only(host, letters+capitals+digits+".-[]:") {
		return fmt.Errorf("%q is not a registry", registry)
	}
	if len(name) > 255 {
		return errors.New("the name is longer than 255 bytes")
	}
	for part := range strings.SplitSeq(rest, "/") {
		if strings.ToLower(part) != part && only(strings.ToLower(part), letters+digits+"._-") {
			return fmt.Errorf("%q: the name of an image is in lower case", part)
		}
		if part == "" || !only(part, letters+digits+"._-") || strings.ContainsRune("._-", rune(part[0])) || strings.ContainsRune("._-", rune(part[len(part)-1])) {
			return fmt.Errorf("%q is not part of an image's name (a registry reference, host, %s:)", part, strings.Join(archives, ":, "))
		}
	}
	return nil
}

const (
	letters  = "abcdefghijklmnopqrstuvwxyz"
	capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
)

func only(s, set string) bool { return !strings.ContainsFunc(s, notIn(set)) }

func notIn(set string) func(rune) bool {
	return func(r rune) bool { return !strings.ContainsRune(set, r) }
}

// cutPort splits registry:port; the colons of [::1] are not meant.
func cutPort(registry string) (host, port string, ok bool) {
	if colon := strings.LastIndexByte(registry, ':'); colon > strings.LastIndexByte(registry, ']') {
		return registry[:colon], registry[colon+1:], true
	}
	return registry, "", false
}

// registryOf is the registry that a reference names; docker.io when it names none, as everywhere.
func registryOf(ref string) string {
	first, _, ok := strings.Cut(ref, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first) {
		return first
	}
	return "docker.io"
}

// RegistryImage is the full name of an image of a registry that is written as docker has it, for whom one without a registry is
// of docker.io. What is no reference, or names something else than an image of a registry, is an error.
func RegistryImage(text string) (string, error) {
	scheme, _, _ := strings.Cut(text, ":")
	if text == "host" || slices.Contains(archives, scheme) {
		return "", fmt.Errorf("%q is no image of a registry", text)
	}
	if err := checkReference(text); err != nil {
		return "", err
	}
	switch first, _, ok := strings.Cut(text, "/"); {
	case ok && registryOf(text) == first:
		return text, nil
	case ok:
		return "docker.io/" + text, nil
	}
	return "docker.io/library/" + text, nil
}

// CheckTarget says whether a path inside can be mounted on.
func CheckTarget(target string) error { return checkTarget(target) }

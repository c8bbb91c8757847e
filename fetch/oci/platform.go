package oci

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// Platform is what an image runs on (image-spec image-index.md, "platform").
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// ParsePlatform reads "os/arch[/variant]", or "arch" alone; "" is this machine's.
func ParsePlatform(s string) (Platform, error) {
	p := Platform{OS: "linux", Architecture: runtime.GOARCH}
	if s != "" {
		parts := strings.Split(s, "/")
		if len(parts) == 1 {
			parts = []string{"linux", parts[0]}
		}
		if len(parts) > 3 || slices.Contains(parts, "") {
			return p, fmt.Errorf("platform %q is not os/arch or os/arch/variant", s)
		}
		p.OS, p.Architecture = parts[0], parts[1]
		if len(parts) == 3 {
			p.Variant = parts[2]
		}
	}
	return p.Normalize(), nil
}

// Normalize gives the names that people and uname(1) use the ones that images use.
func (p Platform) Normalize() Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "i386", "i686", "x86":
		p.Architecture = "386"
	case "armhf", "armv7l":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "arm64" && (p.Variant == "v8" || p.Variant == "8"),
		p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Serves tells how well an image for p runs where want is: 0 not at all, more is better.
func (p Platform) Serves(want Platform) int {
	have, want := p.Normalize(), want.Normalize()
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	if have.Variant == want.Variant {
		return 100
	}
	// Variants are supersets of the ones before them: v6 code runs on v7, v1 (no variant) on v3.
	h, w := VariantNumber(have.Variant), VariantNumber(want.Variant)
	if h > w {
		return 0
	}
	return 1 + h
}

// VariantNumber is N of a variant "vN", and 0 where there is none.
func VariantNumber(v string) int {
	if len(v) == 2 && v[0] == 'v' && v[1] >= '0' && v[1] <= '9' {
		return int(v[1] - '0')
	}
	if v == "" {
		return 0
	}
	return 90 // of an unknown kind: fits itself only
}

// A PlatformError says that an image is not there for the platform that was asked for.
type PlatformError struct {
	Want string
	Have []string
}

func (e *PlatformError) Error() string {
	if len(e.Have) == 0 {
		return fmt.Sprintf("no image for %s", e.Want)
	}
	const shown = 20
	have, more := e.Have, ""
	if len(have) > shown {
		have, more = have[:shown], fmt.Sprintf(" and %d more", len(have)-shown)
	}
	return fmt.Sprintf("no image for %s; there is %s%s", e.Want, strings.Join(have, ", "), more)
}

// Choose picks an index's best entry for want.
func Choose(ms []Descriptor, want Platform) (Descriptor, error) {
	best, at := 0, -1
	var have []string
	seen := map[string]bool{}
	for i, m := range ms {
		if m.Platform == nil {
			continue
		}
		if m.Platform.OS == "unknown" || m.Annotations["vnd.docker.reference.type"] != "" {
			continue // an attestation
		}
		if s := Clean(m.Platform.String()); !seen[s] {
			seen[s] = true
			have = append(have, s[:min(len(s), 100)])
		}
		if fit := m.Platform.Serves(want); fit > best {
			best, at = fit, i
		}
	}
	if at >= 0 {
		return ms[at], nil
	}
	if len(ms) == 1 && ms[0].Platform == nil {
		return ms[0], nil // its config will tell
	}
	return Descriptor{}, &PlatformError{Want: want.String(), Have: have}
}

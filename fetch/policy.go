package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cove/fetch/image"

	"go.podman.io/image/v5/docker/reference"
)

// policy is the part of containers-policy.json(5) that can be answered without signatures.
type policy struct {
	Default    []requirement                       `json:"default"`
	Transports map[string]map[string][]requirement `json:"transports"`
}

type requirement struct {
	Type string `json:"type"`
}

// A PolicyError says that the machine's policy.json does not let an image in.
type PolicyError struct {
	File string
	Why  string
}

func (e *PolicyError) Error() string { return fmt.Sprintf("refused by %s: %s", e.File, e.Why) }

// checkPolicy asks policy.json. A machine without one accepts everything, as a fresh install of
// the file does. What asks for a signature cannot be given here, and is not passed over.
func checkPolicy(t *target, named reference.Named) error {
	file, data, err := readPolicy()
	if err != nil || data == nil {
		return err
	}
	var p policy
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	reqs := p.requirements(t, named)
	if len(reqs) == 0 {
		return &PolicyError{file, "it says nothing for this image (no default)"}
	}
	for _, r := range reqs {
		switch r.Type {
		case "insecureAcceptAnything":
		case "reject":
			return &PolicyError{file, "reject"}
		case "signedBy", "signedBaseLayer", "sigstoreSigned":
			return &PolicyError{file, fmt.Sprintf("it asks for a signature (%s), and cove cannot check signatures: this protection cannot be given", r.Type)}
		default:
			return &PolicyError{file, fmt.Sprintf("it asks for %q, which cove does not know", r.Type)}
		}
	}
	return nil
}

func readPolicy() (string, []byte, error) {
	var files []string
	config := os.Getenv("XDG_CONFIG_HOME")
	if home, err := os.UserHomeDir(); err == nil && !filepath.IsAbs(config) {
		config = filepath.Join(home, ".config")
	}
	if config != "" {
		files = append(files, filepath.Join(config, "containers", "policy.json"))
	}
	files = append(files, "/etc/containers/policy.json")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil {
			return f, data, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir) {
			return "", nil, err
		}
	}
	return "", nil, nil
}

// requirements finds the most special scope: the image's own, those above it, the transport's
// "", and the default.
func (p *policy) requirements(t *target, named reference.Named) []requirement {
	scopes := p.Transports[string(t.Via)]
	for _, s := range scopesOf(t, named) {
		if reqs, ok := scopes[s]; ok {
			return reqs
		}
	}
	return p.Default
}

func scopesOf(t *target, named reference.Named) []string {
	var out []string
	if t.Via == image.ViaRegistry {
		out = append(out, named.String(), named.Name())
		host := reference.Domain(named)
		for name := named.Name(); name != host; {
			name = name[:strings.LastIndexByte(name, '/')]
			out = append(out, name)
		}
		// "*.example.com", from the longest on
		bare, _, _ := strings.Cut(host, ":")
		for {
			_, rest, ok := strings.Cut(bare, ".")
			if !ok {
				break
			}
			out = append(out, "*."+rest)
			bare = rest
		}
		return append(out, "")
	}
	if t.Tag != "" {
		out = append(out, t.Path+":"+t.Tag)
	}
	for p := t.Path; p != "/"; p = filepath.Dir(p) {
		out = append(out, p)
	}
	return append(out, "/", "")
}

package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"

	"cove/config"
	"cove/sandbox/seccomp"
	"cove/sandbox/seccomp/seccompfile"
	"cove/sandbox/spec"
)

// defaultPolicy is what the policy is called that no file was given for.
const defaultPolicy = "default"

// ParseSeccomp reads the policy that a profile names; nil when it names none.
func ParseSeccomp(p *config.Profile) (*seccomp.Profile, error) {
	if p.Security.Seccomp.File == "" {
		return nil, nil
	}
	base, err := seccompfile.Parse(p.Security.Seccomp.Data)
	if err != nil {
		return nil, seccompError(p, err)
	}
	return base, nil
}

// seccompOf makes the system call filter of a profile, for a sandbox with caps on a kernel (uname -r).
func seccompOf(p *config.Profile, caps []string, kernel string) (spec.Seccomp, error) {
	native, ok := seccomp.Native()
	if !ok {
		return spec.Seccomp{}, fmt.Errorf("there is no system call filter for %s", runtime.GOARCH)
	}
	c := seccomp.Conditions{Native: native, Caps: caps, Nested: p.Security.Nested}
	// What is no version is older than any.
	_, _ = fmt.Sscanf(kernel, "%d.%d", &c.Kernel[0], &c.Kernel[1])
	out := spec.Seccomp{Policy: defaultPolicy}
	base, err := ParseSeccomp(p)
	if err != nil {
		return out, err
	}
	if base != nil {
		out.Policy, out.Programs32 = spec.Path(p.Security.Seccomp.File), len(base.SubArches(native)) > 0
	}
	if out.Program, err = seccomp.Prepare(base, c); err != nil {
		return out, seccompError(p, err)
	}
	sum := sha256.Sum256(out.Program)
	out.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return out, nil
}

// seccompError says what is wrong with the file.
func seccompError(p *config.Profile, err error) error {
	texts := []string{err.Error()}
	var e *seccompfile.Error
	if errors.As(err, &e) {
		texts = e.Mistakes
	}
	out := &config.ProfileError{File: p.File}
	for _, text := range texts {
		out.Mistakes = append(out.Mistakes, config.Mistake{File: p.ShownAs(p.Security.Seccomp.File), Text: text})
	}
	return out
}

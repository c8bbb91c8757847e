package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cove/sandbox/spec"
)

// A second shell gets the sandbox of the first, however that was started. What it would have had otherwise is told; and
// where it was asked for by hand, a sandbox with less protection, or without what was asked for, is refused.

// The parts of a sandbox, as people are told of them.
const (
	PartFiles        = "files and folders"
	PartNetwork      = "network"
	PartLimits       = "limits"
	PartSecurity     = "security"
	PartUsers        = "users"
	PartHostname     = "hostname"
	PartIntegrations = "integrations"
	PartImage        = "image" // by its own names, not by a hash
	PartName         = "name"  // likewise
	PartAll          = "all"
)

// part is something of a sandbox that all shells in it share.
type part struct {
	Name string `json:"name"` // for people
	Hash string `json:"hash"`
}

// partsOf takes a Spec as Plan made it. Of integrations only which they are: where their sockets lie differs from
// terminal to terminal.
func partsOf(s *spec.Spec) []part {
	type mount struct {
		Kind           spec.MountKind
		Source, Target spec.Path
		ReadOnly       bool
		Size           int64
	}
	var mounts []mount
	for _, m := range s.Mounts {
		mounts = append(mounts, mount{m.Kind, m.Source, m.Target, m.ReadOnly, m.Size})
	}
	security := s.Security
	security.Seccomp.Program = nil // its digest says which it is
	parts := []part{
		of(PartFiles, mounts, s.Protect, s.Repository, s.Landlock, s.Root.ReadOnly, s.Root.Persist),
		of(PartNetwork, s.Network),
		of(PartLimits, s.Limits.MemoryBytes, s.Limits.CPUs, s.Limits.PIDs, s.Limits.TimeoutMS),
		of(PartSecurity, security),
		of(PartUsers, s.IDMap),
		of(PartHostname, s.Hostname),
	}
	if s.Integrations != nil {
		return append(parts, of(PartIntegrations, granted(*s.Integrations)))
	}
	return append(parts, of(PartIntegrations))
}

// granted are integrations without what a terminal has of its own, and without what is found out later.
func granted(i spec.Integrations) spec.Integrations {
	if i.SSHAgent != nil {
		i.SSHAgent = &spec.SSHAgent{Keys: i.SSHAgent.Keys, Confirm: i.SSHAgent.Confirm}
	}
	if i.Wayland != nil {
		i.Wayland = &spec.Wayland{}
	}
	if i.X11 != nil {
		i.X11 = &spec.X11{Trusted: i.X11.Trusted}
	}
	if i.Audio != nil {
		i.Audio = &spec.Audio{Record: i.Audio.Record}
	}
	i.Program, i.Project, i.Files = "", "", nil
	return i
}

func of(name string, values ...any) part {
	b, _ := json.Marshal(values) // plain data
	sum := sha256.Sum256(b)
	return part{Name: name, Hash: hex.EncodeToString(sum[:8])}
}

// A JoinError says that the project's sandbox runs, and is not what was asked for.
type JoinError struct {
	Name string   // the sandbox's
	What []string // the parts that differ
}

func (e *JoinError) Error() string {
	return fmt.Sprintf("join the project's sandbox %q: it was started otherwise than these options say (%s)", e.Name, strings.Join(e.What, ", "))
}

// compare says how the sandbox of r differs from what was planned. A record of an older cove names no parts.
func (o *Options) compare(r *record, s *spec.Spec) error {
	mine := partsOf(s)
	var differs []string
	for _, p := range r.Parts {
		if !slices.Contains(mine, p) && slices.ContainsFunc(mine, func(q part) bool { return q.Name == p.Name }) {
			differs = append(differs, p.Name)
		}
	}
	wanted := o.ByHand
	if slices.Contains(wanted, PartAll) {
		wanted = append(slices.Clone(differs), PartImage)
	}
	refused := slices.DeleteFunc(slices.Clone(differs), func(name string) bool { return !slices.Contains(wanted, name) })
	if slices.Contains(wanted, PartImage) && (r.Image != s.Root.Image || r.Digest != "" && s.Root.Digest != "" && r.Digest != s.Root.Digest) {
		refused = append(refused, PartImage) // otherwise sameImage tells
	}
	if slices.Contains(wanted, PartName) && r.Name != s.Name {
		refused = append(refused, PartName)
	}
	if len(refused) > 0 {
		return &JoinError{Name: r.Name, What: refused}
	}
	if r.Profile != o.ProfileHash {
		o.warn("the profile has changed since this sandbox was started%s: leave every shell of it to get the new one", inBrackets(differs))
	} else if len(differs) > 0 {
		o.warn("this sandbox was started otherwise%s: leave every shell of it to get what is meant now", inBrackets(differs))
	}
	return nil
}

func inBrackets(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

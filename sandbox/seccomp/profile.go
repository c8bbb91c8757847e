package seccomp

import (
	"slices"
)

// Profile is a policy as docker writes it: with rules that depend on the capabilities and the machine. What a file says
// that follows the OCI runtime specification has none of these conditions.
type Profile struct {
	Default Action
	Arches  []ArchMap
	Calls   []ProfileRule
}

// ArchMap names the other ways into the kernel that are filtered beside a native one.
type ArchMap struct {
	Arch      Arch
	SubArches []Arch
}

// ProfileRule is a rule, and when it is one.
type ProfileRule struct {
	Rule
	Includes, Excludes Filter
}

// Filter is met, as Includes, when all of it is true of the sandbox; as Excludes, when anything of it is.
type Filter struct {
	Caps      []string // CAP_X
	Arches    []string // of the kernel, as GOARCH
	MinKernel Version
}

// Version is that of a kernel, as its first two numbers.
type Version [2]int

// AtLeast says that v is w or newer.
func (v Version) AtLeast(w Version) bool { return v[0] > w[0] || v[0] == w[0] && v[1] >= w[1] }

// Conditions are what a policy depends on.
type Conditions struct {
	Native Arch
	Caps   []string // CAP_X: the bounding set
	Kernel Version
	Nested bool // sandboxes can be made inside
}

// SubArches are the ways into the kernel that p opens besides the native one.
func (p *Profile) SubArches(native Arch) []Arch {
	if i := slices.IndexFunc(p.Arches, func(m ArchMap) bool { return m.Arch == native }); i >= 0 {
		return p.Arches[i].SubArches
	}
	return nil
}

func (f *Filter) all(c *Conditions) bool {
	for _, name := range f.Caps {
		if !slices.Contains(c.Caps, name) {
			return false
		}
	}
	return (len(f.Arches) == 0 || slices.Contains(f.Arches, c.Native.String())) && c.Kernel.AtLeast(f.MinKernel)
}

func (f *Filter) any(c *Conditions) bool {
	return slices.ContainsFunc(f.Caps, func(name string) bool { return slices.Contains(c.Caps, name) }) ||
		slices.Contains(f.Arches, c.Native.String()) ||
		f.MinKernel != Version{} && c.Kernel.AtLeast(f.MinKernel)
}

// rules are those of p that hold under the conditions. One that only repeats the default is none, as for docker: it
// would otherwise win over a later one that does not.
func (p *Profile) rules(c *Conditions) []Rule {
	out := make([]Rule, 0, len(p.Calls))
	for i := range p.Calls {
		if r := &p.Calls[i]; r.Action != p.Default && r.Includes.all(c) && !r.Excludes.any(c) {
			out = append(out, r.Rule)
		}
	}
	return out
}

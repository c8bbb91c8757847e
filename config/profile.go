package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Profile is the complete wish: every value is filled in and has been checked.
type Profile struct {
	File string // absolute path of the profile file, "" when there is none
	Dir  string // project folder, without symbolic links in its path; "" when there can be no workspace

	Image     string   // host, a registry reference, or oci:, oci-archive:, docker-archive:, dir: with an absolute path
	Verify    []Demand // what the image must be signed with: each of them
	Command   []string // what a shell starts; nil means the image's shell
	User      string   // root, me, image
	Setup     []string // commands that the image is set up with, once
	Persist   bool     // the root file system's changes are kept
	Workspace Workspace
	Home      Home
	Mounts    []Mount
	Env       Env
	Network   Network
	Limits    Limits
	Security  Security
	// Integrations are what of the caller's session can be used inside.
	Integrations Integrations
	Approved     Approved // what the user agrees to before it is asked
	// SetupNetwork is what setup's commands can reach; nil: what the sandbox can. See ForSetup.
	SetupNetwork []Egress

	// Origin says where a value came from, by dotted key: "network.mode", "mount[0]", "mount[0].source",
	// "env.set.NAME", "network.publish[1]". See OriginOf.
	Origin map[string]Origin

	Repository *Repository // of the project's, where it lies outside and can be inside; nil otherwise

	hash string // sha256 of the profile's bytes as they were read, "" without a profile
	base string // what relative paths in the profile are relative to: the folder of File, or the current folder
	home string // the user's home outside
	cwd  string // what relative paths in flags are relative to

	owners    []int  // whose files beside the profile are believed
	imageText string // Image as it was written, before its path was made absolute

	unread []unreadKey // keys that are read when the profile is trusted

	filed  *filed  // nil without a setup in a file
	own    *own    // what was so before the project's profile had its say; nil without one
	asked  []Grant // what Trust.Check looked at last, and so what was shown and is to be agreed to
	folder string  // and which folder that was
	shown  string  // how the profile was named by hand, "" when it was found
}

// Demand is a list of public keys by one of which the image must be signed. Who has a say adds one and takes none away:
// a project's profile can ask for more than its user does, and not for less.
type Demand struct {
	Keys   []Key
	Origin Origin
}

// Key is the file of a public key, as it was read once.
type Key struct {
	File string // absolute
	Data []byte
}

// Files are the names of the keys' files.
func (d Demand) Files() []string {
	files := []string{}
	for _, k := range d.Keys {
		files = append(files, k.File)
	}
	return files
}

// Workspace is how the project folder is seen inside.
type Workspace struct {
	Repository string   // auto, rw, ro, none: a repository outside, see RepositoryMode
	Mode       string   // rw, ro, review, none
	At         string   // "" = the same path as outside
	Protect    []string // relative to the project folder; read-only even when Mode is rw
}

// Home is the home folder inside.
type Home struct {
	Mode     string    // project: kept per project; temp: gone afterwards
	Dotfiles []Dotfile // of the user's own home, shown in it
}

// Mount is one more file or folder of this machine, seen inside.
type Mount struct {
	Source string // absolute, clean
	Target string // absolute and clean, or "~" or "~/..." for the home inside
	Mode   string // rw, ro
	// Within says that Source lies in the project folder, and so was no grant. Whoever mounts it must open it without
	// leaving Profile.Dir (openat2 with RESOLVE_BENEATH): what runs in the workspace could have put a link there since.
	Within bool
}

// Env is the environment inside, beyond the few variables that always pass.
type Env struct {
	Set  map[string]string
	Pass []string
}

// Network is what can be reached, and from where.
type Network struct {
	Mode    string // none, user, host
	Driver  string // auto, builtin, slirp4netns, pasta
	Publish []Publish
	// PublishAuto publishes whatever begins to listen inside.
	PublishAuto bool
	// Allow is what can be reached; nil is everything but what is private, local or this machine's. Deny comes before it.
	Allow     []Egress
	Deny      []Egress
	HostPorts []uint16 // of this machine's loopback, as host.cove.internal
	Proxy     bool     // connections out take the proxy that the environment outside names
}

// Limits are what the sandbox as a whole may use; 0 is no limit.
type Limits struct {
	MemoryBytes int64
	CPUs        float64 // processors' worth of time: 1.5 is one and a half
	PIDs        int64   // processes and threads
	Timeout     time.Duration
}

// DefaultPIDs is the limit on processes where nobody names one, and the machine can hold one: podman's.
const DefaultPIDs = 2048

// Security is what the command may do as the root of its own namespaces.
type Security struct {
	Caps          []string // upper case without CAP_; also "default" and "all", see ExpandCaps
	NewPrivileges bool
	Nested        bool // sandboxes can be made inside
	Seccomp       Seccomp
}

// Seccomp is a file with a system call policy in docker's or OCI's JSON, as it was read once.
type Seccomp struct {
	File string // absolute; "" is the default policy
	Data []byte
}

// Digest is the sha256 of what the file holds.
func (s Seccomp) Digest() string { return "sha256:" + hashOf(s.Data) }

// The kinds of origin, lowest first: a later one is laid over an earlier one.
const (
	FromDefault = "default"
	FromUser    = "user"    // the user's own config.toml
	FromProfile = "profile" // the project's cove.toml
	FromFlag    = "flag"    // typed by hand
)

// Origin is where a value came from.
type Origin struct {
	Kind string `json:"kind"` // default, user, profile, flag
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
	Flag string `json:"flag,omitempty"` // the flag as it is called: "--network"
}

func (o Origin) String() string {
	switch o.Kind {
	case FromFlag:
		return "flag " + showName(o.Flag)
	case FromUser, FromProfile:
		if o.Line > 0 {
			return fmt.Sprintf("%s:%d:%d", showName(o.File), o.Line, o.Col)
		}
		return showName(o.File)
	}
	return FromDefault
}

func (o Origin) rank() int {
	switch o.Kind {
	case FromUser:
		return 1
	case FromProfile:
		return 2
	case FromFlag:
		return 3
	}
	return 0
}

// within is the name that a file has in the project folder, "" when it lies elsewhere.
func (p *Profile) within(file string) string {
	if p.Dir == "" {
		return ""
	}
	if !inside(p.Dir, file) {
		real, ok := quietPath(file)
		if !ok || !inside(p.Dir, real) {
			return ""
		}
		file = real
	}
	return strings.TrimPrefix(strings.TrimPrefix(file, p.Dir), "/")
}

// protectKeys adds the keys of the project to what is read-only, where nobody has said what is.
func (p *Profile) protectKeys() {
	if p.OriginOf("workspace.protect").Kind == FromDefault {
		for _, name := range p.mustProtect() {
			if !slices.Contains(p.Workspace.Protect, name) {
				p.Workspace.Protect = append(p.Workspace.Protect, name)
			}
		}
	}
}

// DefaultProtect are the files of a project that act later, outside: git runs hooks and what its config names, and
// cove itself believes the profile and the lock.
func DefaultProtect() []string {
	return []string{".git/hooks", ".git/config", "cove.toml", "cove.lock"}
}

// mustProtect is what is read-only unless somebody says otherwise: the default, and the profile and its lock whatever they
// are called.
func (p *Profile) mustProtect() []string {
	names := DefaultProtect()
	if base := filepath.Base(p.File); p.File != "" && base != FileName {
		names = append(names, base, lockNameOf(base))
	}
	// What runs inside must not choose by whose key the next image is let in.
	for _, d := range p.Verify {
		for _, k := range d.Keys {
			if name := p.within(k.File); name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Hash is the sha256 of the profile's bytes as they were read once, in hexadecimal; "" without a profile.
func (p *Profile) Hash() string { return p.hash }

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// OriginOf is where the value of a key came from. An element of a list that has no origin of its own came with the list.
func (p *Profile) OriginOf(key string) Origin {
	for {
		if o, ok := p.Origin[key]; ok {
			return o
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut <= 0 {
			return Origin{Kind: FromDefault}
		}
		key = key[:cut]
	}
}

// NameOf is a key as its user wrote it: the flag where one was typed.
func (p *Profile) NameOf(key string) string {
	if o := p.OriginOf(key); o.Kind == FromFlag {
		return o.Flag
	}
	return key
}

// Writable are the folders and files outside that a sandbox of this profile writes, or wrote another time: the project is one's whatever
// this one may do with it.
func (p *Profile) Writable() []string {
	var out []string
	if p.Dir != "" {
		out = append(out, p.Dir)
	}
	if p.Repository != nil {
		out = append(out, p.Repository.Common)
	}
	for _, m := range p.Mounts {
		if m.Mode != "ro" {
			out = append(out, m.Source)
		}
	}
	return out
}

// defaults is a profile in which nothing was asked for.
func defaults() *Profile {
	return &Profile{
		Image:     "host",
		User:      "root",
		Workspace: Workspace{Mode: "rw", Repository: "auto", Protect: DefaultProtect()},
		Home:      Home{Mode: "temp"},
		Env:       Env{Set: map[string]string{}},
		Network:   Network{Mode: "none", Driver: "auto"},
		Limits:    Limits{PIDs: DefaultPIDs},
		Security:  Security{Caps: []string{"default"}},
		Origin:    map[string]Origin{},
	}
}

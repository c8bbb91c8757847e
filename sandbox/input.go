package sandbox

import (
	"cove/config"
	"cove/fetch/image"
	"cove/sandbox/host"
	"cove/sandbox/integration"
	"cove/sandbox/spec"
	"cove/userns"
)

// Input is everything that a Spec is made of. Plan reads nothing else.
type Input struct {
	Profile *config.Profile
	Host    *host.Host
	IDMap   userns.IDMap
	Image   *image.Image

	ID         string   // of this sandbox: 16 hex digits, see NewID
	Name       string   // --name; "" makes one from the project's folder and the ID
	Hostname   string   // --hostname; "" is the name that was given
	Argv       []string // the command; empty: the image's CMD (run), or the profile's command or a shell (shell)
	Entrypoint []string // --entrypoint; only when HasEntrypoint
	// HasEntrypoint tells an --entrypoint "" (none) from the absence of the flag.
	HasEntrypoint bool
	UseEntrypoint bool          // `run` prefixes the image's ENTRYPOINT, shell and exec do not
	Shell         bool          // an interactive shell is meant when Argv is empty
	Cwd           string        // the working directory outside
	Workdir       string        // -w
	User          string        // -u; "" is the profile's
	ReadOnly      bool          // --read-only
	Kept          spec.RootKind // of a root file system whose changes are kept; "" where none are yet
	Tmpfs         []Tmpfs
	DropCaps      []string             // --cap-drop, after the profile's caps
	AddCaps       []string             // --cap-add
	BestEffort    bool                 // --best-effort: a protection may be lost, with a warning
	Hide          []string             // folders outside that no mount of a folder above them shows
	HomeDir       string               // a directory outside that holds the project's home; "" makes a temporary one
	Review        *Review              // of workspace mode review
	Devices       *integration.Devices // of the GPUs that the profile asks for; nil where it asks for none
	HostHome      string               // the caller's own home outside, for ~ in mounts
	LookupEnv     func(string) (string, bool)
}

// Review is what there is to know of a project before a view of it is mounted.
type Review struct {
	Dir     string        // where its view lies in the store, or will
	Kind    spec.RootKind // of the view that is there; "" where one is to be made
	Nested  []string      // the folders inside the project that something is mounted on, relative to it, those above first
	Files   []string      // the files likewise
	Overlay host.Fact     // overlayfs can lie on the project
}

// Tmpfs is a --tmpfs: an empty file system in memory at Target.
type Tmpfs struct {
	Target    string
	SizeBytes int64 // 0: the kernel's default
	Mode      uint32
}

package spec

import (
	"strings"

	"cove/userns"
)

// Spec says everything about a sandbox. After it is made nothing decides, it is only done.
type Spec struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	Hostname string       `json:"hostname"`
	IDMap    userns.IDMap `json:"idmap"`
	Root     Root         `json:"root"`
	Mounts   []Mount      `json:"mounts"` // after Root, in this order
	Files    []File       `json:"files"`  // generated files, placed before the mounts
	Protect  *Protect     `json:"protect,omitempty"`
	// Repository protects the project's git repository where that lies outside of it.
	Repository *Protect  `json:"repository,omitempty"`
	Hide       []Path    `json:"hide,omitempty"` // folders on the host that no mount of a folder above them shows
	Hidden     []Below   `json:"hidden,omitempty"`
	Reviewed   []Below   `json:"reviewed,omitempty"` // of a project under review, what other mounts show that can be written
	Program    []Below   `json:"program,omitempty"`  // cove's own file, where a mount that can be written would show it
	Network    Network   `json:"network"`
	Limits     Limits    `json:"limits"`
	Security   Security  `json:"security"`
	Landlock   *Landlock `json:"landlock,omitempty"` // there are no namespaces; of the others only Network.Mode and Process count then
	Process    Process   `json:"process"`            // the main command, and the defaults of those that exec adds
	Lost       []string  `json:"lost,omitempty"`     // conveniences that this machine does not have
	Warnings   []string  `json:"warnings,omitempty"` // protections that it does not have, and that may be lost
	// Integrations are what of the caller's session is served inside; nil: nothing.
	Integrations *Integrations `json:"integrations,omitempty"`
}

// Root says what `/` is made of.
type Root struct {
	Kind   RootKind `json:"kind"`
	Image  string   `json:"image"`            // the ref, for people
	Digest string   `json:"digest,omitempty"` // the manifest's, where there is one
	Layers []Path   `json:"layers,omitempty"` // directories, lowest first
	RunDir Path     `json:"rundir,omitempty"` // holds upper and work (overlay, fuse) or rootfs (copy)
	// Prepared is a layer above Layers, of an overlay: what an earlier start had to put there, which this one need not.
	Prepared Path `json:"prepared,omitempty"`
	Prepare  Path `json:"prepare,omitempty"` // an empty directory, to get such a layer; at most one of the two is set
	ReadOnly bool `json:"readonly"`
	Persist  bool `json:"persist,omitempty"` // what is changed stays in RunDir, which a later sandbox takes over
}

// RootKind is how the root file system is put together.
type RootKind string

const (
	RootOverlay RootKind = "overlay"        // native overlayfs, mounted in the user namespace (Linux 5.11)
	RootFuse    RootKind = "fuse-overlayfs" // the same from a helper program
	RootCopy    RootKind = "copy"           // the layers flattened into RunDir/rootfs
	RootHost    RootKind = "host"           // this machine's /usr, /etc, /opt and /nix, read-only
)

// MountKind is what a Mount puts at its target.
type MountKind string

const (
	MountBind  MountKind = "bind"
	MountTmpfs MountKind = "tmpfs"
	MountView  MountKind = "view" // a copy-on-write view of Source, see Mount.View
)

// Mount is one mount below the root, its target resolved inside the root file system.
type Mount struct {
	Kind    MountKind `json:"kind"`
	Source  Path      `json:"source,omitempty"`  // on the host; of a bind
	Beneath Path      `json:"beneath,omitempty"` // a folder that the Source must not leave by a link
	Agreed  bool      `json:"agreed,omitempty"`  // the Source had no link on its way when it was agreed to, and must have none now
	Target  Path      `json:"target"`            // absolute, inside
	// Below is a folder inside that Target lies in, and is reached from through no link: what is missing on the way is
	// made there, for the folder's owner. The Source is then opened through no link either.
	Below    Path   `json:"below,omitempty"`
	ReadOnly bool   `json:"readonly,omitempty"`
	Size     int64  `json:"sizeBytes,omitempty"` // of a tmpfs; 0: the kernel's half of memory
	Mode     uint32 `json:"mode,omitempty"`      // permission bits of a tmpfs's root
	UID      uint32 `json:"uid,omitempty"`       // owner inside, of a tmpfs's root
	GID      uint32 `json:"gid,omitempty"`
	Idmapped bool   `json:"idmapped,omitempty"` // a bind that the parent opens, and whose ids it translates (root on the host)
	View     *View  `json:"view,omitempty"`
}

// View is where a MountView keeps what is written to it, apart from its Source.
type View struct {
	Kind RootKind `json:"kind"` // overlay, fuse-overlayfs or copy
	Dir  Path     `json:"dir"`  // in the store: holds upper and work, or tree (copy)
	Path Path     `json:"path"` // of the Source, relative to the project's folder; "" for that itself
}

// Writable are the folders and files outside that are written inside, or were another time: the project is one's whatever this
// sandbox may do with it.
func (s *Spec) Writable() []string {
	var out []string
	if s.Integrations != nil && s.Integrations.Project != "" {
		out = append(out, string(s.Integrations.Project))
	}
	for _, m := range s.Mounts {
		if m.Kind == MountView || m.Kind == MountBind && !m.ReadOnly {
			out = append(out, string(m.Source))
		}
	}
	return out
}

// Views are the mounts that are views: the project's own first, then those of what is mounted inside it.
func (s *Spec) Views() []Mount {
	var out []Mount
	for _, m := range s.Mounts {
		if m.Kind == MountView {
			out = append(out, m)
		}
	}
	return out
}

// File is a small generated file. On a root file system that can be written it is written there;
// otherwise it is bound over what is there.
type File struct {
	Target  Path     `json:"target"`
	Content Arg      `json:"content,omitempty"` // a name in it may hold bytes that are no UTF-8
	Kind    FileKind `json:"kind"`
}

// FileKind is how a File's Content is used.
type FileKind string

const (
	FileWrite FileKind = "write" // the whole content
	FileEntry FileKind = "entry" // one line, put before what the image's own file holds, as in passwd(5)
	FileBound FileKind = "bound" // the whole content, bound read-only over what is there on any root file system
)

// Placed is something that cove has put into a root file system, so that it is known from what was done inside.
type Placed struct {
	Path Path       `json:"path"` // relative to the root, through no link
	Kind PlacedKind `json:"kind"`
	Line Arg        `json:"line,omitempty"` // of PlacedLine
}

// PlacedKind is what was done at a Placed's path.
type PlacedKind string

const (
	PlacedDir  PlacedKind = "dir"  // made, to mount on or above such a one
	PlacedFile PlacedKind = "file" // likewise, an empty file
	PlacedText PlacedKind = "text" // written whole
	PlacedLine PlacedKind = "line" // a line was added
)

// Protect keeps paths below a workspace read-only. Every folder between Workspace and a protected
// path becomes a mount point, so that none can be moved away.
type Protect struct {
	Workspace Path   `json:"workspace"`     // target of the workspace's mount, inside
	Source    Path   `json:"source"`        // the same folder outside
	Paths     []Path `json:"paths"`         // relative to it; each is made to exist when the sandbox starts
	Git       Path   `json:"git,omitempty"` // outside: its git repository, whose config names more that acts later
	// Elsewhere are other mounts that can be written and show the same paths: the workspace once more, or a folder above it.
	Elsewhere []Below `json:"elsewhere,omitempty"`
}

// Below names paths below a mount.
type Below struct {
	Target Path   `json:"target"`
	Paths  []Path `json:"paths"` // relative to it
}

// Views are all the places inside where protected paths can be reached.
func (p *Protect) Views() []Below {
	if p == nil {
		return nil
	}
	return append([]Below{{Target: p.Workspace, Paths: p.Paths}}, p.Elsewhere...)
}

// Network says how the sandbox reaches anything.
type Network struct {
	Mode    string `json:"mode"`             // none, user, host
	Driver  string `json:"driver,omitempty"` // of mode user: builtin, slirp4netns or pasta
	Publish []Port `json:"publish,omitempty"`
	// PublishAuto publishes whatever listens inside, on 127.0.0.1, as long as it does.
	PublishAuto bool   `json:"publishAuto,omitempty"`
	Egress      Egress `json:"egress,omitzero"` // of driver builtin
}

// Egress says where connections may lead.
type Egress struct {
	// Listed says that there is nothing but what Allow opens; else there is everything that is not private, local or the
	// host's, and Allow opens more.
	Listed    bool       `json:"listed,omitempty"`
	Allow     []Reach    `json:"allow,omitempty"`
	Deny      []Reach    `json:"deny,omitempty"` // before Allow
	HostPorts []HostPort `json:"hostPorts,omitempty"`
	Proxy     bool       `json:"proxy,omitempty"` // connections are made through the proxy of the caller's environment
}

// Reach is a name or a network, some of its ports, and a protocol.
type Reach struct {
	Text     string `json:"text"`            // as the profile has it
	Any      bool   `json:"any,omitempty"`   // whatever is open where there is no list
	Name     string `json:"name,omitempty"`  // a domain name; "" where Prefix says it
	Below    bool   `json:"below,omitempty"` // every name below Name, and not itself
	Prefix   Prefix `json:"prefix,omitzero"`
	FromPort uint16 `json:"fromPort,omitempty"` // 0 is every port
	ToPort   uint16 `json:"toPort,omitempty"`
	Proto    string `json:"proto"` // tcp or udp
}

// HostPort is a port of the host's loopback, reached as HostName.
type HostPort uint16

// HostName is what the host's open ports are called inside.
const HostName = "host.cove.internal"

// Port is a port inside that is reachable outside.
type Port struct {
	HostIP        string `json:"hostIP"`
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Proto         string `json:"proto"` // tcp or udp
}

// Limits are what all processes of a sandbox may use together; 0 is no limit.
type Limits struct {
	Cgroup      CgroupKind `json:"cgroup,omitempty"` // what holds Memory, CPUs and PIDs
	MemoryBytes int64      `json:"memoryBytes,omitempty"`
	CPUs        float64    `json:"cpus,omitempty"` // processors' worth of time
	PIDs        int64      `json:"pids,omitempty"`
	// Default says that nobody asked for PIDs: where it cannot be had after all, that is a warning.
	Default bool `json:"default,omitempty"`
	// Whole says that with one process everything ends that is in a sandbox without memory: there is one command that
	// matters. In a sandbox of shells the kernel's choice ends alone.
	Whole     bool  `json:"whole,omitempty"`
	TimeoutMS int64 `json:"timeoutMS,omitempty"` // of the sandbox, from the moment that it is made
}

// CgroupKind is where a sandbox's control group comes from (cgroups(7)).
type CgroupKind string

const (
	CgroupSystemd   CgroupKind = "systemd"   // a scope of the user's systemd, for root of the machine's
	CgroupDelegated CgroupKind = "delegated" // a group that we make ourselves, below one that we were given
)

// Security is what every process inside is held to.
type Security struct {
	Caps          []string `json:"caps"` // the bounding set, as CAP_X names; what uid 0 inside has
	NewPrivileges bool     `json:"newPrivileges,omitempty"`
	ScopeAbstract bool     `json:"scopeAbstract,omitempty"` // landlock scope for abstract sockets (Linux 6.12), of network mode host
	Nested        bool     `json:"nested,omitempty"`        // sandboxes can be made inside: /proc and /sys are not masked
	Seccomp       Seccomp  `json:"seccomp"`
}

// Seccomp is the system call filter: there is always one.
type Seccomp struct {
	Policy     Path   `json:"policy"` // "default", or the file that it was made of
	Digest     string `json:"digest"` // of Program
	Program    []byte `json:"program,omitempty"`
	Programs32 bool   `json:"programs32,omitempty"` // 32-bit programs are let in
}

// Landlock holds a command where no namespaces can be made: on the host's own files (landlock(7)).
type Landlock struct {
	ABI         int     `json:"abi"` // the kernel's, which says what it can close
	Grants      []Grant `json:"grants"`
	HostNetwork bool    `json:"hostNetwork,omitempty"` // otherwise no socket can be made
	Private     Path    `json:"private,omitempty"`     // the run's own folder, with tmp and perhaps home in it
}

// Grant is a file, or a folder with all below it, that may be read and executed.
type Grant struct {
	Path     Path `json:"path"`
	Beneath  Path `json:"beneath,omitempty"` // a folder that Path must not leave by a link
	Write    bool `json:"write,omitempty"`
	Optional bool `json:"optional,omitempty"` // it need not be there
}

// Process is a command inside.
type Process struct {
	Argv []Arg `json:"argv"`
	Env  []Arg `json:"env"`
	Cwd  Path  `json:"cwd"`
	// MakeCwd makes a missing Cwd, as it is done for an image's WORKDIR.
	MakeCwd bool   `json:"makeCwd,omitempty"`
	User    string `json:"user"` // "uid", "name", "uid:gid", "name:group": looked up inside
	// Groups that the user keeps are those of /etc/group inside.
	Home Path `json:"home,omitempty"` // HOME when the environment has none; "" looks it up
}

// Changes are what a command that is added to a sandbox has of its own; the rest is the sandbox's Process.
type Changes struct {
	Argv []Arg  `json:"argv"`
	Env  []Arg  `json:"env,omitempty"`  // "K=V", on top of the sandbox's environment
	Cwd  Path   `json:"cwd,omitempty"`  // "" is the sandbox's
	User string `json:"user,omitempty"` // "" is the sandbox's
}

// With returns the process with these changes; p stays as it is.
func (p Process) With(c *Changes) Process {
	p.Argv = c.Argv
	for _, e := range c.Env {
		p.Env = setEnv(p.Env, e)
	}
	if c.Cwd != "" {
		p.Cwd, p.MakeCwd = c.Cwd, false
	}
	if c.User != "" {
		p.User, p.Home = c.User, ""
	}
	return p
}

// setEnv returns the environment with this entry in place of all others of its name.
func setEnv(env []Arg, entry Arg) []Arg {
	name, _, _ := strings.Cut(string(entry), "=")
	out := make([]Arg, 0, len(env)+1)
	for _, e := range env {
		if !strings.HasPrefix(string(e), name+"=") {
			out = append(out, e)
		}
	}
	return append(out, entry)
}

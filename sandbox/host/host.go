package host

import "cove/userns"

// Host is what this machine is and allows to the user who asks.
type Host struct {
	UID    uint32  `json:"uid"`
	GID    uint32  `json:"gid"`
	Name   string  `json:"name"`
	Home   string  `json:"home"`
	Groups []Group `json:"groups,omitempty"` // supplementary ones

	Kernel string `json:"kernel"` // uname -r
	Boot   string `json:"-"`      // another one after each boot
	Key    string `json:"-"`      // another one whenever anything that a tried fact depends on is, this program among it

	// SubIDs are the ranges of SubIDsOf: the user's own, or for root those of "root", of
	// "containers", or where neither has any the built-in range ("").
	SubIDs      userns.SubIDs `json:"subids"`
	SubIDsOf    string        `json:"subidsOf"`
	SubIDsError string        `json:"subidsError,omitempty"` // why the files could not be read
	// SubIDsForeign: it is that this container has none of the ids that the files grant.
	SubIDsForeign bool `json:"subidsForeign,omitempty"`

	Helpers Helpers `json:"helpers"`
	Cgroup  Cgroup  `json:"cgroup"`
	Store   Store   `json:"store"`
	Sysctls Sysctls `json:"sysctls"`
	Label   string  `json:"label,omitempty"` // what AppArmor or SELinux runs us under

	MayMap        bool `json:"mayMap"`        // we hold CAP_SETUID and CAP_SETGID, and need no helper to map ids
	Openat2       bool `json:"openat2"`       // Linux 5.6
	LandlockABI   int  `json:"landlockABI"`   // 0: not there
	LandlockScope bool `json:"landlockScope"` // abstract sockets can be closed (ABI 6, Linux 6.12)

	Tried

	// Deep are the facts that only `cove doctor` asks for.
	Deep *Deep `json:"deep,omitempty"`
}

// Deep are facts that take more time than a start has, or that a start finds out by itself.
type Deep struct {
	Around        Around `json:"around"`
	FuseOverlayfs Fact   `json:"fuseOverlayfs"` // the program served an overlay, in a user namespace, on the store's file system
	Exec          Fact   `json:"exec"`          // a program in the store's file system started
	Owners        Fact   `json:"owners"`        // a file there was given to a subordinate id
	Landlock      Fact   `json:"landlock"`      // a thread could not read what its domain does not grant
	Scope         Fact   `json:"scope"`         // nor reach an abstract socket outside of it
	Seccomp       Fact   `json:"seccomp"`       // a filter kept a thread from a system call
}

// Tried are the facts that took a process of their own to find out.
type Tried struct {
	UserNS        Fact `json:"userns"`        // a stage in a new user namespace started, and has power there
	MapRange      Fact `json:"mapRange"`      // a range of ids was mapped into it
	NativeOverlay Fact `json:"nativeOverlay"` // overlayfs with userxattr, on the store's file system
	FuseMount     Fact `json:"fuseMount"`     // /dev/fuse opened and a FUSE file system mounted
	DevNetTun     Fact `json:"devNetTun"`     // a tap device was made in a new network namespace
	MountSetattr  Fact `json:"mountSetattr"`  // mount_setattr(2), Linux 5.12
	ProcMount     Fact `json:"procMount"`     // a new /proc for a new pid namespace
	Hostname      Fact `json:"hostname"`      // a new UTS namespace's was set; the filter of a container around us may forbid it
}

// Fact is whether something works, and why not.
type Fact struct {
	OK    bool   `json:"ok"`
	Why   string `json:"why,omitempty"`
	Errno int    `json:"errno,omitempty"`
}

// hidden is the fact that COVE_HIDE names.
var hidden = Fact{Why: "hidden by COVE_HIDE"}

// Group is a group that the user is in.
type Group struct {
	GID  uint32 `json:"gid"`
	Name string `json:"name"`
}

// Helpers are the paths of programs that cove can use; "" for one that is not on PATH.
type Helpers struct {
	NewUIDMap     string `json:"newuidmap,omitempty"`
	NewGIDMap     string `json:"newgidmap,omitempty"`
	FuseOverlayfs string `json:"fuseOverlayfs,omitempty"`
	Slirp4netns   string `json:"slirp4netns,omitempty"`
	Pasta         string `json:"pasta,omitempty"`
	// Weak names a newuidmap or newgidmap that is neither setuid root nor has file
	// capabilities, or lies on a mount where neither counts (nosuid).
	Weak string `json:"weak,omitempty"`
}

// Cgroup is the control group that we run in (cgroups(7)).
type Cgroup struct {
	V2          bool     `json:"v2"`
	Mounted     string   `json:"mounted,omitempty"`     // what lies at /sys/fs/cgroup when that is not version 2
	Path        string   `json:"path,omitempty"`        // below /sys/fs/cgroup
	Systemd     string   `json:"systemd,omitempty"`     // the socket of a systemd that makes groups for us
	Delegated   bool     `json:"delegated"`             // we may make groups below it
	Controllers []string `json:"controllers,omitempty"` // that those could use
}

// Store is the file system that the image store lies on.
type Store struct {
	Dir    string `json:"dir"`
	FSType string `json:"fsType"`
	NoExec bool   `json:"noexec,omitempty"`
	NoSuid bool   `json:"nosuid,omitempty"`
	NoDev  bool   `json:"nodev,omitempty"`
	Remote bool   `json:"remote,omitempty"` // NFS and its like: no overlay, no subordinate owners

	dev uint64
}

// Sysctls are the kernel settings that stand between a user and a user namespace; "" where this
// kernel does not have one.
type Sysctls struct {
	AppArmorRestrict string `json:"kernel.apparmor_restrict_unprivileged_userns,omitempty"`
	UserNSClone      string `json:"kernel.unprivileged_userns_clone,omitempty"`
	MaxUserNS        string `json:"user.max_user_namespaces,omitempty"`
}

// Fuse reports whether fuse-overlayfs can be used.
func (h *Host) Fuse() bool { return h.Helpers.FuseOverlayfs != "" && h.FuseMount.OK }

// UserNSHidden reports whether it is COVE_HIDE that keeps user namespaces away.
func (h *Host) UserNSHidden() bool { return h.UserNS == hidden }

// UserNSReason says which setting keeps user namespaces away, as "name=value"; "" when they work or no
// setting that we know explains it.
func (h *Host) UserNSReason() string {
	switch {
	case h.UserNS.OK, h.UserNSHidden():
		return ""
	case h.Sysctls.MaxUserNS == "0":
		return "user.max_user_namespaces=0"
	case h.Sysctls.UserNSClone == "0":
		return "kernel.unprivileged_userns_clone=0"
	case h.Sysctls.AppArmorRestrict == "1":
		return "kernel.apparmor_restrict_unprivileged_userns=1"
	}
	return ""
}

package sandbox

import (
	"errors"
	"fmt"
	"path"

	"cove/sandbox/spec"
	"cove/userns"
)

// ErrNoUserNS says that a sandbox cannot be made here, and that nothing less was asked for.
var ErrNoUserNS = errors.New("this machine does not let you make user namespaces, of which a sandbox is made")

// checkLandlock says why landlock cannot stand in for namespaces. What it cannot do as it was asked for is an error:
// only protections are lost with --best-effort, and those are told.
func checkLandlock(in Input) error {
	p, h := in.Profile, in.Host
	cannot := func(what string) error {
		return fmt.Errorf("%s, which cannot be had without user namespaces: --best-effort holds a command on this machine's own files, and nothing more", what)
	}
	switch {
	case !in.BestEffort:
		return ErrNoUserNS
	case h.UID == 0:
		return &ProtectionError{"run as root without user namespaces: the command would be root on this machine"}
	case h.LandlockABI == 0:
		return &ProtectionError{"this machine has neither user namespaces nor landlock (Linux 5.13): nothing would keep the command from your files"}
	case p.Image != "host":
		return cannot(fmt.Sprintf("image %q", p.Image))
	case p.Workspace.Mode == "review" && p.Dir != "":
		return cannot(`workspace.mode = "review"`)
	case p.Network.Mode == "user":
		return cannot(`network.mode = "user"`)
	case in.User != "" && in.User != fmt.Sprint(h.UID) && in.User != h.Name:
		return cannot(fmt.Sprintf("user %q", in.User))
	case p.Security.NewPrivileges:
		return cannot("security.new_privileges = true")
	case p.Security.Nested:
		return cannot("security.nested = true")
	case len(p.Security.Seccomp.Data) > 0:
		return cannot("security.seccomp")
	case p.Integrations.Any():
		return cannot("what [host] grants")
	case len(in.AddCaps) > 0:
		return cannot("--cap-add")
	case len(in.Tmpfs) > 0:
		return cannot("--tmpfs")
	case p.Workspace.Mode != "none" && p.Dir != "" && p.Workspace.At != "" && p.Workspace.At != p.Dir:
		return cannot(fmt.Sprintf("workspace.at = %q", p.Workspace.At))
	}
	for _, m := range p.Mounts {
		if path.Clean(m.Target) != m.Source {
			return cannot(fmt.Sprintf("a mount of %q at %q", m.Source, m.Target))
		}
	}
	return nil
}

// CheckHost says whether this machine can hold what was asked for at all. It is asked before an image is pulled.
func CheckHost(in Input) error {
	if in.Host.UserNS.OK {
		return nil
	}
	return checkLandlock(in)
}

// landlockRead is what a host root file system would show. All of it is there or is not: none is asked for by name.
var landlockRead = []string{
	"/usr", "/etc", "/opt", "/nix", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	// Of /proc and /sys what says nothing about anybody's processes.
	"/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/filesystems", "/proc/sys",
	"/sys/devices/system/cpu",
}

var landlockWrite = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// planLandlock decides about a command without namespaces: what it may reach of this machine as it is.
func (p *planner) planLandlock() error {
	if err := checkLandlock(p.in); err != nil {
		return err
	}
	h := p.in.Host
	l := &spec.Landlock{ABI: h.LandlockABI, HostNetwork: p.profile.Network.Mode == "host"}
	p.spec.Landlock = l
	p.spec.IDMap = userns.Single(h.UID, h.GID, h.UID, h.GID)
	p.spec.Root = spec.Root{Kind: spec.RootHost, Image: "host", ReadOnly: true}
	p.spec.Security.Caps = []string{}
	p.spec.Network.Mode = p.profile.Network.Mode
	for _, name := range landlockRead {
		l.Grants = append(l.Grants, spec.Grant{Path: spec.Path(name), Optional: true})
	}
	for _, name := range landlockWrite {
		l.Grants = append(l.Grants, spec.Grant{Path: spec.Path(name), Write: true, Optional: true})
	}
	if ws := p.profile.Workspace; ws.Mode != "none" && p.profile.Dir != "" {
		p.workspace = p.profile.Dir
		l.Grants = append(l.Grants, spec.Grant{Path: spec.Path(p.profile.Dir), Write: ws.Mode == "rw"})
	}
	for _, m := range p.profile.Mounts {
		g := spec.Grant{Path: spec.Path(m.Source), Write: m.Mode == "rw"}
		if m.Within {
			g.Beneath = spec.Path(p.profile.Dir)
		}
		l.Grants = append(l.Grants, g)
	}
	if p.in.HomeDir != "" {
		l.Grants = append(l.Grants, spec.Grant{Path: spec.Path(p.in.HomeDir), Write: true})
	}
	if err := p.limits(); err != nil {
		return err
	}
	if err := p.process(); err != nil {
		return err
	}
	proc := &p.spec.Process
	proc.User, proc.Home, proc.MakeCwd = fmt.Sprintf("%d:%d", h.UID, h.GID), spec.Path(p.in.HomeDir), false
	if p.in.Workdir == "" && p.workspace == "" {
		proc.Cwd = "" // the home folder, once it is known
	}
	if err := p.protect(); err != nil {
		return err
	}
	p.warnLandlock()
	return nil
}

// warnLandlock lists what nothing protects.
func (p *planner) warnLandlock() {
	warn := func(format string, args ...any) {
		p.spec.Warnings = append(p.spec.Warnings, "best effort: "+fmt.Sprintf(format, args...))
	}
	h := p.in.Host
	warn("there are no namespaces: the command is you (uid %d) on this machine, held by landlock and a system call filter alone", h.UID)
	warn("not protected: which files and processes exist can be seen, and modes, times and attributes of all your files changed (chmod, touch, setfattr), though not what is in them")
	if p.spec.Protect != nil {
		warn("not protected: workspace.protect; what is changed there is told at the end")
	}
	if h.LandlockABI < 6 {
		warn("not protected: your other processes can be sent signals (landlock's scope, Linux 6.12)")
	}
	if p.spec.Landlock.HostNetwork {
		warn("not protected: all of this machine's network, its loopback too; only sockets of files and abstract ones are closed")
	}
	if p.profile.RepositoryMode() != "none" {
		warn("not there: the git repository %q, which is outside of the project", p.profile.Repository.Common)
	}
	if len(p.profile.Home.Dotfiles) > 0 {
		warn("not there: home.dotfiles")
	}
	warn("not there: /proc of processes, /sys, /dev/shm, new terminals, a hostname of its own; /tmp is $TMPDIR")
}

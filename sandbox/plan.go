package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"sort"
	"strings"

	"cove/config"
	"cove/fetch/image"
	"cove/sandbox/host"
	"cove/sandbox/network"
	"cove/sandbox/spec"
)

// A ProtectionError says that something that keeps the sandbox in cannot be had here. What names
// the fact; the caller has advice for it.
type ProtectionError struct{ What string }

func (e *ProtectionError) Error() string { return e.What }

// ErrNoRootFS says that an image's layers cannot be put together here in any way.
var ErrNoRootFS = errors.New("no way to put an image's layers together")

// NewID returns a name for a sandbox that no other has: 16 hex digits.
func NewID() string {
	// The runtime's own generator, which the kernel has seeded, does for a name: nobody else can make one in the folders that it is used in.
	return fmt.Sprintf("%016x", rand.Uint64())
}

// Plan decides everything about a sandbox. It touches no kernel and no disk: the same Input gives
// the same Spec. What is lost on this machine is in Spec.Lost; a protection that would be lost is an error, or a
// warning where BestEffort says so.
func Plan(in Input) (*spec.Spec, error) {
	p := &planner{in: in, profile: in.Profile, spec: &spec.Spec{ID: in.ID, IDMap: in.IDMap}}
	p.names()
	for _, name := range in.Hide {
		p.spec.Hide = append(p.spec.Hide, spec.Path(name))
	}
	if !in.Host.UserNS.OK {
		if err := p.planLandlock(); err != nil {
			return nil, err
		}
		return p.spec, nil
	}
	for _, step := range []func() error{p.root, p.security, p.network, p.limits, p.home, p.mounts, p.integrations, p.files, p.process, p.protect} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p.spec, nil
}

type planner struct {
	in        Input
	profile   *config.Profile
	spec      *spec.Spec
	homeDir   string // HOME inside; "" where only the image knows it
	workspace string // the workspace's target; "" without one
}

func (p *planner) lost(format string, args ...any) {
	p.spec.Lost = append(p.spec.Lost, fmt.Sprintf(format, args...))
}

// names gives the sandbox its name and hostname.
func (p *planner) names() {
	name := p.in.Name
	if name == "" {
		base := "cove"
		if p.profile.Dir != "" {
			base = hostLabel(path.Base(p.profile.Dir))
		}
		name = base + idSuffix(p.in.ID)
	}
	p.spec.Name, p.spec.Hostname = name, p.in.Hostname
	switch {
	case p.spec.Hostname != "":
	case p.in.Shell || p.in.Name == "":
		p.spec.Hostname = defaultHostname
	default:
		p.spec.Hostname = hostLabel(name)
	}
}

// idSuffix is what makes a name of a sandbox's own out of its project's.
func idSuffix(id string) string { return "-" + id[:min(6, len(id))] }

// hostLabel makes a host name (RFC 1123) of any text.
func hostLabel(text string) string {
	label := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, text)
	label = strings.Trim(label[:min(len(label), 40)], "-")
	if label == "" {
		return "cove"
	}
	return label
}

// root chooses how the root file system is put together.
func (p *planner) root() error {
	img, h := p.in.Image, p.in.Host
	root := &p.spec.Root
	root.Image, root.Digest, root.ReadOnly = img.Ref, string(img.Digest), p.in.ReadOnly
	if img.Kind == image.Host {
		root.Kind, root.ReadOnly = spec.RootHost, true
		return nil
	}
	for _, l := range img.Layers {
		root.Layers = append(root.Layers, spec.Path(l))
	}
	root.Persist = p.profile.Persist
	switch {
	case root.Persist && p.in.Kept != "":
		return p.keptRoot()
	case len(img.Layers) == 0:
		root.Kind = spec.RootCopy // of nothing: an overlay needs something to lie on
	case h.NativeOverlay.OK:
		root.Kind = spec.RootOverlay
	case h.Fuse():
		root.Kind = spec.RootFuse
		p.lost("no native overlay here (%s): using fuse-overlayfs, which is slower", h.NativeOverlay.Why)
	default:
		root.Kind = spec.RootCopy
		p.lost("neither native overlay (%s) nor fuse-overlayfs here: the image is copied for every run", h.NativeOverlay.Why)
	}
	return nil
}

func (p *planner) security() error {
	caps, err := config.ChangeCaps(p.profile.Security.Caps, p.in.AddCaps, p.in.DropCaps)
	if err != nil {
		return err
	}
	sec := &p.spec.Security
	sec.Caps = []string{}
	for _, c := range caps {
		sec.Caps = append(sec.Caps, spec.CanonicalCap(c))
	}
	sec.NewPrivileges, sec.Nested = p.profile.Security.NewPrivileges, p.profile.Security.Nested
	if sec.Seccomp, err = seccompOf(p.profile, sec.Caps, p.in.Host.Kernel); err != nil {
		return err
	}
	_, uid := p.in.IDMap.ContainerUID(0)
	_, gid := p.in.IDMap.ContainerGID(0)
	if p.in.Host.UID == 0 && (uid || gid) {
		// Whatever gets out of such a sandbox is root.
		return &ProtectionError{"run as root: no range of subordinate ids can be mapped, and root inside would be root on this machine"}
	}
	if p.in.IDMap.Single() {
		p.lost("only one id is mapped: everything inside is you, and changing owner to another user fails")
	}
	return nil
}

func (p *planner) network() error {
	n := p.profile.Network
	out := &p.spec.Network
	out.Mode, out.PublishAuto = n.Mode, n.PublishAuto && n.Mode == "user"
	for _, port := range n.Publish {
		out.Publish = append(out.Publish, spec.Port{HostIP: port.HostIP, HostPort: port.HostPort,
			ContainerPort: port.ContainerPort, Proto: port.Proto})
	}
	switch n.Mode {
	case "user":
		for _, c := range p.spec.Security.Caps {
			// What is closed is closed by routes and a filter inside: one of these changes them, the other sends past them.
			if (c == "CAP_NET_ADMIN" || c == "CAP_NET_RAW") && !n.Builtin() {
				return &ProtectionError{"network user with the capability " + c + ": private and host addresses could not be kept closed"}
			}
		}
		var err error
		if n.Builtin() {
			out.Driver = network.Builtin
			out.Egress = egress(n)
			return nil
		}
		if out.Driver, err = chooseDriver(n.Driver, p.in.Host.Helpers); err != nil {
			return err
		}
	case "host":
		if len(out.Publish) > 0 {
			return errors.New("network host publishes every port already: leave out publish")
		}
		p.spec.Security.ScopeAbstract = p.in.Host.LandlockScope
		if !p.in.Host.LandlockScope {
			if !p.in.BestEffort {
				return &ProtectionError{"network host: this kernel cannot close the host's abstract sockets (landlock's scope, Linux 6.12)"}
			}
			p.spec.Warnings = append(p.spec.Warnings, "network host: the host's abstract sockets (D-Bus, X11 among them) can be reached from inside")
		}
	}
	return nil
}

// egress is what the profile lets be reached.
func egress(n config.Network) spec.Egress {
	out := spec.Egress{Listed: n.Allow != nil, Proxy: n.Proxy}
	for _, e := range n.Allow {
		out.Allow = append(out.Allow, reach(e))
	}
	for _, e := range n.Deny {
		out.Deny = append(out.Deny, reach(e))
	}
	for _, p := range n.HostPorts {
		out.HostPorts = append(out.HostPorts, spec.HostPort(p))
	}
	return out
}

func reach(e config.Egress) spec.Reach {
	r := spec.Reach{Text: e.String(), Any: e.Any, Name: e.Name, Below: e.Below, FromPort: e.FromPort, ToPort: e.ToPort, Proto: e.Proto}
	if e.Address != nil {
		r.Prefix = spec.Prefix{IP: e.Address, Bits: e.Bits}
	}
	return r
}

// chooseDriver picks the program that carries a user-mode network, where one was asked for by name.
func chooseDriver(want string, have host.Helpers) (string, error) {
	for _, d := range []struct{ name, path, pkg string }{
		{network.Slirp, have.Slirp4netns, "slirp4netns"},
		{network.Pasta, have.Pasta, "passt"},
	} {
		if want == d.name && d.path == "" {
			return "", &host.MissingError{Programs: []string{d.name}, Packages: []string{d.pkg}}
		}
	}
	return want, nil
}

// home decides where HOME is and what lies there.
func (p *planner) home() error {
	switch p.profile.User {
	case "me":
		p.homeDir = p.in.HostHome
	case "root":
		p.homeDir = "/root"
	}
	if p.in.HomeDir != "" {
		if p.homeDir == "" {
			p.homeDir = "/home/user"
		}
		p.bind(p.in.HomeDir, p.homeDir, false, "")
		return nil
	}
	// On an image the home folder is the image's own, and as short-lived as the rest of it, where that is.
	if p.homeDir != "" && (p.spec.Root.ReadOnly || p.spec.Root.Persist || p.profile.User == "me") {
		uid, gid := p.you()
		p.spec.Mounts = append(p.spec.Mounts, spec.Mount{Kind: spec.MountTmpfs, Target: spec.Path(p.homeDir), Mode: 0o700, UID: uid, GID: gid})
	}
	return nil
}

// you are the ids inside that the caller's own are, or stand for when the caller is root.
func (p *planner) you() (uid, gid uint32) {
	h := p.in.Host
	if u, ok := p.in.IDMap.ContainerUID(h.UID); ok {
		uid = u
	}
	if g, ok := p.in.IDMap.ContainerGID(h.GID); ok {
		gid = g
	}
	return uid, gid
}

func (p *planner) bind(source, target string, readOnly bool, beneath string) {
	p.spec.Mounts = append(p.spec.Mounts, spec.Mount{
		Kind: spec.MountBind, Source: spec.Path(source), Target: spec.Path(target), ReadOnly: readOnly,
		Beneath: spec.Path(beneath), Idmapped: p.in.Host.UID == 0,
	})
}

// mounts lists the workspace, the profile's mounts and the tmpfs, those above before those below.
func (p *planner) mounts() error {
	ws := p.profile.Workspace
	if ws.Mode != "none" && p.profile.Dir != "" {
		p.workspace = p.profile.Dir
		if ws.At != "" {
			p.workspace = ws.At
		}
		if ws.Mode == "review" {
			if err := p.views(); err != nil {
				return err
			}
		} else {
			p.bind(p.profile.Dir, p.workspace, ws.Mode == "ro", "")
			p.spec.Mounts[len(p.spec.Mounts)-1].Agreed = true // it may lie in the workspace of another sandbox
		}
		p.repository()
	}
	for _, d := range p.profile.Home.Dotfiles {
		target, err := p.inHome("~/" + d.Name)
		if err != nil {
			return fmt.Errorf("home.dotfiles: where the home inside is only the image knows: set home.mode = %q, or user", "project")
		}
		if d.Source == "" {
			continue // there is none
		}
		p.bind(d.Source, target, true, d.Home)
		p.spec.Mounts[len(p.spec.Mounts)-1].Below = spec.Path(p.homeDir)
	}
	for _, m := range p.profile.Mounts {
		target, err := p.inHome(m.Target)
		if err != nil {
			return fmt.Errorf("mount %q: %w", m.Target, err)
		}
		beneath := ""
		if m.Within {
			beneath = p.profile.Dir
		}
		p.bind(m.Source, target, m.Mode == "ro", beneath)
		p.spec.Mounts[len(p.spec.Mounts)-1].Agreed = !m.Within
	}
	for _, t := range p.in.Tmpfs {
		target, err := p.inHome(t.Target)
		if err != nil {
			return fmt.Errorf("tmpfs %q: %w", t.Target, err)
		}
		mode := t.Mode
		if mode == 0 {
			mode = 0o1777
		}
		p.spec.Mounts = append(p.spec.Mounts, spec.Mount{Kind: spec.MountTmpfs, Target: spec.Path(target), Size: t.SizeBytes, Mode: mode})
	}
	return p.sortMounts()
}

// sortMounts puts the mounts above before those below, and refuses those that would cover what is the sandbox's own, or each other.
func (p *planner) sortMounts() error {
	seen := map[spec.Path]bool{}
	for _, m := range p.spec.Mounts {
		if err := checkTarget(string(m.Target)); err != nil {
			return fmt.Errorf("mount %q: %w", m.Target, err)
		}
		if seen[m.Target] {
			return fmt.Errorf("two mounts have the target %q", m.Target)
		}
		seen[m.Target] = true
	}
	sort.SliceStable(p.spec.Mounts, func(i, j int) bool {
		return strings.Count(string(p.spec.Mounts[i].Target), "/") < strings.Count(string(p.spec.Mounts[j].Target), "/")
	})
	return nil
}

func (p *planner) inHome(target string) (string, error) {
	rest, ok := strings.CutPrefix(target, "~")
	if !ok {
		return path.Clean(target), nil
	}
	if p.homeDir == "" {
		return "", errors.New("the home folder inside is the image's to say: give an absolute target")
	}
	return path.Join(p.homeDir, rest), nil
}

// checkTarget keeps mounts off what the sandbox itself puts in place.
func checkTarget(target string) error {
	if !path.IsAbs(target) || path.Clean(target) == "/" {
		return errors.New("the target must be absolute and not /")
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if target == dir || (dir != "/dev" && strings.HasPrefix(target, dir+"/")) {
			return fmt.Errorf("%s is the sandbox's own", dir)
		}
	}
	return nil
}

// protect lists what stays read-only in a workspace that can be written.
func (p *planner) protect() error {
	ws := p.profile.Workspace
	if p.workspace == "" || ws.Mode != "rw" || len(ws.Protect) == 0 {
		return nil
	}
	out := &spec.Protect{Workspace: spec.Path(p.workspace), Source: spec.Path(p.profile.Dir)}
	for _, name := range ws.Protect {
		out.Paths = append(out.Paths, spec.Path(path.Clean(name)))
	}
	out.Git = spec.Path(path.Join(p.profile.Dir, ".git"))
	if r := p.profile.Repository; r != nil {
		out.Git = spec.Path(r.Common)
	}
	p.spec.Protect = out
	return nil
}

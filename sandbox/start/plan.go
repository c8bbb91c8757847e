package start

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cove/config"
	"cove/fetch/image"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/homes"
	"cove/sandbox/host"
	"cove/sandbox/programs"
	"cove/sandbox/spec"
	"cove/userns"
)

// Plan is the story: what was asked for, whether that may be, what this machine has, the image, and the Spec that
// follows from them.
func (c *Call) Plan(l Line) (*Planned, error) {
	flags, err := c.profileFlags(l)
	if err != nil {
		return nil, err
	}
	in, err := c.input(l)
	if err != nil {
		return nil, err
	}
	source, err := ImageSource(l)
	if err != nil {
		return nil, err
	}
	if c.Bounds, err = Bounds(l); err != nil {
		return nil, err
	}
	if in.Profile, err = c.LoadProfile(l, flags); err != nil {
		return nil, err
	}
	if err = c.CheckTrust(in.Profile); err != nil {
		return nil, err
	}
	if c.Command == "try" {
		distrust(l, in.Profile)
	}
	if err = source.UseLock(l, in.Profile); err != nil {
		return nil, err
	}
	learn := learnNetwork(l, in.Profile)
	if err = runScript(&in); err != nil {
		return nil, err
	}
	if in.Host, err = c.Machine(false); err != nil {
		return nil, err
	}
	if err = sandbox.CheckHost(in); err != nil {
		return nil, err
	}
	switch {
	case !in.Host.UserNS.OK:
	case !in.Host.ProcMount.OK:
		return nil, ErrNoProc
	case !in.Host.Hostname.OK:
		return nil, ErrNoHostname
	}
	stored, err := c.Image(&in, source)
	if err != nil {
		return nil, err
	}
	if err = c.setUp(&in, stored, l); err != nil {
		return nil, err
	}
	persist, err := persist(&in, stored, l)
	if err != nil {
		return nil, err
	}
	if in.HomeDir, err = projectHome(in.Profile, !l.Bool("dry-run")); err != nil {
		return nil, err
	}
	if in.Review, err = c.review(&in, stored); err != nil {
		return nil, err
	}
	if names := in.Profile.Integrations.GPU; len(names) > 0 {
		if in.Devices, err = c.Devices(names); err != nil {
			return nil, err
		}
	}
	if in.Hide, err = c.hidden(); err != nil {
		return nil, err
	}
	s, err := sandbox.Plan(in)
	if errors.Is(err, sandbox.ErrNoCommand) {
		return nil, Usagef("which command? (%v)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("plan the sandbox: %w", err)
	}
	c.Log.Debug("planned", "profile", in.Profile.File, "image", in.Image.Ref, "root", s.Root.Kind, "layers", len(s.Root.Layers), "network", s.Network.Mode)
	for _, w := range s.Warnings {
		c.Warn("%s", w)
	}
	options, err := c.options(&in, stored)
	options.Frozen, options.Persist = l.Bool("frozen"), persist
	options.ByHand = shaped(l)
	return &Planned{Spec: s, Options: options, Learn: learn}, err
}

// learnNetwork makes of a profile one under which what it does not allow is found out: refused all the same, or let through.
// It returns the profile where that was asked for, else nil.
func learnNetwork(l Line, p *config.Profile) *config.Profile {
	if !l.IsSet("learn-network") {
		return nil
	}
	n := &p.Network
	if n.Allow == nil {
		n.Allow = []config.Egress{}
	}
	if l.String("learn-network") == "allow" {
		n.Allow = append(slices.Clone(n.Allow), config.Egress{Any: true, Proto: "tcp"}, config.Egress{Any: true, Proto: "udp"})
	}
	return p
}

// Unsaid returns the file of what was told since the machine was booted, a line each, and what is lost here and not
// among that.
func (p *Planned) Unsaid() (file string, lost []string) {
	file = filepath.Join(p.Options.RuntimeDir, "said")
	if len(p.Spec.Lost) == 0 {
		return file, nil
	}
	said, _ := os.ReadFile(file)
	for _, text := range p.Spec.Lost {
		if !slices.Contains(strings.Split(string(said), "\n"), text) {
			lost = append(lost, text)
		}
	}
	return file, lost
}

// Planned is a decision and what carrying it out needs besides.
type Planned struct {
	Spec    *spec.Spec
	Options sandbox.Options
	Learn   *config.Profile // what is asked of the network is to be written into it; nil: is not
}

// ErrNoProc says that a sandbox could have no /proc: that is so in most containers.
var ErrNoProc = errors.New("this machine does not let you mount a /proc for a sandbox")

// ErrNoHostname says that a sandbox would show the name of what is around it.
var ErrNoHostname = errors.New("this machine does not let you name a sandbox")

// input is what was typed and is no part of a profile.
func (c *Call) input(l Line) (sandbox.Input, error) {
	in := sandbox.Input{
		ID:            sandbox.NewID(),
		Name:          l.String("name"),
		Hostname:      l.String("hostname"),
		Argv:          l.Operands(),
		UseEntrypoint: c.Command == "run",
		Shell:         c.Command == "shell",
		Workdir:       l.String("workdir"),
		User:          l.String("user"),
		ReadOnly:      l.Bool("read-only"),
		DropCaps:      l.Words("cap-drop"),
		AddCaps:       l.Words("cap-add"),
		BestEffort:    l.Bool("best-effort"),
		LookupEnv:     programs.LookupEnv,
		HostHome:      os.Getenv("HOME"),
	}
	if l.IsSet("name") && !validName(in.Name) {
		return in, Usagef("--name %s: want letters, digits, '_', '.' and '-', not more than 64, the first a letter or digit", strconv.Quote(in.Name))
	}
	if l.IsSet("hostname") && !validHostname(in.Hostname) {
		return in, Usagef("--hostname %s: want letters, digits, '.' and '-', not more than 64", strconv.Quote(in.Hostname))
	}
	if l.IsSet("workdir") && !filepath.IsAbs(in.Workdir) {
		return in, Usagef("--workdir %s: want an absolute path inside", strconv.Quote(in.Workdir))
	}
	var err error
	if _, err = config.ChangeCaps(nil, in.AddCaps, nil); err != nil {
		return in, Usagef("--cap-add: %v", err)
	}
	if _, err = config.ChangeCaps(nil, nil, in.DropCaps); err != nil {
		return in, Usagef("--cap-drop: %v", err)
	}
	if in.Tmpfs, err = tmpfsFlags(l); err != nil {
		return in, err
	}
	if in.HasEntrypoint = l.IsSet("entrypoint"); in.HasEntrypoint {
		if in.Entrypoint, err = parseEntrypoint(l.String("entrypoint")); err != nil {
			return in, err
		}
	}
	// Without links, as the project's folder is: a shell's $PWD, which Getwd goes by, has those that one came through.
	if in.Cwd, err = os.Getwd(); err == nil {
		in.Cwd, err = filepath.EvalSymlinks(in.Cwd)
	}
	if err != nil {
		return in, fmt.Errorf("find the current folder: %w", err)
	}
	return in, nil
}

func validName(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '_' && r != '.' && r != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func validHostname(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || i == len(s)-1 || r != '.' && r != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Image gets the image, its layers owned as the profile's user wants them, and the mapping for that.
func (c *Call) Image(in *sandbox.Input, source Source) (*store.Store, error) {
	asUID, asGID := uint32(0), uint32(0)
	if in.Profile.User == "me" {
		asUID, asGID = in.Host.UID, in.Host.GID
	}
	var err error
	if in.IDMap, err = IDMap(in.Host, asUID, asGID); err != nil {
		return nil, err
	}
	demands := DemandsOf(in.Profile)
	if in.Profile.Image == "host" {
		if len(demands) > 0 {
			return nil, fmt.Errorf("image %q: %w", in.Profile.Image, &image.UnsignableError{Ref: in.Profile.Image, By: demands[0].By})
		}
		in.Image = &image.Image{Ref: "host", Kind: image.Host}
		if in.Host.UserNS.OK && in.Profile.Workspace.Mode != "review" {
			return nil, nil
		}
		return c.OpenStore() // for the run's own folder, or the project's view
	}
	s, err := c.OpenStore()
	if err != nil {
		return nil, err
	}
	want := Wanted{Source: source, Ref: in.Profile.Image, Store: s, IDMap: in.IDMap, Demands: demands}
	if in.Image, err = c.Pull(want); err != nil || in.Profile.User != "image" || in.Host.UID == 0 {
		return s, err
	}
	// Only the image knows its user, so a second look with the mapping that makes it us.
	if asUID, asGID, err = in.Image.User(); err != nil {
		return s, fmt.Errorf("find the image's user: %w", err)
	}
	if asUID == 0 && asGID == 0 {
		return s, nil
	}
	if in.IDMap, err = IDMap(in.Host, asUID, asGID); err != nil {
		return s, err
	}
	want.IDMap, want.Policy = in.IDMap, image.Missing
	in.Image, err = c.Pull(want)
	return s, err
}

// DemandsOf are the profile's demands on signatures, as package image knows them.
func DemandsOf(p *config.Profile) []image.Demand {
	var out []image.Demand
	for _, d := range p.Verify {
		its := image.Demand{By: p.NameOfOrigin(d.Origin)}
		for _, k := range d.Keys {
			its.Keys = append(its.Keys, image.Key{File: p.ShownAs(k.File), Data: k.Data})
		}
		out = append(out, its)
	}
	return out
}

// IDMap is the mapping in which asUID and asGID inside are the caller outside, with all ids that the machine grants, or
// that one id where it grants none. For root on the host nobody inside is the caller: there is no falling back from that.
func IDMap(h *host.Host, asUID, asGID uint32) (userns.IDMap, error) {
	if h.UID == 0 {
		m, err := userns.AllocateRoot(h.SubIDs)
		if err != nil {
			return m, fmt.Errorf("map ids for root: %w", err)
		}
		return m, nil
	}
	if h.MapRange.OK {
		m, err := userns.Allocate(h.SubIDs, h.UID, h.GID, asUID, asGID)
		if err == nil || !errors.Is(err, userns.ErrNoSubids) {
			return m, err
		}
	}
	return userns.Single(h.UID, h.GID, asUID, asGID), nil
}

// projectHome is the folder that holds the home of a project's sandboxes; "" for a temporary home.
func projectHome(p *config.Profile, create bool) (string, error) {
	if p.Home.Mode != "project" || p.Dir == "" {
		return "", nil
	}
	data, err := config.DataHome(os.Getenv)
	if err != nil {
		return "", err
	}
	data = filepath.Join(data, "cove")
	if !create {
		return homes.Find(data, p.Dir)
	}
	return homes.Make(data, p.Dir)
}

// hidden are the folders that a mount does not show unless it is of them by name: cove's own, and those of the session's
// sockets. A workspace of /tmp or ~/.local holds some of them.
func (c *Call) hidden() ([]string, error) {
	data, err := config.TrustDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	storeDir, err := config.StoreDir(c.StoreDir, os.Getenv)
	if err != nil {
		return nil, err
	}
	runtimeDir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	dirs := []string{filepath.Dir(data), storeDir, runtimeDir}
	if own, err := config.ConfigHome(os.Getenv); err == nil {
		dirs = append(dirs, filepath.Join(own, "cove"))
	}
	sockets := []string{os.Getenv("XDG_RUNTIME_DIR"), "/tmp/.X11-unix", "/tmp/.ICE-unix"}
	if agent := os.Getenv("SSH_AUTH_SOCK"); inside("/tmp", filepath.Dir(agent)) {
		sockets = append(sockets, filepath.Dir(agent))
	}
	for _, dir := range sockets {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// inside reports whether name lies below dir; both are clean and absolute.
func inside(dir, name string) bool { return strings.HasPrefix(name, dir+"/") }

// options is where things are on this machine.
func (c *Call) options(in *sandbox.Input, s *store.Store) (sandbox.Options, error) {
	dir, err := config.RuntimeDir(os.Getenv)
	var image *store.Handle
	if h, stored := in.Image.Handle(); stored {
		image = &h
	}
	return sandbox.Options{
		Host:          in.Host,
		Store:         s,
		Image:         image,
		RuntimeDir:    dir,
		Project:       in.Profile.Dir,
		FuseOverlayfs: in.Host.Helpers.FuseOverlayfs,
		ProfileHash:   in.Profile.Hash(),
		Network:       c.Network,
		Integrations:  c.Integrations,
		Stdin:         c.Stdin,
		Stdout:        c.Stdout,
		Stderr:        c.Stderr,
		Warn:          c.Stderr,
		Log:           c.Log,
	}, err
}

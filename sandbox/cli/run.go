package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"cove/config"
	"cove/fetch"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/host"
	"cove/sandbox/spec"
	"cove/userns"

	"github.com/urfave/cli/v2"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "one command in a fresh sandbox, gone afterwards",
		UsageText: "cove run [OPTIONS] [--] [COMMAND [ARG...]]",
		Flags: append(sandboxFlags(),
			&cli.StringFlag{Name: "entrypoint", Usage: "instead of the image's ENTRYPOINT, `PROGRAM` or a JSON array; \"\" for none"}),
		Action: a.action(a.run),
	}
}

func (a *app) run(c *cli.Context) error {
	plan, err := a.plan(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return writeJSON(a.stdout, plan.spec)
	}
	status, err := sandbox.Run(a.ctx, plan.spec, plan.options)
	return a.status(status, err)
}

// plan is the story of a start up to the decision: what was asked for, whether that may be, what
// this machine has, the image, and the Spec that follows from them.
func (a *app) plan(c *cli.Context) (*planned, error) {
	flags, err := profileFlags(c)
	if err != nil {
		return nil, err
	}
	in, err := a.input(c)
	if err != nil {
		return nil, err
	}
	policy, err := pullPolicy(c)
	if err != nil {
		return nil, err
	}
	if in.Profile, err = a.loadProfile(c, flags); err != nil {
		return nil, err
	}
	if err = a.checkTrust(in.Profile); err != nil {
		return nil, err
	}
	if err = runScript(&in); err != nil {
		return nil, err
	}
	if in.Host, err = a.probe(false); err != nil {
		return nil, err
	}
	if !in.Host.UserNS.OK {
		return nil, errNoUserNS
	}
	if !in.Host.ProcMount.OK {
		return nil, errNoProc
	}
	stored, err := a.image(&in, c.String("platform"), policy)
	if err != nil {
		return nil, err
	}
	if in.HomeDir, err = projectHome(in.Profile, !c.Bool("dry-run")); err != nil {
		return nil, err
	}
	if in.Hide, err = a.hidden(); err != nil {
		return nil, err
	}
	s, err := sandbox.Plan(in)
	if errors.Is(err, sandbox.ErrNoCommand) {
		return nil, usagef("which command? (%v)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("plan the sandbox: %w", err)
	}
	a.log.Debug("planned", "profile", in.Profile.File, "image", in.Image.Ref, "root", s.Root.Kind, "layers", len(s.Root.Layers), "network", s.Network.Mode)
	for _, w := range s.Warnings {
		a.warn("%s", w)
	}
	options, err := a.options(&in, stored)
	if err == nil {
		a.sayLost(options.RuntimeDir, s.Lost)
	}
	return &planned{spec: s, options: options}, err
}

// sayLost tells what is only inconvenient, once a boot: each is a line of a file in the runtime directory then, which
// goes when the machine does. `cove doctor` tells it always.
func (a *app) sayLost(runtimeDir string, lost []string) {
	if len(lost) == 0 {
		return
	}
	file := filepath.Join(runtimeDir, "said")
	said, _ := os.ReadFile(file)
	for _, text := range lost {
		if slices.Contains(strings.Split(string(said), "\n"), text) {
			continue
		}
		a.warn("%s", text)
		a.warn("hint: `cove doctor` prints the command that mends it (this is said once)")
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			continue
		}
		_, _ = f.WriteString(text + "\n")
		_ = f.Close()
	}
}

// planned is a decision and what carrying it out needs besides.
type planned struct {
	spec    *spec.Spec
	options sandbox.Options
}

// errNoUserNS says that there can be no sandbox on this machine; its hint says why.
var errNoUserNS = errors.New("this machine does not let you make user namespaces, of which a sandbox is made")

// errNoProc says that a sandbox could have no /proc: that is so in most containers.
var errNoProc = errors.New("this machine does not let you mount a /proc for a sandbox")

// input is what was typed and is no part of a profile.
func (a *app) input(c *cli.Context) (sandbox.Input, error) {
	in := sandbox.Input{
		ID:            sandbox.NewID(),
		Name:          c.String("name"),
		Hostname:      c.String("hostname"),
		Argv:          c.Args().Slice(),
		UseEntrypoint: a.command == "run",
		Shell:         a.command == "shell",
		Workdir:       c.String("workdir"),
		User:          c.String("user"),
		ReadOnly:      c.Bool("read-only"),
		DropCaps:      wordsOf(c, "cap-drop"),
		AddCaps:       wordsOf(c, "cap-add"),
		BestEffort:    c.Bool("best-effort"),
		LookupEnv:     os.LookupEnv,
		HostHome:      os.Getenv("HOME"),
	}
	if c.IsSet("name") && !validName(in.Name) {
		return in, usagef("--name %s: want letters, digits, '_', '.' and '-', not more than 64, the first a letter or digit", quote(in.Name))
	}
	if c.IsSet("hostname") && !validHostname(in.Hostname) {
		return in, usagef("--hostname %s: want letters, digits, '.' and '-', not more than 64", quote(in.Hostname))
	}
	if c.IsSet("workdir") && !filepath.IsAbs(in.Workdir) {
		return in, usagef("--workdir %s: want an absolute path inside", quote(in.Workdir))
	}
	var err error
	if _, err = config.ChangeCaps(nil, in.AddCaps, nil); err != nil {
		return in, usagef("--cap-add: %v", err)
	}
	if _, err = config.ChangeCaps(nil, nil, in.DropCaps); err != nil {
		return in, usagef("--cap-drop: %v", err)
	}
	if in.Tmpfs, err = tmpfsFlags(c); err != nil {
		return in, err
	}
	if in.HasEntrypoint = c.IsSet("entrypoint"); in.HasEntrypoint {
		if in.Entrypoint, err = parseEntrypoint(c.String("entrypoint")); err != nil {
			return in, err
		}
	}
	if in.Cwd, err = os.Getwd(); err != nil {
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

// image gets the image, its layers owned as the profile's user wants them, and the mapping for that.
func (a *app) image(in *sandbox.Input, platform string, policy fetch.PullPolicy) (*store.Store, error) {
	asUID, asGID := uint32(0), uint32(0)
	if in.Profile.User == "me" {
		asUID, asGID = in.Host.UID, in.Host.GID
	}
	var err error
	if in.IDMap, err = idmap(in.Host, asUID, asGID); err != nil {
		return nil, err
	}
	if in.Profile.Image == "host" {
		in.Image = &fetch.Image{Ref: "host", Kind: fetch.Host}
		return nil, nil
	}
	s, err := a.openStore()
	if err != nil {
		return nil, err
	}
	options := fetch.Options{Store: s, IDMap: in.IDMap, Platform: platform, Policy: policy}
	if in.Image, err = a.pullOne(in.Profile.Image, options); err != nil || in.Profile.User != "image" || in.Host.UID == 0 {
		return s, err
	}
	// Only the image knows its user, so a second look with the mapping that makes it us.
	if asUID, asGID, err = in.Image.User(); err != nil {
		return s, fmt.Errorf("find the image's user: %w", err)
	}
	if asUID == 0 && asGID == 0 {
		return s, nil
	}
	if in.IDMap, err = idmap(in.Host, asUID, asGID); err != nil {
		return s, err
	}
	options.IDMap, options.Policy = in.IDMap, fetch.Missing
	in.Image, err = a.pullOne(in.Profile.Image, options)
	return s, err
}

// idmap is the mapping in which asUID and asGID inside are the caller outside, with all ids that the machine grants, or
// that one id where it grants none. For root on the host nobody inside is the caller: there is no falling back from that.
func idmap(h *host.Host, asUID, asGID uint32) (userns.IDMap, error) {
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
	sum := sha256.Sum256([]byte(p.Dir))
	dir := filepath.Join(data, "cove", "homes", hex.EncodeToString(sum[:8]))
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("make the project's home: %w", err)
		}
	}
	return dir, nil
}

// hidden are the folders that a mount does not show unless it is of them by name: cove's own, and those of the session's
// sockets. A workspace of /tmp or ~/.local holds some of them.
func (a *app) hidden() ([]string, error) {
	data, err := config.TrustDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	storeDir, err := config.StoreDir(a.storeDir, os.Getenv)
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
func (a *app) options(in *sandbox.Input, s *store.Store) (sandbox.Options, error) {
	dir, err := config.RuntimeDir(os.Getenv)
	var image *store.Handle
	if h, stored := in.Image.Handle(); stored {
		image = &h
	}
	return sandbox.Options{
		Store:         s,
		Image:         image,
		RuntimeDir:    dir,
		Project:       in.Profile.Dir,
		FuseOverlayfs: in.Host.Helpers.FuseOverlayfs,
		ProfileHash:   in.Profile.Hash(),
		Stdin:         a.stdin,
		Stdout:        a.stdout,
		Stderr:        a.stderr,
		Warn:          a.stderr,
		Log:           a.log,
	}, err
}

// status hands on how the command inside ended.
func (a *app) status(s sandbox.Status, err error) error {
	if err != nil {
		return err
	}
	if s.Text != "" {
		a.warn("%s", s.Text)
	}
	if code := s.ExitCode(); code != 0 {
		return exitStatus(code)
	}
	return nil
}

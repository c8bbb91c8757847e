package start

import (
	"context"
	"log/slog"
	"os"

	"cove/config"
	"cove/fetch/image"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/host"
	"cove/sandbox/integration"
	"cove/sandbox/network"
	"cove/sandbox/programs"
	"cove/sandbox/review"
	"cove/userns"
)

// Call is one call of cove, and what a start needs of whoever makes it.
type Call struct {
	Ctx            context.Context
	Stdin          *os.File
	Stdout, Stderr *os.File
	Log            *slog.Logger
	Command        string // the command that runs: "run", "image inspect"
	StoreDir       string // --store
	Network        network.Driver
	Integrations   integration.Driver
	Bounds         image.Bounds // of what may be pulled

	// Warn says that less is done than was wished.
	Warn func(format string, args ...any)
	// Agree asks whether a profile may have what it grants, and remembers a yes.
	Agree func(*config.Trust, *config.Profile, config.Decision) error
	// Pull gets an image, from the store or from where it is.
	Pull func(Wanted) (*image.Image, error)
	// Review lets a project be worked in under review: in the view that the store has kept, which it returns, or in a new one.
	Review func(store, project string) (*review.Record, error)

	// SetUp makes an image by a profile's setup.
	SetUp func(*SetUp) (*image.Image, error)

	// SetupWanted tells the store whether anybody still asks for an image that was set up; nil: somebody does.
	SetupWanted func(*store.Setup) bool

	// Devices finds what GPUs of these names need.
	Devices func(names []string) (*integration.Devices, error)

	Known *host.Host // what was asked of this machine already
}

// Wanted is an image that a start needs.
type Wanted struct {
	Source
	Ref     string
	Store   *store.Store
	IDMap   userns.IDMap
	Demands []image.Demand
}

// Machine is what this machine allows, asked once in a call of cove; fresh asks the machine itself, not what is known
// of it since it was booted.
func (c *Call) Machine(fresh bool) (*host.Host, error) {
	if c.Known != nil && !fresh {
		return c.Known, nil
	}
	return c.Inspect(host.Options{Fresh: fresh})
}

// Inspect asks the machine as opts say, which need not say where things are.
func (c *Call) Inspect(opts host.Options) (_ *host.Host, err error) {
	if opts.StoreDir, err = config.StoreDir(c.StoreDir, os.Getenv); err != nil {
		return nil, err
	}
	if opts.RuntimeDir, err = config.RuntimeDir(os.Getenv); err != nil {
		opts.RuntimeDir = "" // nothing is kept then; who needs the folder says what is wrong with it
	}
	c.Known, err = host.Probe(c.Ctx, opts)
	return c.Known, err
}

// OpenStore opens the image store.
func (c *Call) OpenStore() (*store.Store, error) {
	dir, err := config.StoreDir(c.StoreDir, os.Getenv)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(dir)
	if err == nil {
		s.SetupWanted = c.SetupWanted
	}
	return s, err
}

// LoadProfile finds and reads the profile, lays flags above it, and says what there is to say.
func (c *Call) LoadProfile(l Line, flags []config.Flag) (*config.Profile, error) {
	opts, err := config.DefaultOptions()
	if err != nil {
		return nil, err
	}
	opts.ProfileFlag, opts.Flags = l.String("profile"), flags
	if l.IsSet("profile") && opts.ProfileFlag == "" {
		return nil, Usagef("--profile: the file's name is empty")
	}
	p, warnings, err := config.Load(opts)
	for _, w := range warnings {
		c.Warn("%s", w)
	}
	if err == nil {
		programs.Guard(p.Writable()...)
		_, err = sandbox.ParseSeccomp(p)
	}
	return p, err
}

// OpenTrust is what the user has agreed to so far.
func OpenTrust() (*config.Trust, error) {
	dir, err := config.TrustDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	return config.OpenTrust(dir), nil
}

// CheckTrust lets a profile pass that wants nothing but what was agreed to. Nothing may have been done for the profile
// before: no pull, no mount, no folder.
func (c *Call) CheckTrust(p *config.Profile) error {
	t, err := OpenTrust()
	if err != nil {
		return err
	}
	d, err := t.Check(p)
	if err == nil && !d.Trusted {
		err = c.Agree(t, p, d)
	}
	if err != nil {
		return err
	}
	return p.ReadKeys()
}

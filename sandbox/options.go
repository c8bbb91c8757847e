package sandbox

import (
	"io"
	"log/slog"
	"os"

	"cove/fetch/store"
	"cove/sandbox/host"
	"cove/sandbox/integration"
	"cove/sandbox/network"
)

// Options is what a run needs besides its Spec: where things are on this machine.
type Options struct {
	Host       *host.Host     // what the Spec was planned for; nil: nothing is prepared for the next start
	Store      *store.Store   // nil for a host root file system
	Image      *store.Handle  // of the layers that are to be kept while it runs; nil without
	RuntimeDir string         // $XDG_RUNTIME_DIR/cove, verified to be ours
	Network    network.Driver // for a user-mode network and published ports
	Persist    *Persist       // where the root file system's changes are kept; nil: nowhere
	// Integrations serve what Spec.Integrations has.
	Integrations integration.Driver
	Project      string // the project's folder: a second shell there joins the first

	FuseOverlayfs string // path of the program; "" when there is none
	ProfileHash   string // of the profile that the Spec was made of
	// ByHand are the parts of a shell's sandbox that options say something of (PartNetwork): one that runs, and is not so, is not
	// joined. A part that is not known stands for all.
	ByHand     []string
	TellJoined bool // that a shell joined a sandbox is told
	Frozen     bool // no sandbox is joined that runs another image than the Spec's
	Stdin      *os.File
	Stdout     *os.File
	Stderr     *os.File
	// Learned is told at the end which entries network.allow would have needed, and which of them lead to closed addresses;
	// nil: it is said on Warn.
	Learned func(entries, closed []string)
	Warn    io.Writer // where warnings go, one "cove: ..." line each
	Log     *slog.Logger

	setup bool   // what runs is a profile's setup
	shell bool   // the sandbox of `cove shell`, which others join
	parts []part // of it
}

// Status is how a command ended: by Signal when that is not 0, with Code otherwise. Text says why
// when it never ran (Code is then 125, 126 or 127).
type Status struct {
	Code   int
	Signal int
	Text   string
}

// ExitCode is the status as a shell has it: the command's own code, or 128 and the signal's number.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + s.Signal
	}
	return s.Code
}

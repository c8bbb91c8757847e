package integration

import (
	"context"
	"os"
	"time"

	"cove/sandbox/spec"
)

// Driver is the parent's half.
type Driver interface {
	// Open makes ready what s has of integrations, before anything of the sandbox runs. What this machine lacks for it is
	// a *MissingError. It may complete s. tell hears of every use, from many goroutines.
	Open(ctx context.Context, s *spec.Spec, tell func(Event)) (Opened, error)
}

// Opened are integrations that are ready.
type Opened interface {
	// Serve answers on the socket of this name (spec.Integrations.Sockets), and takes it over.
	Serve(name string, listening *os.File) error
	// Close ends what is being answered, and waits for it.
	Close() error
}

// Event is one use of an integration, or a use that was refused.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`           // ssh-agent, git, browser, notify
	What    string    `json:"what"`           // list, sign, get, open, show, or what was refused: add, remove, lock
	On      string    `json:"on,omitempty"`   // the key, host or address
	Text    string    `json:"text,omitempty"` // what the caller's agent calls the key; a notification's title
	To      string    `json:"to,omitempty"`   // the key of the server that it is said to be for
	Allowed bool      `json:"allowed"`
	Reason  string    `json:"reason,omitempty"`  // why it was refused
	Error   string    `json:"error,omitempty"`   // what went wrong with what was allowed
	PID     int       `json:"pid,omitempty"`     // outside, of the process inside that asked
	Program string    `json:"program,omitempty"` // what that calls itself
	Notice  string    `json:"-"`                 // what who works in the sandbox is told of it, outside
}

// MissingError says that this machine, or this session, lacks what an integration needs.
type MissingError struct {
	Name string // as the profile has it: host.ssh_agent
	Why  string
	Do   string // what to do about it
}

func (e *MissingError) Error() string { return e.Name + ": " + e.Why }

// Devices are what there is of the host for the GPUs that were granted; package gpu finds it.
type Devices struct {
	Nodes  []Bound // device nodes, below /dev inside
	Mounts []Bound // files and folders, read-only
	Env    []string
}

// Bound is something of the host's, and where it is inside.
type Bound struct{ Source, Target string }

package network

import (
	"context"
	"os"

	"cove/sandbox/spec"
)

// The values of Spec.Network.Driver, and Auto, which a profile may leave to the machine.
const (
	Auto    = "auto"
	Builtin = "builtin" // cove's own stack, in the parent's process
	Slirp   = "slirp4netns"
	Pasta   = "pasta"
)

// Driver is the parent half of a user-mode network, package driver's: who runs a sandbox is handed one, so that a
// sandbox without such a network need not link it.
type Driver interface {
	// Link is what init is to make, where that is known before the network is attached: init begins then, and needs the network only
	// when it hands its interface over. nil: Attach finds out.
	Link(n *spec.Network) (*spec.Link, error)
	// Attach starts a network of n.Driver for the network namespace of pid. find finds the program of another driver than Builtin;
	// decide hears of what Builtin decides, from many goroutines; it may be nil.
	Attach(ctx context.Context, pid int, n *spec.Network, find func(program string) (string, error), decide func(Decision)) (*Attached, error)
	// Publish listens on each port until Close, and carries what comes to a socket of dial's.
	Publish(ctx context.Context, ports []spec.Port, dial func(proto string, port uint16) (*os.File, error)) (Ports, error)
}

// Ports are the published ports of a sandbox, which may change while it runs.
type Ports interface {
	Add(spec.Port) (spec.Port, error) // the host's port may be 0: it is chosen then
	Remove(spec.Port) bool            // false: there is none of that address, port and protocol
	Ports() []spec.Port
	Close() error
}

// Attached is a network that runs.
type Attached struct {
	spec.Link
	Driver string          // the one that carries it
	Done   <-chan struct{} // closed when it is no longer there, whatever ended it
	Close  func() error    // ends it, and waits until it is gone
	// Serve takes the interface over that init has made, where Link.Tun asks it to; nil elsewhere.
	Serve func(tun *os.File) error
}

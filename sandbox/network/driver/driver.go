package driver

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"cove/sandbox/host"
	"cove/sandbox/network"
	"cove/sandbox/network/outside"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// The values of Options.Driver.
const (
	Auto    = network.Auto
	Builtin = network.Builtin
	Slirp   = network.Slirp
	Pasta   = network.Pasta
)

// Options says how Attach is to do it.
type Options struct {
	Driver string                 // Auto or "" is Builtin
	Egress spec.Egress            // of Builtin
	Log    io.Writer              // what the helpers say; nil: nobody listens
	Decide func(network.Decision) // takes every decision of Builtin's; nil: nobody listens
	// Find finds a helper: what the sandbox can put in its place is not to be run. nil: exec.LookPath
	Find func(program string) (string, error)
}

// Link is a network that runs.
type Link struct {
	spec.Link
	Driver string // the one that was chosen
	// Serve takes the interface over that is made inside, where Link.Tun asks for one; nil elsewhere.
	Serve func(tun *os.File) error
	end   func() error
	done  <-chan struct{}
}

// Close ends the network and waits until it is gone.
func (l *Link) Close() error { return l.end() }

// Done is closed when the network is no longer there, whatever ended it.
func (l *Link) Done() <-chan struct{} { return l.done }

// helped is a link that a helper program carries.
func (l *Link) helped(h *helper) { l.end, l.done = h.close, h.done }

// MissingError says that the program that was to carry the network is not installed.
type MissingError = host.MissingError

// Network is these drivers as who runs a sandbox wants them.
type Network struct{}

var _ network.Driver = Network{}

// Link implements network.Driver.
func (Network) Link(n *spec.Network) (*spec.Link, error) {
	switch n.Driver {
	case Builtin, "", Auto:
		return network.BuiltinLinkHere()
	}
	return nil, nil
}

// Attach implements network.Driver.
func (Network) Attach(ctx context.Context, pid int, n *spec.Network, find func(string) (string, error), decide func(network.Decision)) (*network.Attached, error) {
	l, err := Attach(ctx, pid, Options{Driver: n.Driver, Egress: n.Egress, Find: find, Decide: decide})
	if err != nil {
		return nil, err
	}
	return &network.Attached{Link: l.Link, Driver: l.Driver, Done: l.Done(), Close: l.Close, Serve: l.Serve}, nil
}

// Publish implements network.Driver.
func (Network) Publish(ctx context.Context, ports []spec.Port, dial func(proto string, port uint16) (*os.File, error)) (network.Ports, error) {
	p, err := Publish(ctx, ports, dial)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Attach starts the user-mode network for the network namespace of pid: a child of ours in a user
// namespace with its ids mapped, which has not changed its root yet. The network ends with Close,
// and when this process dies.
func Attach(ctx context.Context, pid int, opts Options) (*Link, error) {
	switch opts.Driver {
	case Builtin, "", Auto:
		return attachBuiltin(opts)
	case Slirp, Pasta:
	default:
		return nil, fmt.Errorf("unknown network driver %q", opts.Driver)
	}
	if opts.Find == nil {
		opts.Find = exec.LookPath
	}
	host, err := outside.Read()
	if err != nil {
		return nil, fmt.Errorf("look at the host's network: %w", err)
	}
	closeOnExec()
	if opts.Driver == Slirp {
		return attachSlirp(ctx, pid, host, opts, "tap0")
	}
	return attachPasta(ctx, pid, host, opts, "tap0")
}

// closeOnExec keeps every descriptor that this process itself inherited from reaching a helper:
// Go's own are close-on-exec already, and what is given to a child is duplicated for it
// (close_range(2), the flag since Linux 5.11; before that, they are left as they are).
func closeOnExec() { _ = unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) }

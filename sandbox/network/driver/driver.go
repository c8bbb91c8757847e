package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"cove/sandbox/host"
	"cove/sandbox/network"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// The values of Options.Driver.
const (
	Auto  = network.Auto
	Slirp = network.Slirp
	Pasta = network.Pasta
)

// Options says how Attach is to do it.
type Options struct {
	Driver string    // Auto or "": slirp4netns where it works, else pasta
	Log    io.Writer // what the helpers say; nil: nobody listens
}

// Link is a network that runs.
type Link struct {
	spec.Link
	Driver string // the one that was chosen
	helper *helper
}

// Close ends the helper and waits until it is gone.
func (l *Link) Close() error { return l.helper.close() }

// Done is closed when the helper is no longer there, whatever ended it.
func (l *Link) Done() <-chan struct{} { return l.helper.done }

// MissingError says that no program that could carry the network is installed.
type MissingError = host.MissingError

// Network is these drivers as who runs a sandbox wants them.
type Network struct{}

var _ network.Driver = Network{}

// Attach implements network.Driver.
func (Network) Attach(ctx context.Context, pid int, name string) (*network.Attached, error) {
	link, err := Attach(ctx, pid, Options{Driver: name})
	if err != nil {
		return nil, err
	}
	return &network.Attached{Link: link.Link, Driver: link.Driver, Done: link.Done(), Close: link.Close}, nil
}

// Publish implements network.Driver.
func (Network) Publish(ctx context.Context, ports []spec.Port, dial func(proto string, port uint16) (*os.File, error)) (io.Closer, error) {
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
	outside, err := readHost()
	if err != nil {
		return nil, fmt.Errorf("look at the host's network: %w", err)
	}
	closeOnExec()
	switch opts.Driver {
	case Slirp:
		return attachSlirp(ctx, pid, outside, opts, "tap0")
	case Pasta:
		return attachPasta(ctx, pid, outside, opts, "tap0")
	case "", Auto:
		return attachAny(ctx, pid, outside, opts)
	}
	return nil, fmt.Errorf("unknown network driver %q", opts.Driver)
}

// attachAny takes the first driver that works. The second gets an interface of its own, as the
// first may have left one behind.
func attachAny(ctx context.Context, pid int, outside *outside, opts Options) (*Link, error) {
	link, err := attachSlirp(ctx, pid, outside, opts, "tap0")
	if err == nil || ctx.Err() != nil {
		return link, err
	}
	link, perr := attachPasta(ctx, pid, outside, opts, "tap1")
	if perr == nil {
		return link, nil
	}
	var missing *MissingError
	if errors.As(err, &missing) && errors.As(perr, &missing) {
		return nil, &MissingError{Programs: []string{Slirp, Pasta}, Packages: []string{"slirp4netns", "passt"}, Any: true}
	}
	return nil, errors.Join(err, perr)
}

// closeOnExec keeps every descriptor that this process itself inherited from reaching a helper:
// Go's own are close-on-exec already, and what is given to a child is duplicated for it
// (close_range(2), the flag since Linux 5.11; before that, they are left as they are).
func closeOnExec() { _ = unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) }

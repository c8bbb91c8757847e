package sandbox

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"cove/sandbox/spec"
	"cove/sandbox/trace"
)

// knownLink is what init is to make of the network, where that is known before the network is attached; else nil.
func (b *box) knownLink() (*spec.Link, error) {
	if b.spec.Network.Mode != "user" {
		return &spec.Link{}, nil
	}
	link, err := b.opts.Network.Link(&b.spec.Network)
	if err != nil {
		return nil, fmt.Errorf("look at the host's network: %w", err)
	}
	return link, nil
}

// attachNetwork starts the user-mode network, before init has changed its root, or, where its link is known, while it makes what comes before
// the interface.
func (b *box) attachNetwork(ctx context.Context) (_ spec.Link, err error) {
	defer func() {
		if err != nil {
			b.control.serveTun(nil)
		}
	}()
	decide, err := b.netLog()
	if err != nil {
		return spec.Link{}, err
	}
	link, err := b.opts.Network.Attach(ctx, b.child.Pid(), &b.spec.Network, b.findProgram, decide)
	if err != nil {
		return spec.Link{}, fmt.Errorf("attach network: %w", err)
	}
	go func() {
		select {
		case <-link.Done:
			if !b.ending.Load() {
				b.warn("%s has ended: there is no network in the sandbox any more", link.Driver)
			}
		case <-b.ended:
		}
	}()
	trace.Step("attached network")
	b.undo(link.Close)
	if link.Serve != nil {
		leaveProcessors()
	}
	b.control.serveTun(link.Serve)
	return link.Link, nil
}

// attachBeside is attachNetwork for a network whose link init has got already. Init waits with the main command for the word that it is attached.
func (b *box) attachBeside(ctx context.Context) error {
	if _, err := b.attachNetwork(ctx); err != nil {
		return err
	}
	_ = b.control.conn.Send(spec.ToInit{Attached: true}) // where init has ended, awaitReady tells why
	return nil
}

// leaveProcessors takes half of them for the network of cove's own, unless the user has said how many. What is inside has use for
// the others, and each packet is carried by several goroutines, one after the other: to hand it to another processor takes
// longer than what is to be done with it. On two processors a request takes a fifth less time, and one in a hundred a
// quarter of it.
func leaveProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	}
}

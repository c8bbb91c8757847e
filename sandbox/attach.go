package sandbox

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"cove/sandbox/spec"
	"cove/sandbox/trace"
)

// attachNetwork starts the user-mode network, while init still waits in the host's mounts.
func (b *box) attachNetwork(ctx context.Context) (spec.Link, error) {
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

// leaveProcessors takes half of them for the network of cove's own, unless the user has said how many. What is inside has use for
// the others, and each packet is carried by several goroutines, one after the other: to hand it to another processor takes
// longer than what is to be done with it. On two processors a request takes a fifth less time, and one in a hundred a
// quarter of it.
func leaveProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
	}
}

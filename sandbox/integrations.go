package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cove/sandbox/integration"
	"cove/sandbox/spec"
	"cove/userns/fork"
)

const hostLogName = "host.log"

// openIntegrations makes ready what the Spec has of them, and begins their log. Nothing runs yet: what this machine lacks is
// told before anything is made.
func (b *box) openIntegrations(ctx context.Context) error {
	if b.spec.Integrations == nil {
		return nil
	}
	if b.opts.Integrations == nil {
		return errors.New("bug: nobody serves the integrations")
	}
	if len(b.spec.Integrations.Programs()) > 0 {
		file, ok := fork.Executable()
		if !ok {
			return fmt.Errorf("find this program's own file: %q is not this program any more: start cove anew", file)
		}
		b.spec.Integrations.Program = spec.Path(file)
	}
	b.spec.Integrations.Project = spec.Path(b.opts.Project)
	log := b.newLog(hostLogName)
	b.undo(func() error { log.end(); return nil })
	opened, err := b.opts.Integrations.Open(ctx, b.spec, func(e integration.Event) {
		log.add(e)
		switch {
		case e.Notice == "":
		case b.main != nil:
			b.main.session.Say(e.Notice)
		default:
			b.control.say(e.Notice)
		}
	})
	if err != nil {
		return err
	}
	b.integrations = opened
	b.undo(opened.Close)
	return nil
}

// serveIntegrations takes the sockets that init has made inside.
func (b *box) serveIntegrations(sockets []*os.File) error {
	names := b.spec.Integrations.Sockets()
	if b.integrations == nil || len(names) != len(sockets) {
		closeFiles(sockets)
		return fmt.Errorf("serve integrations: %d sockets came for %d", len(sockets), len(names))
	}
	var errs []error
	for i, name := range names {
		errs = append(errs, b.integrations.Serve(name, sockets[i]))
	}
	return errors.Join(errs...)
}

var errNoHostLog = errors.New("nothing of the host has been used in this sandbox")

// HostLog opens a sandbox's log of what of the host was used inside, as openLog does.
func HostLog(runtimeDir, name string) (old, now *os.File, ended func() bool, err error) {
	return openLog(runtimeDir, name, hostLogName, errNoHostLog)
}

package outside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"cove/sandbox/integration"
	"cove/sandbox/programs"
	"cove/sandbox/spec"
)

// Integrations is the Driver.
type Integrations struct{}

var _ integration.Driver = Integrations{}

// opened are the integrations of one sandbox.
type opened struct {
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	name, id string // the sandbox's
	tell     func(integration.Event)
	agent    *sshAgent // nil without
	services services
	audio    *audio   // nil without
	wayland  *wayland // nil without
	x11      *x11     // nil without
	servers  sync.WaitGroup

	mu        sync.Mutex
	listeners []net.Listener
}

// Open implements integration.Driver.
func (Integrations) Open(ctx context.Context, s *spec.Spec, tell func(integration.Event)) (integration.Opened, error) {
	o := &opened{name: s.Name, id: s.ID, tell: tell}
	if a := s.Integrations.SSHAgent; a != nil {
		var err error
		if o.agent, err = openAgent(ctx, a, programs.New(s.Writable())); err != nil {
			return nil, err
		}
	}
	if err := o.openServices(ctx, s); err != nil {
		return nil, err
	}
	o.ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return o, nil
}

// openServices makes ready what is asked for on the host socket.
func (o *opened) openServices(ctx context.Context, s *spec.Spec) error {
	o.services = services{}
	in := s.Integrations
	if in.Git != nil {
		g, err := openGit(ctx, s)
		if err != nil {
			return err
		}
		if len(in.Git.Credentials) > 0 {
			o.services[integration.Credential] = g
		}
	}
	if in.Browser {
		b, err := newBrowser(programs.New(s.Writable()))
		if err != nil {
			return err
		}
		o.services[integration.Open] = b
	}
	if in.Notify {
		n, err := newNotifier(programs.New(s.Writable()), s.Name)
		if err != nil {
			return err
		}
		o.services[integration.Notify] = n
	}
	if in.Audio != nil {
		var err error
		if o.audio, err = openAudio(ctx, in.Audio); err != nil {
			return err
		}
	}
	return o.openWindows(ctx, s) // last: what it makes in the X server is for Close to take back
}

// openWindows makes ready what windows are opened on.
func (o *opened) openWindows(ctx context.Context, s *spec.Spec) (err error) {
	in := s.Integrations
	if in.Wayland != nil {
		if o.wayland, err = openWayland(ctx, in.Wayland); err != nil {
			return err
		}
	}
	if in.X11 == nil {
		return nil
	}
	var authority []byte
	if o.x11, authority, err = openX11(ctx, in.X11, string(in.X11.Socket())); err != nil {
		return err
	}
	in.Files = append(in.Files, spec.File{Target: spec.IntegrationsDir + "/" + spec.XAuthority, Kind: spec.FileWrite, Content: spec.Arg(authority)})
	return nil
}

// Serve implements integration.Opened.
func (o *opened) Serve(name string, listening *os.File) error {
	defer listening.Close()
	if name == spec.Display && o.wayland != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.wayland.serve(o.ctx, listening, o.id)
	}
	l, err := net.FileListener(listening) // a copy, which does not block
	if err != nil {
		return fmt.Errorf("serve %s: %w", name, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ctx.Err() != nil {
		return errors.Join(l.Close(), context.Cause(o.ctx))
	}
	var answer func(context.Context, *client)
	switch {
	case name == spec.AgentSocket && o.agent != nil:
		answer = o.serveAgent
	case name == spec.AudioSocket && o.audio != nil:
		answer = o.serveAudio
	case name == spec.HostSocket:
		answer = o.serveHost
	default:
		return errors.Join(l.Close(), fmt.Errorf("bug: nobody serves %s", name))
	}
	o.listeners = append(o.listeners, l)
	o.servers.Go(func() { o.accept(l, answer) })
	return nil
}

// Close implements integration.Opened.
func (o *opened) Close() error {
	o.mu.Lock()
	o.cancel()
	for _, l := range o.listeners {
		_ = l.Close()
	}
	o.mu.Unlock()
	o.servers.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wayland != nil {
		o.wayland.close()
	}
	if o.x11 != nil {
		o.x11.close()
	}
	return nil
}

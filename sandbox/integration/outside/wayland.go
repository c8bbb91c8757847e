package outside

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"cove/fetch/oci"
	"cove/sandbox/integration"
	"cove/sandbox/spec"
)

// wayland is the caller's compositor. Where it has security contexts (security-context-v1 of wayland-protocols) it listens inside itself
// and knows who connects there for a sandbox: those are not offered what is for trusted clients, such as the screen's content. Else its own
// socket lies inside, and what comes there is a client like any other.
type wayland struct {
	socket string
	alive  *os.File // held open; when it goes the compositor stops listening
}

const contextManager = "wp_security_context_manager_v1"

// openWayland finds out what there is, and says so in s.
func openWayland(ctx context.Context, s *spec.Wayland) (*wayland, error) {
	w := &wayland{socket: string(s.Socket)}
	c, err := w.connect(ctx)
	if err == nil {
		defer c.Close()
		_, s.Context, err = c.find(contextManager)
	}
	if err != nil {
		return nil, &integration.MissingError{Name: "host.wayland", Why: fmt.Sprintf("talk to the compositor at %q: %v", s.Socket, err),
			Do: "WAYLAND_DISPLAY and XDG_RUNTIME_DIR name its socket: they are right in a terminal of the desktop"}
	}
	return w, nil
}

// serve lets the compositor listen on the socket.
func (w *wayland) serve(ctx context.Context, listening *os.File, sandbox string) error {
	c, err := w.connect(ctx)
	if err != nil {
		return fmt.Errorf("talk to the compositor: %w", err)
	}
	defer c.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	if err := syscall.SetNonblock(int(listening.Fd()), true); err != nil {
		return err
	}
	if err := c.listen(listening, theirs, sandbox); err != nil {
		ours.Close()
		return fmt.Errorf("let the compositor listen inside: %w", err)
	}
	w.alive = ours
	return nil
}

func (w *wayland) close() {
	if w.alive != nil {
		w.alive.Close()
	}
}

// compositor is a connection, on which objects are numbered as they are asked for. Its format is that of wayland.xml's wire protocol.
type compositor struct {
	*net.UnixConn
	last uint32
}

func (w *wayland) connect(ctx context.Context) (*compositor, error) {
	conn, err := dialUnix(ctx, w.socket)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(messageTime)); err != nil {
		conn.Close()
		return nil, err
	}
	return &compositor{UnixConn: conn, last: displayObject}, nil
}

// The objects that there are, or are asked for first, and their requests and events.
const (
	displayObject  = 1
	displaySync    = 0
	displayGet     = 1 // the registry
	displayError   = 0
	registryBind   = 0
	registryGlobal = 0
)

func (c *compositor) object() uint32 { c.last++; return c.last }

// request sends one, with descriptors if there are any.
func (c *compositor) request(object uint32, opcode uint16, files []*os.File, args ...any) error {
	body := []byte{}
	for _, a := range args {
		switch a := a.(type) {
		case uint32:
			body = binary.NativeEndian.AppendUint32(body, a)
		case string:
			body = binary.NativeEndian.AppendUint32(body, uint32(len(a)+1))
			body = append(append(body, a...), make([]byte, 4-len(a)%4)...)
		}
	}
	head := binary.NativeEndian.AppendUint32(nil, object)
	head = binary.NativeEndian.AppendUint32(head, uint32(8+len(body))<<16|uint32(opcode))
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	_, _, err := c.WriteMsgUnix(append(head, body...), rights, nil)
	return err
}

// event reads the next one.
func (c *compositor) event() (object uint32, opcode uint16, body []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, 0, nil, err
	}
	object = binary.NativeEndian.Uint32(head[:])
	word := binary.NativeEndian.Uint32(head[4:])
	if word>>16 < uint32(len(head)) {
		return 0, 0, nil, errors.New("it speaks another protocol")
	}
	body = make([]byte, word>>16-uint32(len(head)))
	_, err = io.ReadFull(c, body)
	return object, uint16(word), body, err
}

// settle waits until all that was asked for is done, and hands on the events of one object.
func (c *compositor) settle(of uint32, event func(opcode uint16, body []byte)) error {
	done := c.object()
	if err := c.request(displayObject, displaySync, nil, done); err != nil {
		return err
	}
	for range 10000 { // a compositor has some fifty globals
		object, opcode, body, err := c.event()
		switch {
		case err != nil:
			return err
		case object == done:
			return nil
		case object == displayObject && opcode == displayError:
			if len(body) > 12 {
				body = body[12:] // behind the object, the code and the length
			}
			return fmt.Errorf("it refused: %s", oci.Clean(strings.TrimRight(string(body), "\x00")))
		case object == of:
			event(opcode, body)
		}
	}
	return errors.New("it never comes to an end")
}

// find asks for the globals, and returns the name of the first that has the interface.
func (c *compositor) find(name string) (global uint32, ok bool, err error) {
	registry := c.object()
	if err := c.request(displayObject, displayGet, nil, registry); err != nil {
		return 0, false, err
	}
	err = c.settle(registry, func(opcode uint16, body []byte) {
		if opcode != registryGlobal || len(body) < 8 || ok {
			return
		}
		size := binary.NativeEndian.Uint32(body[4:])
		if uint64(size) <= uint64(len(body)-8) && strings.TrimRight(string(body[8:8+size]), "\x00") == name {
			global, ok = binary.NativeEndian.Uint32(body), true
		}
	})
	return global, ok, err
}

// listen makes a security context of a listening socket. It lasts as long as the other end of the second file is open.
func (c *compositor) listen(socket, alive *os.File, sandbox string) error {
	const (
		createListener = 1
		setEngine      = 1
		setAppID       = 2
		setInstanceID  = 3
		commit         = 4
	)
	global, ok, err := c.find(contextManager)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("it no longer has security contexts")
	}
	registry, manager, made := uint32(displayObject+1), c.object(), c.object()
	for _, err := range []error{
		c.request(registry, registryBind, nil, global, contextManager, uint32(1), manager),
		c.request(manager, createListener, []*os.File{socket, alive}, made),
		c.request(made, setEngine, nil, "cove"),
		c.request(made, setAppID, nil, "cove"),
		c.request(made, setInstanceID, nil, sandbox),
		c.request(made, commit, nil),
	} {
		if err != nil {
			return err
		}
	}
	return c.settle(0, nil)
}

// dialUnix connects to a socket.
func dialUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, messageTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err // the address is the caller's to tell
	}
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

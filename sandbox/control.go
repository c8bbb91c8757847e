package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cove/sandbox/spec"
	"cove/sandbox/trace"
	"cove/userns/fdpass"
	"cove/userns/fork"

	"golang.org/x/sys/unix"
)

// control is the parent's end of the talk with init that sandbox/stage/doc.go draws.
type control struct {
	conn *fdpass.Conn
	fuse func(fuse *os.File, of int) error // starts fuse-overlayfs
	tun  chan func(*os.File) error         // what begins to carry the network's packets; nil: nothing is to
	// prepared takes what was put above the image, when it is a layer too; may be nil
	prepared func([]spec.Placed)
	// listening serves what of the host can be used inside.
	listening func([]*os.File) error
	placed    func([]spec.Placed) // takes what was put into a root file system that is kept; may be nil
	step      func(what string)   // takes what init says of its steps; may be nil
	ready     chan error          // one value: nil, or why the set-up failed
	held      chan *spec.Held     // init's answers to Hold
	root      func() heldRoot     // what is read then
	holds     sync.Mutex          // one reads at a time
	counts    chan spec.Sessions  // after each change; for a keeper

	mu      sync.Mutex
	serial  atomic.Uint64
	waiting map[uint64]chan dialed
	gone    bool
	handed  int  // sessions
	closed  bool // no more are
}

type dialed struct {
	file *os.File
	err  error
}

// A SetupError is what init says when it could not make the inside.
type SetupError struct {
	Text  string
	Errno unix.Errno
	cause error // that there is advice for; may be nil
}

func (e *SetupError) Error() string { return e.Text }
func (e *SetupError) Unwrap() error { return e.cause }
func (e *SetupError) Is(target error) bool {
	return e.Errno != 0 && target == error(e.Errno)
}

var errInitGone = errors.New("init ended")

func newControl(conn *fdpass.Conn) *control {
	if conn != nil {
		conn.Same()
		_ = conn.Poll() // else it takes a thread, and works all the same
	}
	return &control{conn: conn, ready: make(chan error, 1), held: make(chan *spec.Held, 1), counts: make(chan spec.Sessions, 1024), waiting: map[uint64]chan dialed{}}
}

// listen reads what init says until it is gone.
func (c *control) listen() {
	defer c.close()
	for {
		var m spec.FromInit
		files, err := c.conn.Recv(&m)
		if err != nil {
			return
		}
		switch {
		case m.Ready:
			c.tell(nil)
		case m.Step != "" && c.step != nil:
			c.step(m.Step)
		case m.Failed != nil:
			c.tell(&SetupError{Text: m.Failed.Text, Errno: unix.Errno(m.Failed.Errno)})
			return
		case m.Fuse && len(files) == 1 && c.fuse != nil:
			if err := c.fuse(files[0], m.FuseOf); err != nil {
				c.tell(err)
				return
			}
			files = nil
		case m.Listening && c.listening != nil:
			if err := c.listening(files); err != nil {
				c.tell(err)
				return
			}
			files = nil
		case m.Tun && len(files) == 1:
			if err := c.takeTun(files[0]); err != nil {
				c.tell(err)
				return
			}
			files = nil
		case m.Sessions != nil:
			select {
			case c.counts <- *m.Sessions:
			default:
			}
		case m.Placed != nil && c.placed != nil:
			c.placed(m.Placed)
		case m.Prepared != nil:
			c.takePrepared(m.Prepared.Placed)
		case m.Held != nil:
			select {
			case c.held <- m.Held:
			default:
			}
		case m.Echo > 0:
			c.answer(&spec.Dialed{Serial: m.Echo}, nil)
		case m.Dialed != nil:
			files = c.answer(m.Dialed, files)
		}
		for _, f := range files {
			f.Close()
		}
	}
}

// expectTun is called before init is asked to make an interface and hand it over; attachNetwork calls serveTun then, whatever comes of it.
func (c *control) expectTun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tun = make(chan func(*os.File) error, 1)
}

// serveTun says what begins to carry the network's packets; nil: nothing does.
func (c *control) serveTun(serve func(*os.File) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tun != nil {
		c.tun <- serve
		close(c.tun)
	}
}

// awaitPrepared says what takes the layer that init is asked for; nil: nothing any more.
func (c *control) awaitPrepared(take func([]spec.Placed)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prepared = take
}

// takePrepared hands it over. Nobody who says that nothing takes it any more comes back in the middle of that.
func (c *control) takePrepared(placed []spec.Placed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.prepared != nil {
		c.prepared(placed)
	}
}

// takeTun hands the interface over. It may be there before the network is attached.
func (c *control) takeTun(tun *os.File) error {
	c.mu.Lock()
	expected := c.tun
	c.mu.Unlock()
	var serve func(*os.File) error
	if expected != nil {
		serve = <-expected
	}
	if serve == nil {
		return tun.Close()
	}
	defer trace.Step("network carries")
	return serve(tun)
}

// answer gives a dialed socket to whoever waits for it, and returns the files that nobody took.
func (c *control) answer(d *spec.Dialed, files []*os.File) []*os.File {
	c.mu.Lock()
	reply := c.waiting[d.Serial]
	delete(c.waiting, d.Serial)
	c.mu.Unlock()
	switch {
	case reply == nil:
		return files
	case d.Error != "" || len(files) != 1:
		reply <- dialed{err: errors.New(d.Error)}
		return files
	}
	reply <- dialed{file: files[0]}
	return nil
}

func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for serial, reply := range c.waiting {
		delete(c.waiting, serial)
		reply <- dialed{err: errInitGone}
	}
	c.tell(errInitGone)
	close(c.counts)
}

// tell says how the set-up went; only the first word counts.
func (c *control) tell(err error) {
	select {
	case c.ready <- err:
	default:
	}
}

// session hands a client's socket to init.
func (c *control) session(f *os.File, what spec.Session) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return errInitGone
	}
	c.handed++
	c.mu.Unlock()
	return c.conn.Send(spec.ToInit{Session: &what}, f)
}

// closeIfEmpty takes no more sessions where init has none open, which it says, and has seen all that were handed to it. One
// that comes later finds no sandbox, and its client starts another.
func (c *control) closeIfEmpty(s spec.Sessions) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || s.Open == 0 && s.Seen == c.handed
	return c.closed
}

// dial returns a socket that is connected to a port of the sandbox's own loopback.
func (c *control) dial(proto string, port uint16) (*os.File, error) {
	reply := make(chan dialed, 1)
	serial := c.serial.Add(1)
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nil, errInitGone
	}
	c.waiting[serial] = reply
	c.mu.Unlock()
	if err := c.conn.Send(spec.ToInit{Dial: &spec.Dial{Serial: serial, Proto: proto, Port: port}}); err != nil {
		return nil, err
	}
	d := <-reply
	return d.file, d.err
}

// say tells every client something, and waits until init has passed it on: who is answered inside after that may end at once, and the shell's
// client with it.
func (c *control) say(text string) {
	reply := make(chan dialed, 1)
	serial := c.serial.Add(1)
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return
	}
	c.waiting[serial] = reply
	c.mu.Unlock()
	if c.conn.Send(spec.ToInit{Notice: text}) != nil || c.conn.Send(spec.ToInit{Echo: serial}) != nil {
		return
	}
	select {
	case <-reply:
	case <-time.After(time.Second): // init may wait for a client that does not read
		c.mu.Lock()
		delete(c.waiting, serial)
		c.mu.Unlock()
	}
}

// request is the first thing that another cove says on a sandbox's socket.
type request struct {
	Session bool   `json:"session,omitempty"` // from here on the connection is a session's
	Program string `json:"program,omitempty"` // with Session: it speaks package wire's bytes, as who is this program (fork.Program)
	Stop    int    `json:"stop,omitempty"`    // a signal; the connection closes when the sandbox has ended
	// Ports is answered by a portReply.
	Ports *portRequest `json:"ports,omitempty"`
	// Hold asks for a heldRoot, which stays as it is until the connection closes.
	Hold *spec.Hold `json:"hold,omitempty"`
}

// listenSocket makes the socket of a sandbox. It is bound by way of a descriptor of its
// directory, since a path has to fit 108 bytes (unix(7)). It goes with the directory.
func listenSocket(dir string) (*fdpass.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return fdpass.Listen(fmt.Sprintf("/proc/self/fd/%d/sock", d.Fd()))
}

func dialSocket(dir string) (*fdpass.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/sock", d.Fd())}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", filepath.Join(dir, "sock"), err)
	}
	return fdpass.FromFD(fd)
}

// parent is who carries out what other coves ask for; a box.
type parent interface {
	stop(unix.Signal)
	changePorts(*portRequest) portReply
}

// serve takes the connections of other coves: sessions go to init, stop is done here.
func (c *control) serve(l *fdpass.Listener, p parent) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, for now: a sandbox that nobody can stop any more would be worse than a wait.
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go c.serveOne(conn, p)
	}
}

func (c *control) serveOne(conn *fdpass.Conn, p parent) {
	peer, err := unix.GetsockoptUcred(conn.FD(), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(peer.Uid) != os.Getuid() {
		conn.Close()
		return
	}
	var r request
	files, err := conn.Recv(&r)
	for _, f := range files {
		f.Close()
	}
	switch {
	case err != nil:
	case r.Session:
		// Only this end's copy goes then; a shutdown would end the client's talk with init.
		f := conn.Detach()
		if r.Program == "" || r.Program == fork.Program() {
			_ = c.session(f, spec.Session{Same: r.Program != ""})
		}
		f.Close()
		return
	case r.Hold != nil:
		c.hold(conn, r.Hold)
	case r.Stop > 0:
		defer conn.Close() // the peer sees the end of the sandbox by its lock
		p.stop(unix.Signal(r.Stop))
		return
	case r.Ports != nil:
		_ = conn.Send(p.changePorts(r.Ports))
	}
	conn.Close()
}

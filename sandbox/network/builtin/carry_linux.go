package builtin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/network/egress"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// inner is the sandbox's side of a connection.
type inner struct {
	*gonet.TCPConn
	ep    tcpip.Endpoint
	queue waiter.Queue
}

// reset breaks the connection off (RST).
func (c *inner) reset() { c.ep.Abort() }

// carry copies both ways until both are at their end; half of a connection may close before the other. What breaks one
// side breaks the other.
func (n *Network) carry(in *inner, out *net.TCPConn, to netip.AddrPort, v egress.Verdict, d *network.Decision) {
	var broken sync.Once
	breakBoth := func() {
		broken.Do(func() {
			_ = out.SetLinger(0)
			out.Close()
			in.reset()
		})
	}
	defer context.AfterFunc(n.ctx, breakBoth)()
	defer in.Close()
	var sent, got atomic.Int64
	var both sync.WaitGroup
	var answer *egress.Answer
	if v.Say != egress.Nothing {
		answer = egress.NewAnswer()
	}
	down := make(chan struct{}) // closed when nothing more comes from outside
	downAll := sync.OnceFunc(func() { close(down) })
	both.Go(func() {
		err := n.upward(in, out, to, v, d, answer, &sent, &got)
		if err != nil {
			breakBoth()
			return
		}
		_ = out.CloseWrite()
		if in.goneBefore(down) {
			breakBoth()
		}
	})
	both.Go(func() {
		defer downAll()
		if answer != nil {
			defer answer.End() // upward may wait for it
		}
		if err := downward(in, out, answer, &got); err != nil {
			breakBoth()
			return
		}
		downAll()
		_ = in.CloseWrite()
	})
	both.Wait()
	d.Sent, d.Got = sent.Load(), got.Load()
}

// goneBefore waits for done, and tells whether the sandbox's side was gone before that: reset, or no longer there (keep-alive). Whoever
// has said all and waits for the answer is otherwise only noticed when there is one.
func (c *inner) goneBefore(done <-chan struct{}) bool {
	entry, told := waiter.NewChannelEntry(waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for state := tcp.EndpointState(c.ep.State()); state != tcp.StateClose && state != tcp.StateError; state = tcp.EndpointState(c.ep.State()) {
		select {
		case <-told:
		case <-done:
			return false
		}
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

// upward copies what the sandbox sends, once it has said a name that it may mean.
func (n *Network) upward(in *inner, out *net.TCPConn, to netip.AddrPort, v egress.Verdict, d *network.Decision, answer *egress.Answer, sent, got *atomic.Int64) error {
	w := &counted{w: out, n: sent}
	if v.Say != egress.Nothing {
		c := egress.NewClient(in, v.Say, to.Port(), func(name string) egress.Verdict {
			d.Name = shortName(name)
			return n.policy.Said(v.Say, name, "tcp", to.Port())
		})
		c.Switched = func() bool { return !in.goneBefore(answer.Known()) && answer.Switched() }
		for done := false; !done; {
			var data []byte
			var err error
			if data, done, err = c.Next(); len(data) > 0 {
				if _, werr := w.Write(data); werr != nil {
					return werr
				}
			}
			var refused *egress.RefusedError
			switch {
			case errors.As(err, &refused):
				d.Allowed, d.Reason, d.Entry, d.Error = false, refused.Reason, refused.Entry, refused.Detail
				d.Sent, d.Got, d.Took = sent.Load(), got.Load(), time.Since(d.Time)
				n.log(*d) // before the reset
				return err
			case err == io.EOF:
				return nil
			case err != nil:
				return err
			}
		}
		if _, err := w.Write(c.Rest()); err != nil {
			return err
		}
	}
	return in.copyTo(w)
}

func shortName(name string) string { return name[:min(len(name), maxName)] }

// copyTo writes all that the sandbox sends, from the stack's own buffers.
func (c *inner) copyTo(w *counted) error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for {
		_, err := c.ep.Read(w, tcpip.ReadOptions{})
		if w.err != nil {
			return w.err
		}
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return nil
		default:
			return errors.New(err.String())
		}
	}
}

// counted counts what passes, and keeps the error of the connection, which the stack would forget.
type counted struct {
	w   io.Writer
	n   *atomic.Int64
	err error
}

func (c *counted) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	if err != nil {
		c.err = err
	}
	return n, err
}

var buffers = sync.Pool{New: func() any { b := make([]byte, copyBytes); return &b }}

// downward copies what comes from outside; answer, which may be nil, is shown the beginning.
func downward(in *inner, out *net.TCPConn, answer *egress.Answer, got *atomic.Int64) error {
	raw, err := out.SyscallConn()
	if err != nil {
		return err
	}
	for {
		buf, size, err := readSome(raw)
		if err != nil {
			return err
		}
		if size > 0 {
			if answer != nil && !answer.Watch((*buf)[:size]) {
				answer = nil
			}
			_, err = in.Write((*buf)[:size])
			got.Add(int64(size))
		}
		buffers.Put(buf)
		if size == 0 || err != nil {
			return err
		}
	}
}

// readSome waits until there is something to read, and reads it into a buffer that the caller puts back; on error there is none. Nor is
// there one while it waits: idle connections cost little.
func readSome(raw syscall.RawConn) (buf *[]byte, size int, err error) {
	closed := raw.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*[]byte)
		for {
			if size, err = unix.Read(int(fd), *buf); err != unix.EINTR {
				break
			}
		}
		if err != nil {
			buffers.Put(buf)
			buf = nil
		}
		return err != unix.EAGAIN
	})
	if closed != nil {
		err = closed
	}
	return buf, size, err
}

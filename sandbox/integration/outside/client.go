package outside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"cove/fetch/oci"
	"cove/sandbox/integration"

	"golang.org/x/sys/unix"
)

// maxClients are how many are answered at once on one socket; more wait, and beyond the socket's backlog they are refused.
const maxClients = 32

// messageTime is how long a message may take to arrive, from its first byte to its last.
const messageTime = 10 * time.Second

// client is somebody inside who has connected.
type client struct {
	net.Conn
	pid     int    // as it is outside; 0 where that cannot be told
	program string // what it calls itself
}

// accept answers whoever connects until the listener is closed, and waits for all of them.
func (o *opened) accept(l net.Listener, answer func(context.Context, *client)) {
	slots := make(chan struct{}, maxClients)
	for {
		slots <- struct{}{}
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			<-slots
			break
		}
		if err != nil { // out of descriptors, for now
			<-slots
			select {
			case <-o.ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		go func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithCancel(o.ctx)
			defer cancel()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			answer(ctx, known(conn))
			_ = conn.Close()
		}()
	}
	for range maxClients {
		slots <- struct{}{}
	}
}

// known looks at who has connected. What a process calls itself is for the log alone: it may say what it likes.
func known(conn net.Conn) *client {
	c := &client{Conn: conn}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return c
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return c
	}
	_ = raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil && peer.Pid > 0 {
			c.pid = int(peer.Pid)
		}
	})
	if c.pid > 0 {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.pid))
		c.program = oci.Clean(strings.TrimSpace(string(comm)))
	}
	return c
}

// event begins what the log has of a use.
func (c *client) event(kind, what string) integration.Event {
	return integration.Event{Time: time.Now(), Kind: kind, What: what, PID: c.pid, Program: c.program}
}

// short is a word of somebody's inside for the log: one that is long only in part.
func short(word string) string {
	const most = 500
	if len(word) > most {
		return oci.Clean(word[:most]) + "..."
	}
	return oci.Clean(word)
}

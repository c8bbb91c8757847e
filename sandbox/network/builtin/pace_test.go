package builtin

import (
	"io"
	"net"
	"testing"
	"time"
)

// How connections end costs nobody anything: what comes late is no flood.
func TestEndsAreFree(t *testing.T) {
	for name, c := range map[string]struct{ server, client func(*net.TCPConn) }{
		"the server first":    {func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 9)); _, _ = c.Write([]byte("x")) }, func(c *net.TCPConn) { _, _ = c.Write([]byte("x")); _, _ = io.ReadAll(c) }},
		"the client first":    {sayBack, func(c *net.TCPConn) { _, _ = c.Write([]byte("x")); _, _ = c.Read(make([]byte, 9)) }},
		"reset by the client": {sayBack, func(c *net.TCPConn) { _, _ = c.Write([]byte("x")); _, _ = c.Read(make([]byte, 9)); _ = c.SetLinger(0) }},
		"reset by the server": {func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 9)); _ = c.SetLinger(0) }, func(c *net.TCPConn) { _, _ = c.Write([]byte("x")); _, _ = io.ReadAll(c) }},
		"without a word":      {sayBack, func(c *net.TCPConn) {}},
		"with something unread": {func(c *net.TCPConn) {
			_, _ = c.Write(make([]byte, 100000))
			_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
		}, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 9)) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newInside(t)
			addr := serve(t, c.server)
			const many = 100
			for range many {
				conn := s.mustDial(addr)
				c.client(conn)
				conn.Close()
			}
			time.Sleep(100 * time.Millisecond)
			if took := time.Duration(s.net.pace.charged.Load()); took > many*refusalTime/10 {
				t.Errorf("%d connections were charged %v", many, took)
			}
		})
	}
}

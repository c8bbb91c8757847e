package builtin

import (
	"context"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cove/sandbox/network/names"

	"golang.org/x/sys/unix"
)

const (
	nameServer   = "10.0.2.3:53"
	askRefused   = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02no\x07example\x00\x00\x01\x00\x01"
	askLocal     = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01"
	mostOfAsking = 64 << 20
)

// heapUsed is what is in use, after a collection.
func heapUsed() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Thousands of sockets that ask, each a question, take a bounded part of this process's memory, and are forgotten when they are answered: there is room for the next.
func TestManyAsk(t *testing.T) {
	s := newInside(t)
	raw, err := s.socket(unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(raw)
	before := heapUsed()
	var used int64
	for port := range 2 * maxFlows {
		if port%50 == 0 { // the interface's queue has 500
			time.Sleep(5 * time.Millisecond)
		}
		if port%1000 == 0 {
			used = max(used, heapUsed()-before)
		}
		packet := datagram(netip.MustParseAddr("10.0.2.200"), netip.MustParseAddrPort(nameServer), uint16(1024+port), []byte(askLocal))
		for unix.Sendto(raw, packet, 0, &unix.SockaddrInet4{Addr: dns4.As4()}) == unix.EAGAIN {
			time.Sleep(time.Millisecond)
		}
	}
	if used > mostOfAsking {
		t.Errorf("%d MiB", used>>20)
	}
	c := s.udp(nameServer)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, maxQuestion)
	if _, err := c.Write([]byte(askLocal)); err != nil {
		t.Error(err)
	}
	if size, err := c.Read(answer); err != nil || !strings.Contains(string(answer[:size]), "\x7f\x00\x00\x01") {
		t.Errorf("after %d questions: %q, %v", 2*maxFlows, answer[:size], err)
	}
	eventually(t, "they are no flows any more", func() bool { return len(s.net.flows) == 0 })
}

// A flood of questions over TCP is paced however many connections it comes by, of which there are only so many; who has to wait is
// served when another has gone.
func TestManyAskOverTCP(t *testing.T) {
	s := newInside(t)
	question := string(names.Frame([]byte(askRefused)))
	before := heapUsed()
	began := time.Now()
	var there atomic.Int64
	stop := make(chan struct{})
	for range 4 * maxAskers {
		go func() {
			c, err := s.dial(nameServer)
			if err != nil {
				return
			}
			there.Add(1)
			defer there.Add(-1)
			defer context.AfterFunc(t.Context(), func() { c.Close() })()
			defer c.Close()
			answers := make([]byte, 10*len(question))
			for err == nil {
				select {
				case <-stop:
					return
				default:
				}
				if _, err = io.WriteString(c, strings.Repeat(question, 10)); err == nil {
					_, err = io.ReadFull(c, answers)
				}
			}
		}()
	}
	time.Sleep(2 * time.Second)
	decided, took := s.logged(), time.Since(began)
	used := heapUsed() - before
	if t.Logf("%d connections, %d decisions in %v, %d MiB", there.Load(), decided, took, used>>20); used > mostOfAsking {
		t.Error("too much memory")
	}
	if n := there.Load(); n == 0 || n > maxAskers {
		t.Errorf("%d connections at once, of at most %d", n, maxAskers)
	}
	if most := int((refusalCredit+took+maxOwed)/refusalTime) + maxAskers; decided > most {
		t.Errorf("%d were decided on in %v, want at most %d", decided, took, most)
	}
	close(stop)
	c := s.mustDial(nameServer)
	_, _ = c.Write(names.Frame([]byte(askLocal)))
	if answer, err := names.ReadFrame(c); err != nil || !strings.Contains(string(answer), "\x7f\x00\x00\x01") {
		t.Errorf("afterwards: %q, %v", answer, err)
	}
}

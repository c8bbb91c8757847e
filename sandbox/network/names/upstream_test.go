package names

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// testPort is where the servers of these tests listen, on addresses of 127.0.0.0/8 that nothing else has.
const testPort = "18753"

// serve is a name server on a loopback address of its own; answer makes its messages, in order, for a query.
func serve(t *testing.T, addr string, answer func(q *dnsmessage.Message, tcp bool) []*dnsmessage.Message) {
	t.Helper()
	u, err := net.ListenPacket("udp", addr+":"+testPort)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr+":"+testPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close(); l.Close() })
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			for _, m := range answer(&q, false) {
				raw, _ := m.Pack()
				_, _ = u.WriteTo(raw, from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			raw, err := ReadFrame(c)
			var q dnsmessage.Message
			if err == nil && q.Unpack(raw) == nil {
				for _, m := range answer(&q, true) {
					raw, _ := m.Pack()
					_, _ = c.Write(Frame(raw))
				}
			}
			c.Close()
		}
	}()
}

func reply(q *dnsmessage.Message, answers ...dnsmessage.Resource) *dnsmessage.Message {
	return &dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true}, Questions: q.Questions, Answers: answers}
}

// conf is a resolv.conf with these servers.
func conf(t *testing.T, servers ...string) *Upstream {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# ours\nsearch example\n"
	for _, s := range servers {
		text += "nameserver " + s + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Upstream{Path: path, port: testPort}
}

// Only the answer to the question counts: not another id, another name, a query, a broken message, or a second thought.
func TestUpstreamBelievesOnlyItsAnswer(t *testing.T) {
	serve(t, "127.77.0.1", func(q *dnsmessage.Message, tcp bool) []*dnsmessage.Message {
		lie := a("good.example", "203.0.113.66")
		wrongID := reply(q, lie)
		wrongID.ID++
		wrongName := reply(q, lie)
		wrongName.Questions = []dnsmessage.Question{question("other.example", dnsmessage.TypeA)}
		noReply := reply(q, lie)
		noReply.Response = false
		right := reply(q, a("good.example", "203.0.113.1"))
		right.Additionals = []dnsmessage.Resource{lie}
		return []*dnsmessage.Message{wrongID, wrongName, noReply, right, reply(q, lie)}
	})
	m, err := conf(t, "127.77.0.1").Ask(t.Context(), question("good.example", dnsmessage.TypeA))
	if err != nil || show(m) != "Success 203.0.113.1" {
		t.Errorf("%v, %v", m, err)
	}
}

// A query is ours: recursion asked for, one question, EDNS, and nothing else.
func TestUpstreamQuery(t *testing.T) {
	var mu sync.Mutex
	ids := map[uint16]bool{}
	serve(t, "127.77.0.2", func(q *dnsmessage.Message, tcp bool) []*dnsmessage.Message {
		mu.Lock()
		ids[q.ID] = true
		mu.Unlock()
		if !q.RecursionDesired || len(q.Questions) != 1 || len(q.Answers)+len(q.Authorities) > 0 || len(q.Additionals) != 1 {
			t.Errorf("%+v", q)
		}
		return []*dnsmessage.Message{reply(q)}
	})
	u := conf(t, "127.77.0.2")
	for range 20 {
		if _, err := u.Ask(t.Context(), question("good.example", dnsmessage.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < 18 {
		t.Errorf("20 queries had %d ids", len(ids))
	}
}

// What does not fit into a datagram is asked for over TCP.
func TestUpstreamTruncated(t *testing.T) {
	serve(t, "127.77.0.3", func(q *dnsmessage.Message, tcp bool) []*dnsmessage.Message {
		m := reply(q)
		if m.Truncated = !tcp; tcp {
			for i := range 200 {
				m.Answers = append(m.Answers, a("good.example", fmt.Sprintf("203.0.113.%d", i)))
			}
		}
		return []*dnsmessage.Message{m}
	})
	m, err := conf(t, "127.77.0.3").Ask(t.Context(), question("good.example", dnsmessage.TypeA))
	if err != nil || len(m.Answers) != 200 {
		t.Errorf("%v", err)
	}
}

// The next server is asked where one does not answer, or cannot; and nobody for longer than the caller waits.
func TestUpstreamOthers(t *testing.T) {
	serve(t, "127.77.0.4", func(q *dnsmessage.Message, tcp bool) []*dnsmessage.Message {
		m := reply(q)
		m.RCode = dnsmessage.RCodeServerFailure
		return []*dnsmessage.Message{m}
	})
	serve(t, "127.77.0.5", func(q *dnsmessage.Message, tcp bool) []*dnsmessage.Message {
		return []*dnsmessage.Message{reply(q, a("good.example", "203.0.113.1"))}
	})
	serve(t, "127.77.0.6", func(q *dnsmessage.Message, tcp bool) []*dnsmessage.Message { return nil })
	q := question("good.example", dnsmessage.TypeA)
	// 127.77.0.7 has no server: it says so at once.
	m, err := conf(t, "127.77.0.7", "127.77.0.4", "127.77.0.5").Ask(t.Context(), q)
	if err != nil || show(m) != "Success 203.0.113.1" {
		t.Errorf("%v, %v", m, err)
	}
	if m, err := conf(t, "127.77.0.4").Ask(t.Context(), q); err != nil || m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("%v, %v", m, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := conf(t, "127.77.0.6").Ask(ctx, q); err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// The file is read again when it has changed.
func TestUpstreamFollowsTheFile(t *testing.T) {
	u := conf(t, "127.77.0.1", "::1", "bad", "127.77.0.2", "127.77.0.3")
	if got := fmt.Sprint(u.list()); got != "[127.77.0.1 ::1 127.77.0.2]" {
		t.Error(got)
	}
	if err := os.WriteFile(u.Path, []byte("nameserver fe80::1%lo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(u.list()); got != "[fe80::1%lo]" {
		t.Error(got)
	}
	if err := os.WriteFile(u.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(u.list()); got != fmt.Sprint(localServers) {
		t.Error(got)
	}
	if err := os.Remove(u.Path); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(u.list()); got != fmt.Sprint(localServers) {
		t.Error(got)
	}
}

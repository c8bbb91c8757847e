package names

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Upstream asks the name servers of a resolv.conf(5), as any program of this machine would.
type Upstream struct {
	// Path is the file: it is read again when it has changed, as it does with every network that a laptop meets.
	Path string

	port string // of every server; "" is 53

	mu      sync.Mutex
	stamp   string
	servers []string
}

const (
	askTime  = 3 * time.Second // for one server to answer
	askTimes = 2               // each server, before it is given up
	// ourUDP is the largest answer that is asked for: what passes everywhere in one piece (DNS flag day 2020).
	ourUDP = 1232
	// maxServers is resolv.conf(5)'s MAXNS.
	maxServers = 3
)

var errNoAnswer = errors.New("no name server answered")

// Ask implements Asker.
func (u *Upstream) Ask(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Message, error) {
	var last *dnsmessage.Message
	err := errNoAnswer
	for range askTimes {
		for _, server := range u.list() {
			m, aerr := ask(ctx, net.JoinHostPort(server, u.portText()), q)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if aerr != nil {
				err = aerr
				continue
			}
			switch m.RCode {
			case dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError:
				return m, nil
			}
			last = m // a server that cannot; the next one may
		}
		if last != nil {
			return last, nil
		}
	}
	return nil, err
}

func (u *Upstream) portText() string {
	if u.port == "" {
		return "53"
	}
	return u.port
}

// list are the servers' addresses.
func (u *Upstream) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	st, err := os.Stat(u.Path)
	if err != nil {
		return localServers
	}
	stamp := fmt.Sprint(st.ModTime(), st.Size())
	if stamp == u.stamp {
		return u.servers
	}
	data, err := os.ReadFile(u.Path)
	if err != nil {
		return localServers
	}
	u.stamp, u.servers = stamp, parseServers(string(data))
	return u.servers
}

// localServers are meant where resolv.conf names none.
var localServers = []string{"127.0.0.1"}

func parseServers(conf string) []string {
	var out []string
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(out) == maxServers {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, a.String())
		}
	}
	if out == nil {
		return localServers
	}
	return out
}

// ask asks one server over UDP, and over TCP where the answer is too long for that.
func ask(ctx context.Context, server string, q dnsmessage.Question) (*dnsmessage.Message, error) {
	id, raw, err := pack(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m, err := askUDP(ctx, server, id, raw, q)
	if err != nil || !m.Truncated {
		return m, err
	}
	return askTCP(ctx, server, id, raw, q)
}

// pack makes a query of our own: an id that nobody can guess, and no byte of the sandbox's but the name.
func pack(q dnsmessage.Question) (uint16, []byte, error) {
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails
	id := binary.BigEndian.Uint16(random[:])
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(ourUDP, dnsmessage.RCodeSuccess, false); err != nil {
		return 0, nil, err
	}
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions:   []dnsmessage.Question{q},
		Additionals: []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}},
	}
	raw, err := m.Pack()
	return id, raw, err
}

func dial(ctx context.Context, network, server string) (net.Conn, func(), error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	return c, func() { stop(); c.Close() }, nil
}

func askUDP(ctx context.Context, server string, id uint16, raw []byte, q dnsmessage.Question) (*dnsmessage.Message, error) {
	c, done, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := c.Write(raw); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		// What does not answer this question is somebody's guess: the right answer may still come.
		if m, err := understand(buf[:n], id, q); err == nil {
			return m, nil
		}
	}
}

func askTCP(ctx context.Context, server string, id uint16, raw []byte, q dnsmessage.Question) (*dnsmessage.Message, error) {
	c, done, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := c.Write(Frame(raw)); err != nil {
		return nil, err
	}
	message, err := ReadFrame(c)
	if err != nil {
		return nil, err
	}
	return understand(message, id, q)
}

// ReadFrame reads one message with its length before it.
func ReadFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

// understand reads an answer, and refuses one to another question (RFC 5452 9.1). A record that cannot be read ends the
// reading; what stands behind the answers is not looked at.
func understand(raw []byte, id uint16, q dnsmessage.Question) (*dnsmessage.Message, error) {
	var p dnsmessage.Parser
	h, err := p.Start(raw)
	if err != nil {
		return nil, err
	}
	got, err := p.AllQuestions()
	if err != nil {
		return nil, err
	}
	if !h.Response || h.ID != id || len(got) != 1 || got[0].Type != q.Type || got[0].Class != q.Class ||
		Canonical(got[0].Name) != Canonical(q.Name) {
		return nil, errors.New("an answer to another question")
	}
	m := &dnsmessage.Message{Header: h, Questions: got}
	if h.Truncated {
		return m, nil
	}
	for len(m.Answers) < maxAnswers {
		r, err := p.Answer()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return nil, err
		}
		m.Answers = append(m.Answers, r)
	}
	return m, nil
}

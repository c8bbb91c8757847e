package builtin

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"cove/sandbox/network/egress"
	"cove/sandbox/spec"
)

// A proxy is told the name that opened an address on that port, and no other that is there; of an address that was opened as one, the address.
func TestProxyIsToldWhatOpened(t *testing.T) {
	proxies := make(chan string, 1)
	proxy := serve(t, func(c *net.TCPConn) {
		head, _ := readHead(c)
		line, _, _ := strings.Cut(head, "\r\n")
		proxies <- line
	})
	s := newInside(t, func(n *Network) {
		reach := func(name string, port uint16) spec.Reach {
			return spec.Reach{Text: name, Name: name, FromPort: port, ToPort: port, Proto: "tcp"}
		}
		p, err := egress.New(spec.Egress{Listed: true, Allow: []spec.Reach{reach("z.example", 2222), reach("a.example", 80),
			{Text: "192.0.2.0/25", Prefix: spec.Prefix{IP: spec.IP{192, 0, 2, 0}, Bits: 25}, Proto: "tcp"}}}, n.closed, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		n.policy = p
		for _, addr := range []string{"192.0.2.1", "192.0.2.200"} {
			p.Learn("z.example", netip.MustParseAddr(addr), time.Minute)
			p.Learn("a.example", netip.MustParseAddr(addr), time.Minute)
		}
		n.opts.Proxy = func(*url.URL) (*url.URL, error) { return url.Parse("http://" + proxy) }
	})
	for to, want := range map[string]string{
		"192.0.2.200:2222": "CONNECT z.example:2222 HTTP/1.1",
		"192.0.2.200:80":   "CONNECT a.example:80 HTTP/1.1",
		"192.0.2.1:22":     "CONNECT 192.0.2.1:22 HTTP/1.1",
	} {
		_, _ = s.dial(to)
		select {
		case got := <-proxies:
			if got != want {
				t.Errorf("%s: %q, want %q", to, got, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the proxy heard nothing", to)
		}
	}
}

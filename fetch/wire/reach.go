package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// class is how far an address is reached from.
type class int32

const (
	unknown class = iota // behind a proxy
	public
	private   // of a site: RFC 1918, 4193, 6598 and those for tests
	loopback  // of this machine
	linkLocal // of this link: where clouds have their metadata services
)

func (c class) String() string {
	return [...]string{"an unknown", "a public", "a private", "a loopback", "a link-local"}[c]
}

var (
	sites = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("fec0::/10")}
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
	to6   = netip.MustParsePrefix("2002::/16")
)

func classOf(a netip.Addr) class {
	a = a.Unmap().WithZone("")
	switch b := a.As16(); {
	case nat64.Contains(a): // the last four bytes are an IPv4 address (RFC 6052)
		a = netip.AddrFrom4([4]byte(b[12:]))
	case to6.Contains(a): // and here those after the prefix (RFC 3056)
		a = netip.AddrFrom4([4]byte(b[2:6]))
	}
	switch {
	case a.IsLoopback(), a.IsUnspecified():
		return loopback
	case a.IsLinkLocalUnicast(), a.IsMulticast():
		return linkLocal
	case a.IsPrivate():
		return private
	}
	for _, p := range sites {
		if p.Contains(a) {
			return private
		}
	}
	return public
}

// mayLead tells whether a registry at an address of class from may send us to one of class to. A registry in
// the internet could otherwise have us ask, with what it puts into the address, what it cannot reach
// itself: the router, a service on loopback, the cloud's metadata.
func mayLead(from, to class) bool {
	switch from {
	case loopback, unknown:
		return to == public || to == private || to == from
	}
	return to == public || to == from
}

// reach is how hosts are reached: the registry as it is, the others, which the registry names, within bounds.
type reach struct {
	set     Settings
	home    *http.Transport
	away    *http.Transport
	from    atomic.Int32 // class of the registry's address
	proxies sync.Map     // host:port of those that were asked
}

func newReach(s Settings, conf *tls.Config, insecure bool) *reach {
	if conf == nil {
		conf = &tls.Config{}
	}
	r := &reach{set: s}
	r.home = r.transport(conf.Clone(), r.dialHome)
	r.home.TLSClientConfig.InsecureSkipVerify = insecure
	// The certificates in certs.d are those for the registry, and what it lets pass unseen is its own.
	r.away = r.transport(&tls.Config{RootCAs: conf.RootCAs}, r.dialAway)
	return r
}

func (r *reach) transport(conf *tls.Config, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy: func(req *http.Request) (*url.URL, error) {
			u, err := r.set.Proxy(req)
			if u != nil {
				r.proxies.Store(hostPort(u), true)
			}
			return u, err
		},
		DialContext:           dial,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   r.set.Connect,
		ResponseHeaderTimeout: r.set.Silence,
		// What is compressed on the way is not what the digest names, and may be a bomb.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 256 << 10,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		ReadBufferSize:         64 << 10,
	}
}

func hostPort(u *url.URL) string {
	p := u.Port()
	if p == "" {
		p = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	if p == "" {
		p = "80"
	}
	return net.JoinHostPort(u.Hostname(), p)
}

func (r *reach) roundTrip(req *http.Request, home bool) (*http.Response, error) {
	if home {
		return r.home.RoundTrip(req)
	}
	// A proxy would dial for us: what can be told without it is told here.
	host := req.URL.Hostname()
	addr, err := netip.ParseAddr(host)
	if host == "localhost" {
		addr, err = netip.IPv6Loopback(), nil
	}
	if err == nil && !r.set.Trusted(req.URL.Host) {
		if err := r.check(addr); err != nil {
			return nil, err
		}
	}
	return r.away.RoundTrip(req)
}

func (r *reach) close() {
	r.home.CloseIdleConnections()
	r.away.CloseIdleConnections()
}

func (r *reach) isProxy(addr string) bool {
	_, ok := r.proxies.Load(addr)
	return ok
}

func (r *reach) dialHome(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := r.set.dial(ctx, &net.Dialer{Timeout: r.set.Connect}, network, addr)
	if err == nil && !r.isProxy(addr) {
		if ap, perr := netip.ParseAddrPort(conn.RemoteAddr().String()); perr == nil {
			r.from.Store(int32(r.set.classOf(ap.Addr())))
		}
	}
	return conn, err
}

// dialAway looks at the address when the name has been resolved, just before it is connected to: a
// name can mean one address when it is looked at and another when it is used.
func (r *reach) dialAway(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: r.set.Connect}
	if !r.isProxy(addr) && !r.set.Trusted(addr) {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return r.check(ap.Addr())
		}
	}
	return r.set.dial(ctx, d, network, addr)
}

// errUnreachable marks what is not asked although it could be.
var errUnreachable = errors.New("not followed")

func (r *reach) check(to netip.Addr) error {
	from, there := class(r.from.Load()), r.set.classOf(to)
	if mayLead(from, there) {
		return nil
	}
	return fmt.Errorf("%s is %s address, and it is a registry at %s one that leads there: %w (a [[registry]] with that location in registries.conf allows it)",
		to, there, from, errUnreachable)
}

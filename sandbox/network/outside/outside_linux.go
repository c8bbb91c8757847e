// Package outside tells what a sandbox's network must know of the host's.
package outside

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"cove/sandbox/network"
)

// Host is this machine's network at one moment.
type Host struct {
	Addresses  []netip.Prefix // every address of every interface, with its prefix
	IPv6       bool           // there is an IPv6 default route
	DNS4, DNS6 bool           // there is a name server of that family
}

// Own are the addresses that mean this machine, and of IPv6 the whole network on its link (at most a /64), since a host
// takes new addresses there every day (RFC 8981) and calls its neighbours by global addresses.
func (h *Host) Own() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range h.Addresses {
		a, bits := p.Addr(), p.Addr().BitLen()
		if a.Is6() && !a.IsLoopback() {
			bits = max(p.Bits(), 64)
		}
		if own := netip.PrefixFrom(a, bits).Masked(); !slices.Contains(out, own) {
			out = append(out, own)
		}
	}
	return out
}

// Read looks at interfaces, routes, and resolv.conf(5).
func Read() (*Host, error) {
	h := &Host{}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			h.Addresses = append(h.Addresses, netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits()))
		}
	}
	if h.IPv6, err = network.HasIPv6(); err != nil {
		return nil, err
	}
	conf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	h.DNS4, h.DNS6 = nameServers(string(conf))
	return h, nil
}

// nameServers tells which families resolv.conf(5) has name servers of. Without any, the resolver
// means the one on this machine.
func nameServers(conf string) (v4, v6 bool) {
	s := bufio.NewScanner(strings.NewReader(conf))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			v4 = v4 || a.Unmap().Is4()
			v6 = v6 || !a.Unmap().Is4()
		}
	}
	return v4, v6
}

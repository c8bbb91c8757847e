package network

import (
	"errors"
	"fmt"
	"os"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Up brings up loopback, in the network namespace it runs in. It needs CAP_NET_ADMIN there.
func Up() error {
	rt, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.close()
	// The kernel gives lo 127.0.0.1/8 and ::1/128 itself when it comes up.
	if err := rt.up(loopback, 0); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	return nil
}

// Configure brings up the interface that link names, if it does, with its addresses and
// default routes, and closes link.Closed. The interface of a link with Tun is OpenTun's. It works as Up does, and after it.
// It is done before anything that is not trusted runs.
func Configure(link spec.Link) error {
	if link.Interface == "" {
		return nil
	}
	rt, err := openNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer rt.close()
	plan, err := parseLink(link)
	if err != nil {
		return fmt.Errorf("network %s: %w", link.Interface, err)
	}
	// The filter comes first and the interface last: nothing is ever open that is to be closed. What the parent itself
	// carries it closes itself.
	if !link.Tun {
		if err := filter(plan); err != nil {
			return fmt.Errorf("close addresses of %s: packet filter: %w", link.Interface, err)
		}
	}
	if err := rt.configure(plan); err != nil {
		return fmt.Errorf("network %s: %w", link.Interface, err)
	}
	return nil
}

// plan is a spec.Link understood.
type plan struct {
	name      string
	index     uint32
	mtu       int
	addresses []spec.Prefix
	gateways  []spec.IP
	dns       []spec.IP
	dnsTCP    bool
	tun       bool // there are no neighbours: every packet goes to the parent
	closed    []spec.Prefix
}

func parseLink(link spec.Link) (*plan, error) {
	p := &plan{name: link.Interface, mtu: link.MTU, dnsTCP: !link.NoTCPDNS, tun: link.Tun}
	var err error
	if p.index, err = interfaceIndex(link.Interface); err != nil {
		return nil, err
	}
	p.addresses, p.gateways, p.dns, p.closed = link.Addresses, link.Gateways, link.DNS, link.Closed
	for _, prefix := range append(append([]spec.Prefix{}, p.addresses...), p.closed...) {
		if err := prefix.Check(); err != nil {
			return nil, err
		}
	}
	for _, ip := range append(append([]spec.IP{}, p.gateways...), p.dns...) {
		if err := ip.Check(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// loopback is lo's index: the first interface of every network namespace.
const loopback = 1

func interfaceIndex(name string) (uint32, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("interface name %q: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("find interface: %w", err)
	}
	return ifr.Uint32(), nil
}

// configure sets the interface up. The routes that close come before those that open.
func (rt *netlink) configure(p *plan) error {
	disableAutoconf(p.name)
	if err := rt.up(p.index, p.mtu); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	for _, a := range p.addresses {
		if err := rt.addAddress(p.index, a); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
		if a.IP.Is6() {
			if err := rt.add(localRoute(p.index, a.IP)); err != nil {
				return fmt.Errorf("take what is sent to %s: %w", a, err)
			}
		}
	}
	if p.tun {
		return rt.routeAll(p)
	}
	for _, c := range p.closed {
		if c.IP.Is6() && !p.has6() {
			continue // no route leads to any IPv6 address, and the kernel may not know the family
		}
		if err := rt.add(closedRoute(c)); err != nil {
			return fmt.Errorf("close %s: %w", c, err)
		}
	}
	for _, d := range p.dns {
		if err := rt.add(hostRoute(p.index, d)); err != nil {
			return fmt.Errorf("add route to name server %s: %w", d, err)
		}
	}
	for _, g := range p.gateways {
		if err := rt.add(defaultRoute(p.index, g)); err != nil {
			return fmt.Errorf("add default route through %s: %w", g, err)
		}
	}
	return nil
}

// routeAll leads everything to an interface without neighbours, of the families that it has addresses of.
func (rt *netlink) routeAll(p *plan) error {
	for _, a := range p.addresses {
		if err := rt.add(deviceRoute(p.index, spec.Prefix{IP: make(spec.IP, len(a.IP))})); err != nil {
			return fmt.Errorf("add default route: %w", err)
		}
	}
	return nil
}

// disableAutoconf keeps router advertisements from adding addresses and routes beside ours: pasta
// sends them with the host's own prefix. Where /proc/sys cannot be written (a container around us) what
// they could add is still below the filter.
func disableAutoconf(name string) {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_ra", []byte("0"), 0)
}

// up sets IFF_UP, and the MTU when it is not 0 (rtnetlink(7), RTM_NEWLINK).
func (rt *netlink) up(index uint32, mtu int) error {
	m := newMessage(unix.RTM_NEWLINK, 0, ifinfomsg(index, unix.IFF_UP))
	if mtu > 0 {
		m.attr32(unix.IFLA_MTU, uint32(mtu))
	}
	return rt.do(m)
}

// addAddress adds an address without the route to its prefix that the kernel would add
// (IFA_F_NOPREFIXROUTE): the only neighbours there are the gateway and the name server. Duplicate
// address detection is left out (IFA_F_NODAD), as an IPv6 address cannot be used for a second while
// it runs.
func (rt *netlink) addAddress(index uint32, a spec.Prefix) error {
	m := newMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, ifaddrmsg(index, a))
	m.attr(unix.IFA_LOCAL, a.IP)
	m.attr(unix.IFA_ADDRESS, a.IP)
	m.attr32(unix.IFA_FLAGS, unix.IFA_F_NOPREFIXROUTE|unix.IFA_F_NODAD)
	return rt.do(m)
}

// localRoute makes packets for an IPv6 address of ours ours. The kernel adds the same by itself, but from a work queue, when duplicate
// address detection is over, or is found to be left out (addrconf_dad_work); the address can be sent from before that, and what is
// answered would be forwarded, which nobody may. IPv4 knows no such time.
func localRoute(index uint32, a spec.IP) *message {
	m := newMessage(unix.RTM_NEWROUTE, newRoute,
		rtmsg(spec.Prefix{IP: a, Bits: 8 * len(a)}, unix.RT_TABLE_LOCAL, unix.RTN_LOCAL, unix.RT_SCOPE_UNIVERSE, 0))
	m.attr(unix.RTA_DST, a)
	m.attr32(unix.RTA_OIF, index)
	return m
}

// add adds a route and is content with one that is there already.
func (rt *netlink) add(m *message) error {
	err := rt.do(m)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

const newRoute = unix.NLM_F_CREATE | unix.NLM_F_EXCL

// closedRoute answers a prefix with EACCES. Metric 1 puts it before whatever the kernel adds by
// itself, such as fe80::/64; IPv6 multicast is routed in the table local, which is asked first.
func closedRoute(p spec.Prefix) *message {
	table := unix.RT_TABLE_MAIN
	if p.IP.Is6() && p.IP[0] == 0xff {
		table = unix.RT_TABLE_LOCAL
	}
	m := newMessage(unix.RTM_NEWROUTE, newRoute, rtmsg(p, table, unix.RTN_PROHIBIT, unix.RT_SCOPE_UNIVERSE, 0))
	m.attr(unix.RTA_DST, p.Masked())
	m.attr32(unix.RTA_PRIORITY, 1)
	return m
}

// hostRoute makes one address a neighbour on the link.
func hostRoute(index uint32, a spec.IP) *message {
	m := deviceRoute(index, spec.Prefix{IP: a, Bits: 8 * len(a)})
	m.attr(unix.RTA_DST, a)
	return m
}

// deviceRoute leads to the interface itself, without a gateway.
func deviceRoute(index uint32, p spec.Prefix) *message {
	m := newMessage(unix.RTM_NEWROUTE, newRoute, rtmsg(p, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, unix.RT_SCOPE_LINK, 0))
	m.attr32(unix.RTA_OIF, index)
	return m
}

// defaultRoute leads through a gateway that is itself closed as a destination: RTNH_F_ONLINK says
// that it is a neighbour although no route says so.
func defaultRoute(index uint32, gateway spec.IP) *message {
	p := spec.Prefix{IP: gateway}
	m := newMessage(unix.RTM_NEWROUTE, newRoute,
		rtmsg(p, unix.RT_TABLE_MAIN, unix.RTN_UNICAST, unix.RT_SCOPE_UNIVERSE, unix.RTNH_F_ONLINK))
	m.attr(unix.RTA_GATEWAY, gateway)
	m.attr32(unix.RTA_OIF, index)
	return m
}

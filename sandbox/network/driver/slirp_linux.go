package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"cove/sandbox/network/outside"
	"cove/sandbox/spec"

	"github.com/rootless-containers/rootlesskit/v3/pkg/network/slirp4netns"
)

// mtu is the largest that both helpers take. TCP through them is a stream on the host, so that a
// larger packet is simply fewer of them.
const mtu = 65520

func attachSlirp(ctx context.Context, pid int, host *outside.Host, opts Options, ifname string) (*Link, error) {
	path, err := opts.Find("slirp4netns")
	if err != nil {
		return nil, &MissingError{Programs: []string{"slirp4netns"}, Packages: []string{"slirp4netns"}}
	}
	features, err := slirp4netns.DetectFeatures(path)
	if err != nil {
		return nil, fmt.Errorf("start slirp4netns: %w", err)
	}
	if !features.SupportsDisableHostLoopback || !features.SupportsEnableSandbox || !features.SupportsEnableSeccomp {
		return nil, errors.New("start slirp4netns: this version cannot be confined: 0.4.0 or newer is needed")
	}
	l := &Link{Driver: Slirp, Link: link(host, ifname, host.IPv6 && features.SupportsEnableIPv6)}
	h, err := start(ctx, func() (wait, stop func(), err error) {
		args := slirpArgs(pid, ifname, host.IPv6 && features.SupportsEnableIPv6)
		cmd := exec.Command(path, args...)
		return run(ctx, cmd, opts.Log, func(ready *os.File) { cmd.ExtraFiles = []*os.File{ready} }, isOne)
	})
	if err != nil {
		return nil, fmt.Errorf("start slirp4netns: %w", err)
	}
	l.helped(h)
	return l, nil
}

// slirpArgs has slirp4netns make the interface, which needs no program but itself: it joins the
// namespaces without an exec after it, and so keeps the capabilities there even where the caller's
// id is not 0 inside.
func slirpArgs(pid int, ifname string, ipv6 bool) []string {
	args := []string{
		"--mtu", strconv.Itoa(mtu),
		"--ready-fd", "3",
		"--disable-host-loopback",
		// Its own sandbox (a mount namespace with next to nothing in it, no capabilities) and
		// seccomp filter: it reads packets that are not trusted, out here.
		"--enable-sandbox", "--enable-seccomp",
	}
	if ipv6 {
		args = append(args, "--enable-ipv6")
	}
	return append(args, strconv.Itoa(pid), ifname)
}

// isOne tells whether slirp4netns's word is the one that means ready.
func isOne(said string) bool { return said == "1" }

// link is what both drivers have in common: rootlesskit's addresses, which are slirp4netns's own.
func link(h *outside.Host, ifname string, ipv6 bool) spec.Link {
	l := spec.Link{
		Interface: ifname,
		MTU:       mtu,
		Addresses: prefixes("10.0.2.100/24"),
		Gateways:  addrs("10.0.2.2"),
		Closed:    prefixes(closed(h)...),
	}
	// The helpers forward to a name server of the same family, of which the host may have none.
	if h.DNS4 {
		l.DNS = append(l.DNS, addrs("10.0.2.3")...)
	}
	if ipv6 {
		l.Addresses = append(l.Addresses, prefixes("fd00::100/64")...)
		l.Gateways = append(l.Gateways, addrs("fd00::2")...)
		if h.DNS6 {
			l.DNS = append(l.DNS, addrs("fd00::3")...)
		}
	}
	return l
}

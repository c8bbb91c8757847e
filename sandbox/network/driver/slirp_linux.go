package driver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"cove/sandbox/spec"

	"github.com/rootless-containers/rootlesskit/v3/pkg/network/slirp4netns"
	"golang.org/x/sys/unix"
)

// mtu is the largest that both helpers take. TCP through them is a stream on the host, so that a
// larger packet is simply fewer of them.
const mtu = 65520

func attachSlirp(ctx context.Context, pid int, host *host, opts Options, ifname string) (*Link, error) {
	if err := installed(map[string]string{"slirp4netns": "slirp4netns", "nsenter": "util-linux", "ip": "iproute2"}); err != nil {
		return nil, err
	}
	said := newTail(opts.Log)
	link := &Link{Driver: Slirp, Link: host.link(ifname, host.ipv6)}
	var err error
	link.helper, err = start(ctx, func() (wait, stop func(), err error) {
		// Its own sandbox (a mount namespace with nothing in it, no capabilities) and seccomp filter: it reads
		// packets that are not trusted, out here.
		const disableHostLoopback, sandbox, seccomp = true, true, true
		d, err := slirp4netns.NewParentDriver(said, "slirp4netns", mtu, nil, ifname, disableHostLoopback, "",
			sandbox, seccomp, host.ipv6)
		if err != nil {
			return nil, nil, err
		}
		_, cleanup, err := d.ConfigureNetwork(pid, opts.StateDir, "")
		if err != nil {
			_ = cleanup()
			return nil, nil, withTail(err, said)
		}
		gone := make(chan struct{})
		stop = func() { _ = cleanup(); close(gone) }
		return func() { awaitChild(lastChild(), gone) }, stop, nil
	})
	if err != nil {
		return nil, fmt.Errorf("start slirp4netns: %w", err)
	}
	return link, nil
}

// lastChild is the process that this thread forked and that still runs: rootlesskit does not tell
// slirp4netns's id. 0 where the kernel does not list children (CONFIG_PROC_CHILDREN).
func lastChild() int {
	b, err := os.ReadFile("/proc/thread-self/children")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) == 0 {
		return 0
	}
	pid, _ := strconv.Atoi(fields[len(fields)-1])
	return pid
}

// awaitChild waits for a child's end without taking its status, which is rootlesskit's to take, so
// that its id cannot be another process's before that. Without an id it waits for gone.
func awaitChild(pid int, gone <-chan struct{}) {
	if pid == 0 {
		<-gone
		return
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}

func installed(programs map[string]string) error {
	var missing MissingError
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing.Programs = append(missing.Programs, program)
			missing.Packages = append(missing.Packages, pkg)
		}
	}
	if len(missing.Programs) > 0 {
		return &missing
	}
	return nil
}

// link is what both drivers have in common: rootlesskit's addresses, which are slirp4netns's own.
func (h *host) link(ifname string, ipv6 bool) spec.Link {
	l := spec.Link{
		Interface: ifname,
		MTU:       mtu,
		Addresses: []string{"10.0.2.100/24"},
		Gateways:  []string{"10.0.2.2"},
		Closed:    h.closed(),
	}
	// The helpers forward to a name server of the same family, of which the host may have none.
	if h.dns4 {
		l.DNS = append(l.DNS, "10.0.2.3")
	}
	if ipv6 {
		l.Addresses = append(l.Addresses, "fd00::100/64")
		l.Gateways = append(l.Gateways, "fd00::2")
		if h.dns6 {
			l.DNS = append(l.DNS, "fd00::3")
		}
	}
	return l
}

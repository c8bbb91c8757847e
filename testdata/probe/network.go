package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// networkChecks ask for what no grant but `host` gives.
func networkChecks() []check {
	host := func(f func(b *bait) (string, string)) func(b *bait) (string, string) {
		return func(b *bait) (string, string) {
			if b.grants("network=host") {
				return granted("network host")
			}
			return f(b)
		}
	}
	return []check{
		{"net-interfaces", network, host(func(b *bait) (string, string) {
			text, _ := os.ReadFile("/proc/net/dev")
			var names []string
			for _, line := range strings.Split(string(text), "\n")[min(2, strings.Count(string(text), "\n")):] {
				if name, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) != "lo" {
					names = append(names, strings.TrimSpace(name))
				}
			}
			switch {
			case len(names) > 0 && b.grants("network=user"):
				return granted("network user: %s", strings.Join(names, ", "))
			case len(names) > 0:
				return open("%s", strings.Join(names, ", "))
			}
			return held("lo alone")
		})},
		{"net-routes", network, host(func(b *bait) (string, string) {
			text, _ := os.ReadFile("/proc/net/route")
			if lines := strings.Count(string(text), "\n"); lines > 1 {
				if b.grants("network=user") {
					return granted("network user: %d", lines-1)
				}
				return open("%d", lines-1)
			}
			return held("none")
		})},
		{"net-host-loopback", network, host(func(b *bait) (string, string) { return reach(b, "127.0.0.1", "::1", "127.0.0.2", "0.0.0.0") })},
		{"net-host-addresses", network, host(func(b *bait) (string, string) { return reach(b, b.Addresses...) })},
		{"net-gateway", network, host(func(b *bait) (string, string) {
			// By these user-mode networks show the host's loopback: slirp4netns's, podman's, gvisor-tap-vsock's.
			return reach(b, "10.0.2.2", "10.0.2.3", "10.0.2.100", "169.254.1.2", "192.168.127.254", "192.168.127.1", "10.88.0.1", "fd00::2", "fe80::2%tap0")
		})},
		{"net-metadata", network, host(func(b *bait) (string, string) {
			for _, a := range []string{"169.254.169.254:80", "169.254.170.2:80", "100.100.100.200:80", "[fd00:ec2::254]:80"} {
				c, err := net.DialTimeout("tcp", a, time.Second)
				if err == nil {
					c.Close()
					return open("%s answers", a)
				}
			}
			return held("none of the clouds' addresses answers")
		})},
		{"net-udp", network, host(func(b *bait) (string, string) {
			for _, a := range append([]string{"127.0.0.1", "10.0.2.2"}, b.Addresses...) {
				c, err := net.Dial("udp", net.JoinHostPort(a, fmt.Sprint(b.Port)))
				if err != nil {
					continue
				}
				buf := make([]byte, 10)
				_, _ = c.Write([]byte("?"))
				_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				_, err = c.Read(buf)
				c.Close()
				if err == nil {
					return open("the host answers at %s", a)
				}
			}
			return held("no answer")
		})},
		{"net-changed", network, func(*bait) (string, string) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return held("%v", err)
			}
			ifr, _ := unix.NewIfreq("lo")
			ifr.SetUint16(0)
			if err := ioctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err == nil {
				ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
				_ = ioctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
				return open("an interface was taken down")
			}
			return held("interfaces cannot be changed")
		}},
		{"net-mark", network, func(*bait) (string, string) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return held("%v", err)
			}
			for what, opt := range map[string][2]int{"SO_MARK": {unix.SOL_SOCKET, unix.SO_MARK}, "IP_TRANSPARENT": {unix.SOL_IP, unix.IP_TRANSPARENT}, "SO_RCVBUFFORCE": {unix.SOL_SOCKET, unix.SO_RCVBUFFORCE}, "SO_DEBUG": {unix.SOL_SOCKET, unix.SO_DEBUG}} {
				if unix.SetsockoptInt(fd, opt[0], opt[1], 1) == nil {
					return open("%s", what)
				}
			}
			return held("no socket option that goes past a filter")
		}},
		{"net-low-port-of-host", network, func(b *bait) (string, string) {
			if !b.grants("network=host") {
				return held("ports are the sandbox's own")
			}
			l, err := net.Listen("tcp", "127.0.0.1:1")
			if err == nil {
				l.Close()
				return open("a port below 1024 of the host")
			}
			return held("%v", err)
		}},
	}
}

// reach connects to the host's port at each address.
func reach(b *bait, addresses ...string) (string, string) {
	for _, a := range addresses {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(a, fmt.Sprint(b.Port)), 400*time.Millisecond)
		if err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 100)
		n, _ := c.Read(buf)
		c.Close()
		if strings.Contains(string(buf[:n]), secret) {
			return open("the host's port answers at %s", a)
		}
	}
	return held("the host answers at none of %d addresses", len(addresses))
}

func ioctlIfreq(fd int, request uintptr, ifr *unix.Ifreq) error {
	_, errno := ioctl(fd, request, uintptr(unsafe.Pointer(ifr)))
	return errnoOf(errno)
}

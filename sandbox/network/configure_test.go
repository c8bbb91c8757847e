package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// inNetns runs this test again in network and user namespaces of its own, where it is root, and
// tells whether it is there. The test ends where it returns false.
func inNetns(t *testing.T) bool {
	t.Helper()
	if os.Getenv("NETWORK_TEST_INSIDE") != "" {
		return true
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "NETWORK_TEST_INSIDE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) && os.Getenv("COVE_TEST_REQUIRE") == "" {
		t.Skip("needs unprivileged user namespaces: ", err)
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// makeTap makes an interface that somebody holds, as a helper would.
func makeTap(t *testing.T, name string) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		if os.Getenv("COVE_TEST_REQUIRE") == "" {
			t.Skip("needs /dev/net/tun: ", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		t.Fatal(err)
	}
}

// Without an interface there is loopback, of both families, and nothing else.
func TestConfigureLoopbackAlone(t *testing.T) {
	if !inNetns(t) {
		return
	}
	if err := Up(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	if _, err := net.Dial("udp", "203.0.113.1:7"); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("dial out: %v, want %v", err, unix.ENETUNREACH)
	}
}

func TestConfigureInterface(t *testing.T) {
	if !inNetns(t) {
		return
	}
	makeTap(t, "tap0")
	link := spec.Link{
		Interface: "tap0", MTU: 9000,
		Addresses: prefixes("10.0.2.100/24", "fd00::100/64"),
		Gateways:  addrs("10.0.2.2", "fd00::2"),
		DNS:       addrs("10.0.2.3", "fd00::3"),
		Closed:    prefixes("10.0.0.0/8", "fc00::/7", "224.0.0.0/4", "ff00::/8", "2001:db8:1::/49", "192.0.2.128/25"),
	}
	if err := errors.Join(Up(), Configure(link)); err != nil {
		t.Fatal(err)
	}
	iface, err := net.InterfaceByName("tap0")
	if err != nil {
		t.Fatal(err)
	}
	if iface.MTU != 9000 || iface.Flags&net.FlagUp == 0 {
		t.Errorf("interface %+v", iface)
	}
	got, _ := iface.Addrs()
	for _, p := range link.Addresses {
		want := (&net.IPNet{IP: net.IP(p.IP), Mask: net.CIDRMask(p.Bits, 8*len(p.IP))}).String()
		if !slices.ContainsFunc(got, func(a net.Addr) bool { return a.String() == want }) {
			t.Errorf("no address %s among %v", want, got)
		}
	}
	// connect(2) of a datagram socket asks the routes and sends nothing.
	for to, want := range map[string]error{
		"203.0.113.1": nil, "2001:db8::1": nil, "10.0.2.3": nil, "fd00::3": nil,
		"192.0.2.127": nil, "192.0.2.128": unix.EACCES, "2001:db8:1:8000::": nil, "2001:db8:1:7fff::": unix.EACCES,
		"10.0.2.2": unix.EACCES, "10.0.2.4": unix.EACCES, "fd00::2": unix.EACCES, "fd00::4": unix.EACCES,
		"10.9.9.9": unix.EACCES, "224.0.0.251": unix.EACCES,
	} {
		c, err := net.Dial("udp", net.JoinHostPort(to, "9"))
		if !errors.Is(err, want) {
			t.Errorf("connect to %s: %v, want %v", to, err, want)
		}
		if err == nil {
			c.Close()
		}
	}
}

// The filter alone holds where a socket names its interface and so passes over the routes.
func TestFilterHoldsBoundSocket(t *testing.T) {
	if !inNetns(t) {
		return
	}
	makeTap(t, "tap0")
	err := Configure(spec.Link{
		Interface: "tap0", Addresses: prefixes("10.0.2.100/24", "fd00::100/64"), Gateways: addrs("10.0.2.2", "fd00::2"),
		DNS: addrs("10.0.2.3"), NoTCPDNS: true, Closed: prefixes("10.0.0.0/8", "fc00::/7", "2001:db8:1::/49"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for to, open := range map[string]bool{
		"203.0.113.1:9": true, "10.0.2.3:53": true, "10.0.2.3:54": false, "10.9.9.9:9": false,
		"[2001:db8::1]:9": true, "[fd00::3]:53": false, "[fd99::1]:9": false,
		"[2001:db8:1:7fff::]:9": false, "[2001:db8:1:8000::]:9": true,
	} {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var serr error
			err := raw.Control(func(fd uintptr) { serr = unix.BindToDevice(int(fd), "tap0") })
			return errors.Join(err, serr)
		}}
		c, err := d.Dial("udp", to)
		if err != nil {
			t.Errorf("connect to %s past the routes: %v", to, err)
			continue
		}
		_, err = c.Write([]byte("x"))
		if refused := errors.Is(err, unix.EPERM); refused == open {
			t.Errorf("send to %s: %v", to, err)
		}
		c.Close()
	}
}

func TestConfigureRefusesNonsense(t *testing.T) {
	if !inNetns(t) {
		return
	}
	makeTap(t, "tap0")
	for _, link := range []spec.Link{
		{Interface: "tap9"},
		{Interface: strings.Repeat("x", 40)},
		{Interface: "tap0", Addresses: []spec.Prefix{{IP: spec.IP{10, 0, 2}}}},
		{Interface: "tap0", Closed: []spec.Prefix{{IP: spec.IP{10, 0, 0, 0}, Bits: 33}}},
		{Interface: "tap0", Gateways: []spec.IP{{}}},
		{Interface: "tap0", DNS: []spec.IP{{10, 0, 2, 3, 32}}},
	} {
		if err := errors.Join(Up(), Configure(link)); err == nil {
			t.Errorf("%+v was taken", link)
		}
	}
}

func TestDialErrors(t *testing.T) {
	if _, err := Dial("sctp", 1); err == nil {
		t.Error("sctp was dialled")
	}
	if !inNetns(t) {
		return
	}
	if err := Up(); err != nil {
		t.Fatal(err)
	}
	if f, err := Dial("tcp", 9); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens: %v, %v", f, err)
	}
}

// Dial finds a UDP server on either loopback address.
func TestDialUDP(t *testing.T) {
	if !inNetns(t) {
		return
	}
	if err := Up(); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1", "0.0.0.0", "::"} {
		server, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		f, err := Dial("udp", uint16(server.LocalAddr().(*net.UDPAddr).Port))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, "hello")
		buf := make([]byte, 10)
		n, _, err := server.ReadFrom(buf)
		if string(buf[:n]) != "hello" {
			t.Errorf("%s: got %q, %v", host, buf[:n], err)
		}
		f.Close()
		server.Close()
	}
}

func TestMessageEncoding(t *testing.T) {
	m := newMessage(16, 0, []byte{1, 2, 3, 4, 5})
	m.nest(7, func() { m.attrString(1, "abc"); m.attrBE32(2, 0x01020304) })
	b := m.finish(9)
	want := []byte{
		16 + 8 + 20, 0, 0, 0, 16, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0,
		1, 2, 3, 4, 5, 0, 0, 0, // the body, padded
		20, 0, 7, 0x80, // nested
		8, 0, 1, 0, 'a', 'b', 'c', 0,
		8, 0, 2, 0, 1, 2, 3, 4,
	}
	if !bytes.Equal(b, want) {
		t.Errorf("got\n% x, want\n% x", b, want)
	}
}

// Init pays for every package that is linked before it.
func TestImportsStayLight(t *testing.T) {
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	if _, err := os.Stat(filepath.Join("..", "..", "go.mod")); err != nil {
		t.Skip("needs the source tree")
	}
	out, err := exec.Command(gotool, "list", "-deps", ".").Output()
	if err != nil {
		t.Skip("go list: ", err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if dep == "net" || dep == "net/http" || strings.Contains(dep, "rootlesskit") || strings.Contains(dep, "logrus") {
			t.Errorf("the child half imports %s", dep)
		}
	}
}

func prefixes(texts ...string) (out []spec.Prefix) {
	for _, text := range texts {
		p := netip.MustParsePrefix(text)
		out = append(out, spec.Prefix{IP: p.Addr().AsSlice(), Bits: p.Bits()})
	}
	return out
}

func addrs(texts ...string) (out []spec.IP) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text).AsSlice())
	}
	return out
}

// What is sent to an address right after it was given is taken: an answer comes within microseconds, and a datagram is not sent again.
func TestConfigureTakesAtOnce(t *testing.T) {
	if !inNetns(t) {
		return
	}
	link := spec.Link{Interface: "tap0", Tun: true, MTU: 1500, Addresses: prefixes("10.0.2.100/24", "fd00::100/64")}
	const tries = 100
	lost := map[string]int{}
	for range tries {
		err := inNewNetns(func() error {
			tun, err := OpenTun(link, userns.IDMap{})
			if err != nil {
				return err
			}
			defer tun.Close()
			if err := errors.Join(Up(), Configure(link)); err != nil {
				return err
			}
			for _, p := range []struct {
				name   string
				domain int
				bound  unix.Sockaddr
				packet []byte
			}{
				{"IPv6", unix.AF_INET6, &unix.SockaddrInet6{Port: 9}, datagram6("2001:db8::1", "fd00::100")},
				{"IPv4", unix.AF_INET, &unix.SockaddrInet4{Port: 9}, datagram4("192.0.2.1", "10.0.2.100")},
			} {
				fd, err := unix.Socket(p.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				if p.domain == unix.AF_INET6 {
					_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
				}
				if err := unix.Bind(fd, p.bound); err != nil {
					return err
				}
				if _, err := tun.Write(append(make([]byte, 10), p.packet...)); err != nil {
					return err
				}
				if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100); n != 1 {
					lost[p.name]++
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range lost {
		t.Errorf("%s: %d of %d datagrams were lost", name, n, tries)
	}
}

// inNewNetns runs f on a thread in a network namespace of its own, which ends with it.
func inNewNetns(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// datagram6 and datagram4 are UDP from port 9 to port 9, with one byte.
func datagram6(from, to string) []byte {
	a, b := netip.MustParseAddr(from).As16(), netip.MustParseAddr(to).As16()
	udp := []byte{0, 9, 0, 9, 0, 9, 0, 0, 'x'}
	pseudo := slices.Concat(a[:], b[:], []byte{0, 0, 0, 9, 0, 0, 0, unix.IPPROTO_UDP}, udp)
	binary.BigEndian.PutUint16(udp[6:], ^checksum(pseudo))
	return slices.Concat([]byte{0x60, 0, 0, 0, 0, 9, unix.IPPROTO_UDP, 64}, a[:], b[:], udp)
}

func datagram4(from, to string) []byte {
	a, b := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	ip := slices.Concat([]byte{0x45, 0, 0, 29, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, a[:], b[:])
	binary.BigEndian.PutUint16(ip[10:], ^checksum(ip))
	return slices.Concat(ip, []byte{0, 9, 0, 9, 0, 9, 0, 0, 'x'}) // without a checksum of its own
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i, c := range b {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

package builtin

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// The tests run in a network namespace of their own, as its root: "outside". All of 203.0.113.0/24 is its loopback, and its
// default route leads to an interface that nobody reads, so that nothing else is ever answered.
const outsideMark = "COVE_TEST_BUILTIN_OUTSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(outsideMark) == "" {
		os.Exit(goOutside())
	}
	worker := slices.Contains(os.Args, "-test.fuzzworker") // in the namespace of who has started it
	if err := makeOutside(); err != nil && !worker {
		fmt.Fprintln(os.Stderr, "make the network outside:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func goOutside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), outsideMark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	runtime.LockOSThread() // the parent's death is that of this thread
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		return max(ended.ExitCode(), 1)
	case os.Getenv("COVE_TEST_REQUIRE") != "":
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "skipped: needs user namespaces:", err)
	return 0
}

func makeOutside() error {
	if err := network.Up(); err != nil {
		return err
	}
	// An address of class C on a loopback interface: all 256 are local.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	if err := ifr.SetInet4Addr([]byte{203, 0, 113, 10}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0); err != nil {
		return err
	}
	sink := spec.Link{Interface: "sink", Tun: true, MTU: 1500, Addresses: []spec.Prefix{{IP: spec.IP{198, 51, 100, 1}, Bits: 24}}}
	sinkFile, err = network.OpenTun(sink, userns.IDMap{})
	if err != nil {
		return err
	}
	return network.Configure(sink)
}

var sinkFile *os.File // kept open, and never read

const (
	www     = "203.0.113.10"
	nowhere = "198.51.100.77" // whatever is sent there is never answered
)

// inside is a sandbox as far as its network goes.
type inside struct {
	t    testing.TB
	net  *Network
	work chan func()
	mu   sync.Mutex
	log  []network.Decision
}

// newInside makes one that may reach all of outside's addresses.
func newInside(t testing.TB, change ...func(*Network)) *inside {
	t.Helper()
	s := &inside{t: t, work: make(chan func())}
	var allow []spec.Reach
	for _, proto := range []string{"tcp", "udp"} {
		for _, p := range []string{"203.0.113.0/24", "198.51.100.0/24"} {
			prefix := netip.MustParsePrefix(p)
			allow = append(allow, spec.Reach{Text: p, Prefix: spec.Prefix{IP: prefix.Addr().AsSlice(), Bits: prefix.Bits()}, Proto: proto})
		}
	}
	conf := t.TempDir() + "/resolv.conf"
	if err := os.WriteFile(conf, []byte("nameserver "+nowhere+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	allow = append(allow, spec.Reach{Text: "slow.example", Name: "slow.example", Proto: "tcp"})
	n, err := New(Options{Egress: spec.Egress{Listed: true, Allow: allow}, ResolvConf: conf, Log: s.add})
	if err != nil {
		t.Fatal(err)
	}
	s.net = n
	for _, c := range change {
		c(n)
	}
	t.Cleanup(s.close)
	made, stop := make(chan error, 1), make(chan struct{})
	var tun *os.File
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and with it the namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			tun, err = network.OpenTun(n.Link(), userns.IDMap{})
		}
		if err == nil {
			err = network.Configure(n.Link())
		}
		made <- err
		for {
			select {
			case f := <-s.work:
				f()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop) })
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	if err := n.Serve(tun); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *inside) add(d network.Decision) {
	s.mu.Lock()
	s.log = append(s.log, d)
	s.mu.Unlock()
}

// close ends the network, which must not take long whatever is under way.
func (s *inside) close() {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.net.Close() }()
	select {
	case err := <-done:
		if err != nil {
			s.t.Error(err)
		}
	case <-time.After(5 * time.Second):
		buf := make([]byte, 1<<20)
		s.t.Fatalf("Close hangs:\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// do runs f in the namespace.
func (s *inside) do(f func()) {
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

func (s *inside) socket(kind, proto int) (fd int, err error) {
	s.do(func() { fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto) })
	return fd, err
}

// dial connects from inside.
func (s *inside) dial(addr string) (*net.TCPConn, error) { return s.dialFrom(0, addr) }

// dialFrom connects from a port, 0 for any.
func (s *inside) dialFrom(port int, addr string) (*net.TCPConn, error) {
	to := netip.MustParseAddrPort(addr)
	fd, err := s.socket(unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), addr)
	defer f.Close()
	if port != 0 {
		if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Port: port})); err != nil {
			return nil, err
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err != nil && err != unix.EINPROGRESS {
		return nil, err
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 10_000); n == 0 {
		return nil, fmt.Errorf("connect to %s: no answer (%v)", addr, err)
	}
	if code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); code != 0 || err != nil {
		return nil, errors.Join(err, syscall.Errno(code))
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn), nil
}

func (s *inside) mustDial(addr string) *net.TCPConn {
	s.t.Helper()
	c, err := s.dial(addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// udp is a socket inside that sends to addr.
func (s *inside) udp(addr string) net.Conn {
	s.t.Helper()
	to := netip.MustParseAddrPort(addr)
	fd, err := s.socket(unix.SOCK_DGRAM, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), addr)
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		s.t.Fatal(err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// serve listens outside, and hands on each connection.
func serve(t testing.TB, handle func(*net.TCPConn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", www+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// descriptors and goroutines of this process: counted before and after.
func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// settledDescriptors counts them when what an earlier test left has gone.
func settledDescriptors(t testing.TB) int {
	t.Helper()
	n := descriptors(t)
	eventually(t, "descriptors settle", func() bool {
		before := n
		time.Sleep(100 * time.Millisecond)
		n = descriptors(t)
		return n == before
	})
	return n
}

// eventually waits for what takes a moment.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("never: %s\n%.20000s", what, strings.TrimSpace(string(buf[:runtime.Stack(buf, true)])))
		}
	}
}

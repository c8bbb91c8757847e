package driver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

const (
	stageName  = "network-test-stage"  // argv[0] of a child in namespaces
	parentName = "network-test-parent" // argv[0] of a parent that is to be killed
)

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case stageName:
		if err := stage(); err != nil && !errors.Is(err, io.EOF) {
			fmt.Fprintln(os.Stderr, "stage:", err)
			os.Exit(1)
		}
		os.Exit(0)
	case parentName:
		parent()
	}
	os.Exit(m.Run())
}

// world is the made-up network around, as testdata/netns describes it.
func world(t testing.TB) map[string]string {
	t.Helper()
	text := os.Getenv("COVE_TEST_NETNS")
	if text == "" {
		why := "COVE_TEST_NETNS is not set: run as root `testdata/netns su USER -c 'go test ./...'`, so that no packet leaves this machine"
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	w := map[string]string{}
	for _, f := range strings.Fields(text) {
		k, v, _ := strings.Cut(f, "=")
		w[k] = v
	}
	return w
}

// probe is one try to reach something from inside.
type probe struct {
	Proto string `json:"proto"`
	To    string `json:"to"` // address:port, or a name to resolve with Proto "dns" or "dnstcp"
	How   string `json:"how"`
}

// The ways to send past a routing table that need no privilege.
const (
	plain    = ""
	device   = "device" // SO_BINDTODEVICE
	egressBy = "egress" // IP_MULTICAST_IF, IP_UNICAST_IF: an interface for what is not routed
	source   = "source" // bound to the interface's address, which for multicast chooses the interface
)

type order struct {
	Link   *spec.Link `json:"link,omitempty"`
	Probes []probe    `json:"probes,omitempty"`
	Dial   *spec.Dial `json:"dial,omitempty"`
	Listen bool       `json:"listen,omitempty"`
}

type report struct {
	Error   string   `json:"error,omitempty"`
	Answers []answer `json:"answers,omitempty"`
	Port    uint16   `json:"port,omitempty"`
}

type answer struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

// stage is a sandbox's init as far as the network goes.
func stage() error {
	conn, err := fdpass.FromFD(userns.ConnFD)
	if err != nil {
		return err
	}
	link := spec.Link{}
	for {
		var o order
		if _, err := conn.Recv(&o); err != nil {
			return err
		}
		var r report
		var files []*os.File
		switch {
		case o.Link != nil:
			link = *o.Link
			var tun *os.File
			if link.Tun {
				if tun, err = network.OpenTun(link, userns.IDMap{}); err != nil {
					return err
				}
				files = append(files, tun)
			}
			if err := errors.Join(network.Up(), network.Configure(link)); err != nil {
				r.Error = err.Error()
			}
		case o.Dial != nil:
			f, err := network.Dial(o.Dial.Proto, o.Dial.Port)
			if err != nil {
				r.Error = err.Error()
			} else {
				files = append(files, f)
			}
		case o.Listen:
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			r.Port = uint16(l.Addr().(*net.TCPAddr).Port)
			go func() {
				for c, err := l.Accept(); err == nil; c, err = l.Accept() {
					fmt.Fprintln(c, "inside")
					c.Close()
				}
			}()
		default:
			r.Answers = tryAll(link, o.Probes)
		}
		if err := conn.Send(r, files...); err != nil {
			return err
		}
	}
}

func tryAll(link spec.Link, probes []probe) []answer {
	answers := make([]answer, len(probes))
	var all sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i, p := range probes {
		all.Go(func() {
			slots <- struct{}{}
			text, err := try(link, p)
			<-slots
			answers[i].Text = text
			if err != nil {
				answers[i].Error = err.Error()
			}
		})
	}
	all.Wait()
	return answers
}

func try(link spec.Link, p probe) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if strings.HasPrefix(p.Proto, "dns") {
		r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			proto := "udp"
			if p.Proto == "dnstcp" {
				proto = "tcp"
			}
			return (&net.Dialer{}).DialContext(ctx, proto, net.JoinHostPort(p.How, "53"))
		}}
		addrs, err := r.LookupHost(ctx, p.To+".")
		return strings.Join(addrs, " "), err
	}
	dialer := net.Dialer{Control: func(network, _ string, raw syscall.RawConn) error {
		var serr error
		err := raw.Control(func(fd uintptr) { serr = bend(int(fd), link, p, strings.HasSuffix(network, "6")) })
		return errors.Join(err, serr)
	}}
	c, err := dialer.DialContext(ctx, p.Proto, p.To)
	if err != nil {
		return "", err
	}
	defer c.Close()
	wait := 2 * time.Second
	if p.Proto == "udp" {
		wait = 700 * time.Millisecond
		if _, err := c.Write([]byte("hello\n")); err != nil {
			return "", err
		}
	}
	_ = c.SetDeadline(time.Now().Add(wait))
	return bufio.NewReader(c).ReadString('\n')
}

// bend makes a socket send past the routes.
func bend(fd int, link spec.Link, p probe, six bool) error {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	iface, err := net.InterfaceByName(link.Interface)
	if err != nil || p.How == plain {
		return err
	}
	switch p.How {
	case device:
		return unix.BindToDevice(fd, link.Interface)
	case egressBy:
		if six {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, iface.Index)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_UNICAST_IF, int(htonl(uint32(iface.Index))))
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(iface.Index)})
	case source:
		for _, a := range link.Addresses {
			own, _ := netip.AddrFromSlice(a.IP)
			if own.Is4() && !six {
				return unix.Bind(fd, &unix.SockaddrInet4{Addr: own.As4()})
			}
			if own.Is6() && six {
				return unix.Bind(fd, &unix.SockaddrInet6{Addr: own.As16()})
			}
		}
	}
	return nil
}

func htonl(v uint32) uint32 { return v<<24 | v>>24 | v&0xff00<<8 | v>>8&0xff00 }

// sandbox is a child with a network.
type sandbox struct {
	t     testing.TB
	child *userns.Child
	link  *Link
}

func startStage(ctx context.Context) (*userns.Child, error) { return startStageAs(ctx, 0) }

// startStageAs makes the caller the user with that id inside.
func startStageAs(ctx context.Context, as uint32) (*userns.Child, error) {
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	ids := userns.Single(uid, gid, as, as)
	if sub, err := userns.ReadSubIDs(me.Username, uid); err == nil && uid != 0 {
		if ids, err = userns.Allocate(sub, uid, gid, as, as); err != nil && !errors.Is(err, userns.ErrNoSubids) {
			return nil, err
		}
	}
	if uid == 0 {
		ids = userns.IDMap{UIDs: []userns.Range{{HostID: 100000, Size: 65536}}, GIDs: []userns.Range{{HostID: 100000, Size: 65536}}}
	}
	return userns.Start(ctx, userns.Config{Stage: stageName, IDMap: ids, Namespaces: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID})
}

func newSandbox(t testing.TB, driver string) *sandbox {
	t.Helper()
	return newSandboxAs(t, driver, 0)
}

func newSandboxAs(t testing.TB, driver string, as uint32) *sandbox {
	t.Helper()
	child, err := startStageAs(t.Context(), as)
	if err != nil {
		t.Fatal(err)
	}
	s := &sandbox{t: t, child: child}
	t.Cleanup(func() { child.Kill(); _, _ = child.Wait() })
	s.link, err = Attach(t.Context(), child.Pid(), Options{Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.link.Close() })
	s.configure()
	return s
}

// configure has the stage make its half of the link.
func (s *sandbox) configure() {
	s.t.Helper()
	r, files := s.ask(order{Link: &s.link.Link})
	if r.Error != "" {
		s.t.Fatal(r.Error)
	}
	if s.link.Tun {
		if err := s.link.Serve(files[0]); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *sandbox) ask(o order) (report, []*os.File) {
	s.t.Helper()
	if err := s.child.Conn.Send(o); err != nil {
		s.t.Fatal(err)
	}
	var r report
	files, err := s.child.Conn.Recv(&r)
	if err != nil {
		s.t.Fatal(err)
	}
	return r, files
}

// seen asks the world outside how many packets came for an address, but those to its port 80: tests of other packages, in the
// same world at the same time, are let there.
func seen(t testing.TB, w map[string]string, addr string) int {
	t.Helper()
	addr, _, _ = strings.Cut(addr, "%")
	resp, err := http.Get("http://" + w["www"] + "/seen?http=0&dst=" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return n
}

// parent is a cove that will be killed: it attaches a network and says which process it is for.
func parent() {
	child, err := startStage(context.Background())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	link, err := Attach(context.Background(), child.Pid(), Options{Driver: os.Getenv("DRIVER")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"pid": child.Pid(), "driver": link.Driver})
	select {}
}

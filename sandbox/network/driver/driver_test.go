package driver

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/spec"
)

var (
	drivers = []string{Builtin, Slirp, Pasta}
	helpers = []string{Slirp, Pasta}
)

func each(t *testing.T, test func(t *testing.T, w map[string]string, driver string)) {
	eachOf(t, drivers, test)
}

func eachOf(t *testing.T, drivers []string, test func(t *testing.T, w map[string]string, driver string)) {
	w := world(t)
	for _, d := range drivers {
		t.Run(d, func(t *testing.T) { test(t, w, d) })
	}
}

// What is not closed is reached, by address and by name, over both families.
func TestOpen(t *testing.T) {
	each(t, func(t *testing.T, w map[string]string, driver string) {
		s := newSandbox(t, driver)
		probes := []probe{
			{"tcp", w["www"] + ":7", plain}, {"udp", w["www"] + ":7", plain},
			{"tcp", "[" + w["www6"] + "]:7", plain}, {"udp", "[" + w["www6"] + "]:7", plain},
			{"tcp", w["www"] + ":7", device}, // the control of the probes that must fail
		}
		want := []string{w["www"], w["www"], w["www6"], w["www6"], w["www"]}
		for _, server := range s.link.DNS {
			dns := net.IP(server).String()
			probes = append(probes, probe{"dns", "www.example.test", dns})
			want = append(want, w["www"]+" "+w["www6"])
			if !s.link.NoTCPDNS {
				probes = append(probes, probe{"dnstcp", "www.example.test", dns})
				want = append(want, w["www"]+" "+w["www6"])
			}
		}
		if len(s.link.DNS) != 2 {
			t.Errorf("name servers %v, want one of each family, as outside", s.link.DNS)
		}
		r, _ := s.ask(order{Probes: probes})
		for i, a := range r.Answers {
			if !sameWords(a.Text, want[i]) {
				t.Errorf("%v: answered %q, %v; want %q", probes[i], a.Text, a.Error, want[i])
			}
		}
	})
}

func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for _, s := range x {
		if !strings.Contains(" "+b+" ", " "+s+" ") {
			return false
		}
	}
	return true
}

// closedSamples has an address of every closed range, where outside answers for it.
var closedSamples = []string{
	"10.77.0.2", "10.0.2.2", "10.0.2.3", "10.0.2.4", "10.0.2.255", "10.255.255.255", "172.16.0.1", "172.31.255.254",
	"192.168.77.2", "100.64.0.1", "169.254.169.254", "169.254.0.1", "192.0.0.8", "198.18.0.1", "198.19.255.254",
	"240.0.0.1", "255.255.255.254",
	"fd77::2", "fd00::2", "fd00::3", "fd00::4", "fd00:ec2::254", "fc00::1", "fec0::1", "64:ff9b::a4d:2", "64:ff9b:1::1",
	"2002:a4d:2::1", "2001::1", "::ffff:10.77.0.2", "::ffff:0:10.77.0.2", "::10.77.0.2", "2001:db8:1::1", "2001:db8:1::77",
}

// Nothing closed is reached, by whatever way an unprivileged process can send, and no packet for
// it gets out.
func TestClosed(t *testing.T) {
	each(t, func(t *testing.T, w map[string]string, driver string) {
		s := newSandbox(t, driver)
		var probes []probe
		for _, a := range closedSamples {
			for _, how := range []string{plain, device, egressBy, source} {
				for _, proto := range []string{"tcp", "udp"} {
					probes = append(probes, probe{proto, net.JoinHostPort(a, "7"), how})
				}
			}
		}
		before := map[string]int{}
		for _, a := range closedSamples {
			before[a] = seen(t, w, a)
		}
		r, _ := s.ask(order{Probes: probes})
		for i, a := range r.Answers {
			if a.Error == "" {
				t.Errorf("%v: answered %q", probes[i], a.Text)
			}
		}
		for _, a := range closedSamples {
			if n := seen(t, w, a) - before[a]; n != 0 {
				t.Errorf("%d packets for %s got out", n, a)
			}
		}
	})
}

// An ordinary try is told no at once, and does not hang.
func TestClosedAnswersAtOnce(t *testing.T) {
	each(t, func(t *testing.T, w map[string]string, driver string) {
		s := newSandbox(t, driver)
		r, _ := s.ask(order{Probes: []probe{{"tcp", w["private"] + ":7", plain}, {"tcp", "[" + w["private6"] + "]:7", plain}, {"tcp", "169.254.169.254:80", plain}}})
		for _, a := range r.Answers {
			want := syscall.EACCES // by a route of the sandbox's
			if driver == Builtin {
				want = syscall.ECONNREFUSED // by the stack's reset
			}
			if !strings.Contains(a.Error, want.Error()) {
				t.Errorf("error %q, want %q", a.Error, want)
			}
		}
	})
}

// The samples are reachable from the host, or TestClosed would show nothing.
func TestWorldAnswers(t *testing.T) {
	w := world(t)
	for _, a := range []string{w["private"], w["private6"], "169.254.169.254", "172.16.0.1", "100.64.0.1", "64:ff9b::a4d:2", "fd00:ec2::254"} {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(a, "7"), 2*time.Second)
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
		if seen(t, w, a) == 0 {
			t.Errorf("the sniffer saw nothing of a connection to %s", a)
		}
	}
}

func TestMulticastStaysInside(t *testing.T) {
	each(t, func(t *testing.T, w map[string]string, driver string) {
		s := newSandbox(t, driver)
		var probes []probe
		groups := []string{"224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb%" + s.link.Interface, "ff05::c", "ff0e::114"}
		for _, g := range groups {
			for _, how := range []string{plain, device, egressBy, source} {
				probes = append(probes, probe{"udp", net.JoinHostPort(g, "1900"), how})
			}
		}
		before := map[string]int{}
		for _, g := range groups {
			before[g] = seen(t, w, g)
		}
		s.ask(order{Probes: probes})
		for _, g := range groups {
			if n := seen(t, w, g) - before[g]; n != 0 {
				t.Errorf("%d packets for %s got out", n, g)
			}
		}
	})
}

// No address leads to a server of the host's, be it on loopback alone or everywhere.
func TestHostIsClosed(t *testing.T) {
	each(t, func(t *testing.T, w map[string]string, driver string) {
		var reached atomic.Int32
		port := hostServers(t, &reached)
		s := newSandbox(t, driver)
		var probes []probe
		for _, a := range []string{"127.0.0.1", "127.0.0.53", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "10.0.2.2", "10.0.2.3", "10.0.2.100",
			"fd00::2", "fd00::3", "fd00::100", w["host"], w["host6"], w["hostprivate"], "::ffff:" + w["host"], "fe80::2%" + s.link.Interface, "fe80::1%" + s.link.Interface} {
			for _, how := range []string{plain, device, egressBy, source} {
				for _, proto := range []string{"tcp", "udp"} {
					probes = append(probes, probe{proto, net.JoinHostPort(a, strconv.Itoa(port)), how})
				}
			}
		}
		r, _ := s.ask(order{Probes: probes})
		for i, a := range r.Answers {
			if strings.Contains(a.Text, "host") {
				t.Errorf("%v reached the host", probes[i])
			}
		}
		if n := reached.Load(); n != 0 {
			t.Errorf("the host's servers were reached %d times", n)
		}
	})
}

// hostServers listens on one port of every address, loopback among them, over TCP and UDP.
func hostServers(t *testing.T, reached *atomic.Int32) int {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			reached.Add(1)
			fmt.Fprintln(c, "host")
			c.Close()
		}
	}()
	u, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	go func() {
		for {
			_, from, err := u.ReadFrom(make([]byte, 100))
			if err != nil {
				return
			}
			reached.Add(1)
			_, _ = u.WriteTo([]byte("host\n"), from)
		}
	}()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := bufio.NewReader(c).ReadString('\n'); s != "host\n" {
		t.Fatalf("the host's server says %q", s)
	}
	c.Close()
	reached.Store(0)
	return port
}

// What listens on the sandbox's loopback is not forwarded by itself, but is when published.
func TestPublishFromSandbox(t *testing.T) {
	each(t, func(t *testing.T, w map[string]string, driver string) {
		s := newSandbox(t, driver)
		r, _ := s.ask(order{Listen: true})
		if c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", r.Port), time.Second); err == nil {
			c.Close()
			t.Errorf("port %d is forwarded without being published", r.Port)
		}
		p, err := Publish(t.Context(), []spec.Port{{ContainerPort: r.Port, Proto: "tcp"}}, func(proto string, port uint16) (*os.File, error) {
			r, files := s.ask(order{Dial: &spec.Dial{Proto: proto, Port: port}})
			if r.Error != "" {
				return nil, errors.New(r.Error)
			}
			return files[0], nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		c, err := net.Dial("tcp", p.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := bufio.NewReader(c).ReadString('\n'); got != "inside\n" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// helpersOf finds the helper processes for a sandbox by their command lines.
func helpersOf(pid int) []int {
	var found []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		b, _ := os.ReadFile(path)
		args := strings.Split(string(b), "\x00")
		name := filepath.Base(args[0])
		if !strings.HasPrefix(name, "slirp4netns") && !strings.HasPrefix(name, "pasta") {
			continue
		}
		for _, a := range args[1:] {
			if a == strconv.Itoa(pid) {
				n, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
				found = append(found, n)
			}
		}
	}
	return found
}

// kill -9 of the parent leaves no helper a second later.
func TestNothingOutlivesTheParent(t *testing.T) {
	eachOf(t, helpers, func(t *testing.T, w map[string]string, driver string) {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := &exec.Cmd{Path: exe, Args: []string{parentName}, Env: append(os.Environ(), "DRIVER="+driver), Stderr: os.Stderr}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		var said struct{ Pid int }
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			_ = cmd.Process.Kill()
			t.Fatalf("the parent said %q", line)
		}
		// Long enough for the runtime to end threads that are idle.
		time.Sleep(200 * time.Millisecond)
		if len(helpersOf(said.Pid)) == 0 {
			t.Errorf("no helper runs for %d", said.Pid)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for deadline := time.Now().Add(time.Second); len(helpersOf(said.Pid)) > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("helpers %v run on", helpersOf(said.Pid))
			}
		}
	})
}

func TestDoneAndClose(t *testing.T) {
	eachOf(t, helpers, func(t *testing.T, w map[string]string, driver string) {
		s := newSandbox(t, driver)
		select {
		case <-s.link.Done():
			t.Fatal("done at once")
		default:
		}
		for _, pid := range helpersOf(s.child.Pid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-s.link.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("a killed helper was not noticed")
		}
		if err := s.link.Close(); err != nil {
			t.Error(err)
		}
		other := newSandbox(t, driver)
		if err := other.link.Close(); err != nil {
			t.Error(err)
		}
		if left := helpersOf(other.child.Pid()); len(left) > 0 {
			t.Errorf("after Close, helpers %v are left", left)
		}
	})
}

// The caller need not be root inside: user = "me" maps its own id to itself.
func TestAttachWhoeverIsInside(t *testing.T) {
	each(t, func(t *testing.T, w map[string]string, driver string) {
		s := newSandboxAs(t, driver, 1234)
		r, _ := s.ask(order{Probes: []probe{{"tcp", w["www"] + ":7", plain}}})
		if a := r.Answers[0]; a.Error != "" {
			t.Error(a.Error)
		}
	})
}

// Where a security module keeps pasta from opening another process's namespaces, it is given them open.
func TestPastaIsGivenNamespaces(t *testing.T) {
	w := world(t)
	pasta, err := exec.LookPath(Pasta)
	if err != nil {
		t.Skip(err)
	}
	if strings.Contains(pastaHelp(t.Context(), pasta), "--map-guest-addr") {
		t.Skip("this pasta closes the descriptors that it is given")
	}
	dir := t.TempDir()
	forbidden := "#!/bin/sh\nfor last; do :; done\ncase $last in [0-9]*) echo \"Couldn't open user namespace /proc/$last/ns/user: Permission denied\" >&2; exit 1;; esac\nexec " + pasta + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, Pasta), []byte(forbidden), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	s := newSandbox(t, Pasta)
	r, _ := s.ask(order{Probes: []probe{{"tcp", w["www"] + ":7", plain}}})
	if a := r.Answers[0]; !sameWords(a.Text, w["www"]) {
		t.Errorf("answered %q, %v", a.Text, a.Error)
	}
}

// A helper that a hostile packet took over finds no secret and no file of ours in its hands.
func TestHelperIsBare(t *testing.T) {
	eachOf(t, helpers, func(t *testing.T, w map[string]string, driver string) {
		t.Setenv("NETWORK_TEST_SECRET", "secret")
		path := filepath.Join(t.TempDir(), "inherited")
		fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_RDWR, 0o600) // no O_CLOEXEC, as what a shell hands on
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		s := newSandbox(t, driver)
		helpers := helpersOf(s.child.Pid())
		if len(helpers) == 0 {
			t.Fatal("no helper runs")
		}
		for _, pid := range helpers {
			dir := fmt.Sprintf("/proc/%d/", pid)
			env, err := os.ReadFile(dir + "environ")
			if errors.Is(err, os.ErrPermission) {
				t.Skip("the helper keeps even its owner from looking; as root this is tested")
			}
			if len(env) != 0 {
				t.Errorf("environment %q, %v", env, err)
			}
			fds, _ := filepath.Glob(dir + "fd/*")
			for _, f := range fds {
				if to, _ := os.Readlink(f); strings.HasPrefix(to, path) {
					t.Errorf("%s is %s", f, to)
				}
			}
		}
	})
}

func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, d := range helpers {
		_, err := Attach(t.Context(), os.Getpid(), Options{Driver: d})
		var missing *MissingError
		if !errors.As(err, &missing) || len(missing.Packages) == 0 {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// The time from a waiting child to a configured network.
func BenchmarkAttach(b *testing.B) {
	world(b)
	for _, d := range drivers {
		b.Run(d, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				child, err := startStage(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				link, err := Attach(b.Context(), child.Pid(), Options{Driver: d})
				if err != nil {
					b.Fatal(err)
				}
				s := &sandbox{t: b, child: child, link: link}
				s.configure()
				b.StopTimer()
				link.Close()
				child.Kill()
				_, _ = child.Wait()
				child.Conn.Close()
				b.StartTimer()
			}
		})
	}
}

// Command netcompare shows what the networks of cove, podman, slirp4netns and pasta each let through as they come, from
// one and the same program inside:
//
//	testdata/netns sh -c 'go run ./testdata/netcompare -cove ./cove'    as root, -as USER for who runs them
//
// It needs the private world of testdata/netns, where every address answers, so that what is not reached was kept from
// it. The table goes to standard output, in Markdown.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is one thing that a program inside tries to reach.
type target struct {
	What string
	Addr string // host:port of tcp, or with Name what is asked for first
	Open bool   // it is there for everybody
}

func targets(w map[string]string, loopback, everywhere string) []target {
	return []target{
		{"a server outside, IPv4", w["www"] + ":80", true},
		{"a server outside, IPv6", "[" + w["www6"] + "]:80", true},
		{"a server on the host's loopback, by 10.0.2.2", "10.0.2.2:" + loopback, false},
		{"the same, by the host's default gateway", w["gateway"] + ":" + loopback, false},
		{"a server on all of the host's addresses, by its own", w["host"] + ":" + everywhere, false},
		{"the same, by its private address", w["hostprivate"] + ":" + everywhere, false},
		{"the same, by its IPv6 address", "[" + w["host6"] + "]:" + everywhere, false},
		{"a neighbour's private address", w["private"] + ":80", false},
		{"a neighbour's private IPv6 address", "[" + w["private6"] + "]:80", false},
		{"the cloud's metadata service", "169.254.169.254:80", false},
		{"carrier-grade NAT (100.64.0.0/10)", "100.64.0.1:80", false},
		{"a private address by NAT64", "[64:ff9b::a4d:2]:80", false},
		{"a private address by 6to4", "[2002:a4d:2::1]:80", false},
		{"a name that resolves to a private address", "private.example.test:80", false},
	}
}

const settle = 4 * time.Second

func main() {
	if len(os.Args) > 2 && os.Args[1] == "probe" {
		probe(os.Args[2:])
		return
	}
	cove := flag.String("cove", "./cove", "the binary")
	as := flag.String("as", "dev", "the user who runs them")
	flag.Parse()
	if err := run(*cove, *as); err != nil {
		fmt.Fprintln(os.Stderr, "netcompare:", err)
		os.Exit(1)
	}
}

// probe tries each target, and prints a line of JSON with whether it answered.
func probe(addrs []string) {
	type result struct {
		i  int
		ok bool
	}
	// A network that configures itself (router advertisements, duplicate address detection) takes its time.
	time.Sleep(settle)
	results := make(chan result)
	for i, a := range addrs {
		go func() {
			c, err := net.DialTimeout("tcp", a, 4*time.Second)
			if err == nil {
				_ = c.SetDeadline(time.Now().Add(4 * time.Second))
				_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
				_, err = bufio.NewReader(c).ReadString('\n')
				c.Close()
			}
			results <- result{i, err == nil}
		}()
	}
	reached := make([]bool, len(addrs))
	for range addrs {
		r := <-results
		reached[r.i] = r.ok
	}
	_ = json.NewEncoder(os.Stdout).Encode(reached)
}

func run(cove, as string) error {
	world := map[string]string{}
	for _, f := range strings.Fields(os.Getenv("COVE_TEST_NETNS")) {
		k, v, _ := strings.Cut(f, "=")
		world[k] = v
	}
	if world["www"] == "" {
		return fmt.Errorf("it runs in testdata/netns alone")
	}
	dir, err := os.MkdirTemp("/tmp", "netcompare")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if cove, err = filepath.Abs(cove); err != nil {
		return err
	}
	// A root file system that holds this program alone serves podman.
	if out, err := exec.Command("sh", "-c", `chmod 755 "$0" && mkdir -p "$0/home" "$0/run" "$0/rootfs/etc" && cp "$1" "$0/rootfs/netcompare" && chown -R "$2": "$0" && chmod 700 "$0/run"`, dir, self, as).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	loopback, err := serve("127.0.0.1:0")
	if err != nil {
		return err
	}
	everywhere, err := serve(":0")
	if err != nil {
		return err
	}
	all := targets(world, loopback, everywhere)
	var addrs []string
	for _, t := range all {
		addrs = append(addrs, t.Addr)
	}
	probe := append([]string{dir + "/rootfs/netcompare", "probe"}, addrs...)
	inside := append([]string{"/netcompare", "probe"}, addrs...)
	podman := []string{"podman", "--cgroup-manager=cgroupfs", "--runtime", "/usr/sbin/runc", "run", "--rm", "--log-driver=none"}
	tools := []struct {
		name string
		argv []string
	}{
		{"cove", append([]string{cove, "run", "--network", "user", "-v", dir + "/rootfs:/p:ro", "--", "/p/netcompare", "probe"}, addrs...)},
		{"podman", append(append(podman, "--rootfs", dir+"/rootfs"), inside...)},
		{"slirp4netns", append([]string{"sh", "-c", slirp}, probe...)},
		{"pasta", append([]string{"pasta", "--config-net", "--"}, probe...)},
	}
	results := make([][]bool, len(tools))
	for i, t := range tools {
		if results[i], err = try(t.argv, as, dir, len(all)); err != nil {
			fmt.Fprintf(os.Stderr, "netcompare: %s: %v\n", t.name, err)
		}
	}
	fmt.Print("| what is reached |")
	for _, t := range tools {
		fmt.Printf(" %s |", t.name)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(tools)))
	for n, t := range all {
		fmt.Printf("| %s |", t.What)
		for i := range tools {
			switch {
			case results[i] == nil:
				fmt.Print(" ? |")
			case results[i][n]:
				fmt.Print(" reached |")
			default:
				fmt.Print(" - |")
			}
		}
		fmt.Println()
	}
	return nil
}

// slirp joins slirp4netns to namespaces as its manual page does, and runs its arguments there.
const slirp = `
unshare --user --map-root-user --net --mount sh -c 'echo $$ >"$HOME/pid"; while ! [ -e "$HOME/up" ]; do sleep .05; done; mount --bind "$HOME/resolv.conf" /etc/resolv.conf; exec "$0" "$@"' "$0" "$@" &
until [ -s "$HOME/pid" ]; do sleep .05; done
echo nameserver 10.0.2.3 >"$HOME/resolv.conf"
slirp4netns --configure --enable-ipv6 --mtu=65520 -r 3 "$(cat "$HOME/pid")" tap0 3>"$HOME/up.part" >/dev/null 2>&1 &
helper=$!
until [ -s "$HOME/up.part" ]; do sleep .05; done
mv "$HOME/up.part" "$HOME/up"
wait %1
kill $helper
`

func try(argv []string, as, dir string, want int) ([]bool, error) {
	u, err := user.Lookup(as)
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir + "/home"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir + "/home", "USER=" + as, "XDG_RUNTIME_DIR=" + dir + "/run"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, errs.String())
	}
	var reached []bool
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &reached); err != nil || len(reached) != want {
		return nil, fmt.Errorf("it said %q, %s", out.String(), errs.String())
	}
	return reached, nil
}

// serve answers on a port of the host's.
func serve(addr string) (port string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("host\n"))
			c.Close()
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

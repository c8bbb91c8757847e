package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// network is a sandbox's own network beside slirp4netns and pasta, from one and the same program inside to one and the same server
// outside, in a world of testdata/netns. Nothing of it needs an image.
func (b *bench) network() error {
	world := map[string]string{}
	for _, f := range strings.Fields(os.Getenv("COVE_TEST_NETNS")) {
		k, v, _ := strings.Cut(f, "=")
		world[k] = v
	}
	if world["www"] == "" {
		return fmt.Errorf("it opens ways out, and runs in testdata/netns alone (README.md has the command)")
	}
	if err := b.makeNetworks(); err != nil {
		return err
	}
	for _, part := range []func(server string) error{b.throughput, b.connections, b.held, b.firstAnswer} {
		if err := part(world["www"]); err != nil {
			return err
		}
	}
	return nil
}

// inside is a command in a network of its own.
type inside struct {
	name string
	argv func(command ...string) []string
}

// slirp4netns gets its namespace by unshare(1), and the command runs when it says that it is ready.
const slirp = `
d=$(mktemp -d) && mkfifo "$d/pid" "$d/up" || exit 1
unshare --user --map-root-user --net sh -c 'echo $$ >"$0/pid"; head -c 1 <"$0/up" >/dev/null; exec "$@"' "$d" "$@" &
read -r pid <"$d/pid"
slirp4netns --configure --mtu=65520 -r 3 "$pid" tap0 3>"$d/up" >/dev/null 2>&1 &
helper=$!
wait %1
code=$?
kill $helper
rm -r "$d"
exit $code`

func (b *bench) networks() []inside {
	return []inside{
		{"cove", func(c ...string) []string { return append([]string{b.cove, "run", "--network", "user", "--"}, c...) }},
		{"slirp4netns", func(c ...string) []string { return append([]string{"sh", "-c", slirp, "slirp"}, c...) }},
		{"pasta", func(c ...string) []string { return append([]string{"pasta", "--config-net", "-q", "--"}, c...) }},
		{"no network between", func(c ...string) []string { return c }},
	}
}

// prober is this program, where the sandbox's workspace has it.
func (b *bench) prober() string { return filepath.Join(b.work, "prober") }

func (b *bench) makeNetworks() error {
	for _, tool := range []string{"iperf3", "slirp4netns", "pasta", "podman"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w (apt-get install iperf3 slirp4netns passt podman)", err)
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "CGO_ENABLED" && s.Value == "1" }) {
		return errors.New("it runs where no library is: build it with CGO_ENABLED=0")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = install(self, b.prober())
	return err
}

// figures are what was measured, by row and network.
type figures map[string]map[string][]float64

func (f figures) add(row, name string, value float64) {
	if f[row] == nil {
		f[row] = map[string][]float64{}
	}
	f[row][name] = append(f[row][name], value)
}

// rows puts cove's median beside each peer's.
func (b *bench) rows(f figures, unit string, rows ...string) {
	for _, row := range rows {
		for _, n := range b.networks()[1:] {
			if len(f[row][n.name]) > 0 {
				b.out.add(row, unit, middle(f[row]["cove"]), n.name, middle(f[row][n.name]))
			}
		}
	}
}

// throughput is one stream of iperf3, in either direction.
func (b *bench) throughput(server string) error {
	f := figures{}
	rows := []string{"one stream out", "one stream in"}
	for range b.rounds() {
		for i, row := range rows {
			for _, n := range b.networks() {
				argv := []string{"iperf3", "-c", server, "-t", "3", "-O", "1", "-J"}
				if i == 1 {
					argv = append(argv, "-R")
				}
				out, err := b.output(n.argv(argv...))
				if err != nil {
					return fmt.Errorf("%s: %w", n.name, err)
				}
				var said struct {
					End struct {
						Received struct {
							Bits float64 `json:"bits_per_second"`
						} `json:"sum_received"`
					} `json:"end"`
				}
				if err := json.Unmarshal(out, &said); err != nil || said.End.Received.Bits == 0 {
					return fmt.Errorf("%s: iperf3 said %.300s (%v)", n.name, out, err)
				}
				f.add(row, n.name, said.End.Received.Bits/1e6)
			}
		}
	}
	b.rows(f, "Mbit/s", rows...)
	return nil
}

// connections are short: one request of HTTP each.
func (b *bench) connections(server string) error {
	f := figures{}
	for range b.rounds() {
		for _, n := range b.networks() {
			for _, kind := range []string{"rate", "latency"} {
				out, err := b.output(n.argv(b.prober(), "-probe", kind, server+":80"))
				if err != nil {
					return fmt.Errorf("%s: %w", n.name, err)
				}
				var said map[string]float64
				if err := json.Unmarshal(out, &said); err != nil {
					return fmt.Errorf("%s: %.300s: %w", n.name, out, err)
				}
				for row, value := range said {
					f.add(row, n.name, value)
				}
			}
		}
	}
	b.rows(f, "/s", rateRow)
	b.rows(f, "ms", medianRow, p99Row)
	return nil
}

// held is what idle connections cost: how long it takes to have manyHeld of them, and the resident memory of what carries each.
func (b *bench) held(server string) error {
	f := figures{}
	for range b.rounds() {
		for _, n := range b.networks()[:3] {
			opened, bytes, err := b.hold(n, server)
			if err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
			f.add("2000 connections opened", n.name, opened)
			f.add("memory for each, idle", n.name, bytes)
		}
	}
	b.rows(f, "ms", "2000 connections opened")
	b.rows(f, "bytes", "memory for each, idle")
	return nil
}

// hold measures what of the processes grows that were not there before, but the program inside. That tells by files how far it is.
func (b *bench) hold(n inside, server string) (opened, bytes float64, err error) {
	for _, name := range []string{"ready", "go", "open", "leave"} {
		if err := os.RemoveAll(filepath.Join(b.work, name)); err != nil {
			return 0, 0, err
		}
	}
	before := owned()
	argv := n.argv(b.prober(), "-probe", "hold", server+":7")
	cmd := exec.CommandContext(b.ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr = b.work, b.env(), os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = b.tell("leave")
		err = firstError(err, <-ended)
	}()
	if _, err := b.await("ready", ended); err != nil {
		return 0, 0, err
	}
	idle, err := carried(before)
	if err == nil {
		err = b.tell("go")
	}
	if err != nil {
		return 0, 0, err
	}
	said, err := b.await("open", ended)
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(2 * time.Second) // what it took for a moment is given back
	full, err := carried(before)
	if err != nil {
		return 0, 0, err
	}
	if opened, err = strconv.ParseFloat(said, 64); err != nil {
		return 0, 0, err
	}
	return opened, (full - idle) * 1024 / manyHeld, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) tell(name string) error { return os.WriteFile(filepath.Join(b.work, name), nil, 0o600) }

// await waits for a file with something in it.
func (b *bench) await(name string, ended chan error) (string, error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if data, err := os.ReadFile(filepath.Join(b.work, name)); err == nil && len(data) > 0 {
			return string(data), nil
		}
		select {
		case err := <-ended:
			ended <- err
			return "", fmt.Errorf("it ended before it was %s: %v", name, err)
		default:
		}
	}
	return "", fmt.Errorf("it was not %s within a minute", name)
}

// carried is the resident memory in kB of this user's processes that were not there before, but the program inside. Nobody may look
// at pasta's PSS, for it cannot be traced; what is shared does not grow.
func carried(before []int) (kb float64, err error) {
	for _, pid := range owned() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, rest, ok := strings.Cut(string(status), "\nVmRSS:")
		if err != nil || !ok || slices.Contains(before, pid) || strings.HasPrefix(string(status), "Name:\tprober\n") {
			continue
		}
		one, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			return 0, err
		}
		kb += one
	}
	if kb == 0 {
		return 0, fmt.Errorf("no process carries the network")
	}
	return kb, nil
}

// owned are this user's processes; the files of one that cannot be traced are root's, so that these do not tell.
func owned() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	mine := "\nUid:\t" + strconv.Itoa(os.Getuid()) + "\t"
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		status, _ := os.ReadFile(name + "/status")
		if err == nil && pid != os.Getpid() && strings.Contains(string(status), mine) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// firstAnswer is how long it takes from nothing to the first answer from outside.
func (b *bench) firstAnswer(server string) error {
	var all []command
	for _, n := range b.networks()[:3] {
		all = append(all, command{name: n.name, argv: n.argv(b.prober(), "-probe", "first", server+":80")})
	}
	root := filepath.Join(b.dir, "rootfs")
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		return err
	}
	if err := b.do("cp", b.prober(), root); err != nil {
		return err
	}
	all = append(all, command{name: "podman run (slirp4netns)", argv: b.podman("run", "--rm", "--log-driver=none", "--network=slirp4netns", "--rootfs", root, "/prober", "-probe", "first", server+":80")})
	times, err := b.race(b.few(), all...)
	if err != nil {
		return err
	}
	b.out.times("start, until the first answer", times, all)
	return nil
}

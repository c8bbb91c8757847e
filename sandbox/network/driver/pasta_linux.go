package driver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pastaTimeout bounds the start of pasta, which takes some 50 ms.
const pastaTimeout = 10 * time.Second

func attachPasta(ctx context.Context, pid int, host *host, opts Options, ifname string) (*Link, error) {
	path, err := exec.LookPath("pasta")
	if err != nil {
		return nil, &MissingError{Programs: []string{"pasta"}, Packages: []string{"passt"}}
	}
	help := pastaHelp(ctx, path)
	link := &Link{Driver: Pasta, Link: host.link(ifname, host.ipv6)}
	// Versions without --dns-host (before 2024_10) forward names over UDP alone: over TCP the address
	// would be one of the host's network.
	link.NoTCPDNS = !strings.Contains(help, "--dns-host")
	link.helper, err = start(ctx, func() (wait, stop func(), err error) {
		return startPasta(ctx, path, pastaArgs(pid, ifname, host.ipv6, help), opts.Log)
	})
	if err != nil {
		return nil, fmt.Errorf("start pasta: %w", err)
	}
	return link, nil
}

func pastaHelp(ctx context.Context, path string) string {
	cmd := exec.CommandContext(ctx, path, "--help")
	cmd.Env = []string{}
	b, _ := cmd.CombinedOutput() // some versions exit with 1
	return string(b)
}

// pastaArgs has pasta carry packets and nothing else: it configures nothing inside, forwards no
// port either way, and does not stand in for the host.
func pastaArgs(pid int, ifname string, ipv6 bool, help string) []string {
	args := []string{
		"--foreground", "--quiet",
		// Written when all is ready. A file would have to be watched; a pipe speaks up. It is
		// opened by name, so that it may be one of pasta's own descriptors.
		"--pid", "/dev/stdout",
		"--ns-ifname", ifname, "--mtu", strconv.Itoa(mtu),
		"--address", "10.0.2.100", "--netmask", "24", "--gateway", "10.0.2.2", "--dns-forward", "10.0.2.3",
		// Ports: -t and -u lead from the host in, -T and -U from the sandbox's loopback to the host's.
		"-t", "none", "-u", "none", "-T", "none", "-U", "none",
		"--no-map-gw", "--no-dhcp", "--no-dhcpv6", "--no-ra",
	}
	if strings.Contains(help, "--map-guest-addr") {
		args = append(args, "--map-guest-addr", "none") // else one more address that means the host
	}
	if ipv6 {
		args = append(args, "--address", "fd00::100", "--gateway", "fd00::2", "--dns-forward", "fd00::3")
	} else {
		args = append(args, "--ipv4-only")
	}
	if os.Geteuid() == 0 {
		// By itself it becomes nobody, who may not join a user namespace of root's. It gives up
		// all capabilities and its view of the file system once it runs.
		args = append(args, "--runas", "0:0")
	}
	return append(args, strconv.Itoa(pid))
}

// startPasta is to be called on a thread that lives as long as pasta.
func startPasta(ctx context.Context, path string, args []string, log io.Writer) (wait, stop func(), err error) {
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer readyR.Close()
	said := newTail(log)
	cmd := exec.Command(path, args...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdout = readyW
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	// A copy of stderr's pipe in pasta's own children must not hold up Wait.
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	readyW.Close() // so that pasta's end is the pipe's end
	if err != nil {
		return nil, nil, err
	}
	if err := awaitReady(ctx, readyR); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, nil, withTail(err, said)
	}
	return func() { _ = cmd.Wait() }, func() { _ = cmd.Process.Kill() }, nil
}

// awaitReady waits for a line with pasta's process id.
func awaitReady(ctx context.Context, r *os.File) error {
	deadline := time.Now().Add(pastaTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := r.SetReadDeadline(deadline); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })()
	line, err := bufio.NewReader(io.LimitReader(r, 64)).ReadString('\n')
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			return errors.New("it ended")
		}
		return fmt.Errorf("wait until it is ready: %w", err)
	}
	if _, err := strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return fmt.Errorf("it said %q instead of its process id", line)
	}
	return nil
}

func newTail(log io.Writer) *tail {
	t := &tail{}
	if log != nil {
		t.pass = func(p []byte) { _, _ = log.Write(p) }
	}
	return t
}

// withTail adds what the helper said last.
func withTail(err error, said *tail) error {
	var lines []string
	for _, l := range strings.Split(said.String(), "\n") {
		// pasta's complaint about its own complaints, where no syslog runs.
		if l = strings.TrimSpace(l); l != "" && !strings.HasSuffix(l, "bytes to syslog") {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w: it said %q", err, strings.Join(lines, "; "))
}

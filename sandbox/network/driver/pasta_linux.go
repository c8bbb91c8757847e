package driver

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"cove/sandbox/network/outside"
)

func attachPasta(ctx context.Context, pid int, host *outside.Host, opts Options, ifname string) (*Link, error) {
	path, err := opts.Find("pasta")
	if err != nil {
		return nil, &MissingError{Programs: []string{"pasta"}, Packages: []string{"passt"}}
	}
	help := pastaHelp(ctx, path)
	l := &Link{Driver: Pasta, Link: link(host, ifname, host.IPv6)}
	// Versions without --dns-host (before 2024_10) forward names over UDP alone: over TCP the address
	// would be one of the host's network.
	l.NoTCPDNS = !strings.Contains(help, "--dns-host")
	h, err := start(ctx, func() (wait, stop func(), err error) {
		args := pastaArgs(ifname, host.IPv6, help)
		cmd := exec.Command(path, append(args, strconv.Itoa(pid))...)
		wait, stop, err = run(ctx, cmd, opts.Log, func(ready *os.File) { cmd.Stdout = ready }, isPid)
		if err == nil || !strings.Contains(err.Error(), noUserNS) {
			return wait, stop, err
		}
		return runWithNamespaces(ctx, path, args, pid, opts)
	})
	if err != nil {
		return nil, fmt.Errorf("start pasta: %w", err)
	}
	l.helped(h)
	return l, nil
}

// noUserNS is what pasta says in Debian 12, where its AppArmor profile forgot that it must be allowed
// to look into another process before it can open that one's namespaces.
const noUserNS = "Couldn't open user namespace"

// runWithNamespaces starts pasta with the namespaces of pid opened for it. Not so in the first place:
// versions from 2024_08 on close every descriptor that they were given.
func runWithNamespaces(ctx context.Context, path string, args []string, pid int, opts Options) (wait, stop func(), err error) {
	user, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, nil, err
	}
	defer user.Close()
	net, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, nil, err
	}
	defer net.Close()
	// There is no name of the namespace to watch for its end; we end pasta ourselves.
	args = append(args, "--no-netns-quit", "--userns", "/proc/self/fd/3", "--netns", "/proc/self/fd/4")
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = []*os.File{user, net}
	return run(ctx, cmd, opts.Log, func(ready *os.File) { cmd.Stdout = ready }, isPid)
}

func pastaHelp(ctx context.Context, path string) string {
	cmd := exec.CommandContext(ctx, path, "--help")
	cmd.Env = []string{}
	b, _ := cmd.CombinedOutput() // some versions exit with 1
	return string(b)
}

// pastaArgs has pasta carry packets and nothing else: it configures nothing inside, forwards no
// port either way, and does not stand in for the host.
func pastaArgs(ifname string, ipv6 bool, help string) []string {
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
	return args
}

// isPid tells whether pasta's word is a line with its process id.
func isPid(said string) bool {
	line, whole := strings.CutSuffix(said, "\n")
	_, err := strconv.Atoi(line)
	return whole && err == nil
}

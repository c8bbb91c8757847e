package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// packages are Debian's names of everything that is measured, or prepares it.
var packages = []string{"bubblewrap", "podman", "runc", "crun", "skopeo", "umoci", "docker-registry", "mmdebstrap", "uidmap", "util-linux",
	"slirp4netns", "passt", "fuse-overlayfs", "iperf3", "iproute2", "git", "tar"}

// asRoot does what takes root, and measures as an ordinary user: it installs what is missing, makes the images while there is
// a way out, and begins anew in testdata/netns. There it runs a server of iperf3 outside and empties the page cache on demand.
func asRoot(ctx context.Context, o options) error {
	if os.Getuid() != 0 {
		return errors.New("-as is for root")
	}
	who, err := newOrdinary(o.user)
	if err != nil {
		return err
	}
	if o.dir == "" {
		o.dir = defaultDir(who.uid)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := o.chosen(); err != nil {
		return err
	}
	outside := os.Getenv("COVE_TEST_OUTSIDE")
	if outside != "" {
		return who.measure(ctx, self, o, outside)
	}
	if err := installPackages(ctx); err != nil {
		return err
	}
	prepare := o
	prepare.only, prepare.readme = "prepare", ""
	if err := who.command(ctx, self, prepare.args()...).Run(); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	if o.only == "prepare" {
		return nil
	}
	cmd := exec.CommandContext(ctx, o.world, append(append([]string{self}, o.args()...), "-as", o.user)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// args are the options as another bench is given them.
func (o options) args() []string {
	return []string{"-cove", o.cove, "-dir", o.dir, "-n", strconv.Itoa(o.runs), "-pulls", strconv.Itoa(o.pulls), "-only", o.only, "-mirror", o.mirror, "-readme", o.readme}
}

// installPackages installs what is missing.
func installPackages(ctx context.Context) error {
	var missing []string
	for _, p := range packages {
		status, _ := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", p).Output()
		if string(status) != "installed" {
			missing = append(missing, p)
		}
	}
	if missing == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "bench: installing", strings.Join(missing, " "))
	for _, args := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

// ordinary is the user who measures.
type ordinary struct {
	uid, gid   int
	name, home string
}

func newOrdinary(name string) (*ordinary, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	who := &ordinary{name: name, home: u.HomeDir}
	if who.uid, err = strconv.Atoi(u.Uid); err != nil {
		return nil, err
	}
	if who.gid, err = strconv.Atoi(u.Gid); err != nil {
		return nil, err
	}
	if who.uid == 0 {
		return nil, errors.New("-as is an ordinary user, for that is who cove is for")
	}
	return who, nil
}

// command is one of the user's own, with nothing of root's environment but where programs and proxies are.
func (u *ordinary) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}}
	cmd.Env = []string{"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name, "LANG=C.UTF-8"}
	for _, name := range []string{"PATH", "TERM", "http_proxy", "https_proxy", "no_proxy", "COVE_TEST_NETNS"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	if run := filepath.Join("/run/user", strconv.Itoa(u.uid)); isDir(run) {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+run)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// measure is inside testdata/netns.
func (u *ordinary) measure(ctx context.Context, self string, o options, outside string) error {
	server := exec.CommandContext(ctx, "nsenter", "-t", outside, "-n", "iperf3", "-s")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()

	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "drop"), os.NewFile(uintptr(ends[1]), "drop")
	defer ours.Close()
	readme := o.readme // root's to write: the user may not
	o.readme = ""
	cmd := u.command(ctx, self, append(o.args(), "-drop", "3")...)
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	go dropOnDemand(ours)
	if err := cmd.Wait(); err != nil || readme == "" {
		return err
	}
	o.readme = readme
	return (&bench{options: o}).writeReadme()
}

// dropOnDemand writes what is dirty and empties the page cache (proc(5), drop_caches) whenever it is asked to.
func dropOnDemand(asked *os.File) {
	one := make([]byte, 1)
	for {
		if _, err := asked.Read(one); err != nil {
			return
		}
		syscall.Sync()
		one[0] = 'y'
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			one[0] = 'n'
		}
		if _, err := asked.Write(one); err != nil {
			return
		}
	}
}

// dropCaches asks for it.
func (b *bench) dropCaches() error {
	answer := []byte{'?'}
	if _, err := syscall.Write(b.drop, answer); err != nil {
		return fmt.Errorf("ask for an empty page cache: %w", err)
	}
	if _, err := syscall.Read(b.drop, answer); err != nil || answer[0] != 'y' {
		return fmt.Errorf("the page cache was not emptied (%v)", err)
	}
	return nil
}

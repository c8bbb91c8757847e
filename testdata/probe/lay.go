package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// words is a flag that may be given again and again.
type words []string

func (w *words) String() string     { return strings.Join(*w, ",") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// trap is the bait as it lies on the host, and how to take it away again.
type trap struct {
	bait
	base   string // folder of everything
	probe  string // this program, in the folder that the sandbox is given
	at     string // where that folder is inside
	env    []string
	files  []*os.File
	stdin  *os.File
	tty    *os.File // the master, when the tool gets a terminal
	keys   []int
	undo   []func()
	stderr bytes.Buffer
	sum    [32]byte
	mounts string
}

func lay(args []string) int {
	flags := flag.NewFlagSet("lay", flag.ExitOnError)
	var grants words
	flags.Var(&grants, "grant", "what the tool was asked to give: network=host, network=user, single-id, renamed, protected (may be given again)")
	work := flags.String("work", "", "the folder that the sandbox is given, instead of a new one")
	at := flags.String("at", "", "where that folder is inside; the same path by default")
	tty := flags.Bool("tty", false, "run the tool on a terminal")
	asJSON := flags.Bool("json", false, "print every result as JSON; otherwise only what is open, and a count")
	partner := flags.Bool("partner", false, "start the tool twice on the same folder, and let the two co-operate")
	profile := flags.String("profile", "", "write this `TEXT`, a space at least, into the folder's cove.toml, with the attempt as its command")
	verbose := flags.Bool("v", false, "print every result")
	expect := flags.String("expect", "", "names of checks, with commas, that are open and have to be")
	_ = flags.Parse(args)
	argv := flags.Args()
	if len(argv) == 0 {
		usage()
	}
	runtime.LockOSThread() // personality, keyring and signal mask are the thread's, and a child has those of the thread that made it
	t := &trap{}
	t.Grants = grants
	if *tty {
		t.Grants = append(t.Grants, "tty")
	}
	if *partner {
		t.Grants = append(t.Grants, "partner")
	}
	defer t.clear()
	if err := t.set(*work, *at, argv[0], *tty); err != nil {
		fmt.Fprintln(os.Stderr, "probe: lay:", err)
		return 2
	}
	text, _ := json.Marshal(t.bait)
	try := []string{t.at + "/probe", "try", "--json", "--bait", string(text)}
	if *profile != "" {
		command, _ := json.Marshal(try)
		if err := os.WriteFile(filepath.Join(t.workdir(), "cove.toml"), []byte("command = "+string(command)+"\n"+*profile+"\n"), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "probe: lay:", err)
			return 2
		}
	}
	var second *exec.Cmd
	if *partner {
		second = exec.Command(argv[0], t.fill(argv[1:], []string{t.at + "/probe", "receive", t.at + "/partner", string(text)})...)
		second.Dir, second.Env, second.Stderr = t.workdir(), t.env, os.Stderr
		if err := second.Start(); err != nil {
			fmt.Fprintln(os.Stderr, "probe: lay:", err)
			return 2
		}
		defer func() { _ = second.Process.Kill(); _ = second.Wait() }()
	}
	results, err := t.run(argv[0], t.fill(argv[1:], try))
	if second != nil {
		_ = second.Process.Signal(unix.SIGTERM)
		_ = second.Wait()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe: lay: %s: %v\n%s", strings.Join(argv, " "), err, t.stderr.String())
		return 2
	}
	results = append(results, t.judge()...)
	return report(results, *asJSON, *verbose, *expect)
}

func report(results []result, asJSON, verbose bool, expect string) int {
	count := map[string]int{}
	var wrong []string
	expected := strings.FieldsFunc(expect, func(r rune) bool { return r == ',' })
	for _, r := range results {
		count[r.Verdict]++
		if r.Verdict == Open != slices.Contains(expected, r.Name) {
			wrong = append(wrong, r.Name)
		}
		if asJSON || verbose || r.Verdict == Open {
			show(os.Stdout, r, asJSON)
		}
	}
	if !asJSON {
		fmt.Printf("%d checks: %d held, %d open, %d granted, %d could not be tried\n", len(results), count[Held], count[Open], count[Granted], count[Cannot])
	}
	if len(results) < 200 {
		fmt.Fprintf(os.Stderr, "probe: only %d checks came back\n", len(results))
		return 1
	}
	if len(wrong) > 0 {
		return 1
	}
	return 0
}

// workdir is the sandbox's folder, as it is called outside.
func (t *trap) workdir() string { return filepath.Dir(t.probe) }

// fill replaces @TRY@ by the attempt's argv, @WORK@ by its folder, and @ROOT@ by a root file system made for it.
func (t *trap) fill(argv, try []string) []string {
	var out []string
	for _, a := range argv {
		if a == "@TRY@" {
			out = append(out, try...)
			continue
		}
		if strings.Contains(a, "@ROOT@") {
			a = strings.ReplaceAll(a, "@ROOT@", t.root())
		}
		out = append(out, strings.ReplaceAll(a, "@WORK@", t.workdir()))
	}
	return out
}

// root makes a root file system that holds nothing but what every image has, and a setuid program.
func (t *trap) root() string {
	root := filepath.Join(t.base, "root")
	if exists(root) {
		return root
	}
	defer unix.Umask(unix.Umask(0o022))
	for _, dir := range []string{"etc", "tmp", "proc", "sys", "dev", "run", "root", "usr/bin", "work"} {
		_ = os.MkdirAll(filepath.Join(root, dir), 0o755)
	}
	_ = os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky)
	_ = os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"), 0o644)
	_ = os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\n"), 0o644)
	copyFile("/proc/self/exe", filepath.Join(root, "suid-probe"))
	_ = os.Chmod(filepath.Join(root, "suid-probe"), 0o755|os.ModeSetuid)
	return root
}

func copyFile(from, to string) {
	in, err := os.Open(from)
	if err != nil {
		return
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return
	}
	defer out.Close()
	_, _ = io.Copy(out, in)
	_ = out.Chmod(0o755)
}

// set puts the bait out.
func (t *trap) set(work, at, toolName string, tty bool) error {
	toolPath, err := exec.LookPath(toolName)
	if err != nil {
		return err
	}
	if t.Tool, err = filepath.EvalSymlinks(toolPath); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(t.Tool, &st); err != nil {
		return err
	}
	t.ToolFile = [2]uint64{st.Dev, st.Ino}
	t.sum = sumOf(t.Tool)
	word := make([]byte, 6)
	_, _ = rand.Read(word)
	t.Marker, t.UID = "probe-outside-"+hex.EncodeToString(word), os.Getuid()
	if t.base, err = os.MkdirTemp("", t.Marker+"-"); err != nil {
		return err
	}
	t.undo = append(t.undo, func() { _ = os.RemoveAll(t.base) })
	_ = os.Chmod(t.base, 0o755)
	if work == "" {
		work = filepath.Join(t.base, "work")
		if err := os.Mkdir(work, 0o755); err != nil {
			return err
		}
	} else if work, err = filepath.Abs(work); err != nil {
		return err
	}
	t.probe, t.at = filepath.Join(work, "probe"), at
	if at == "" {
		t.at = work
	} else {
		t.Grants = append(t.Grants, "renamed")
	}
	t.Work = t.at
	copyFile("/proc/self/exe", t.probe)
	if t.grants("protected") {
		_ = os.MkdirAll(filepath.Join(work, ".git/hooks"), 0o755)
		_ = os.WriteFile(filepath.Join(work, ".git/config"), nil, 0o644)
		_ = os.WriteFile(filepath.Join(work, "cove.toml"), nil, 0o644)
	}
	t.env = append(os.Environ(), envName+"="+t.Marker, "DISPLAY=:77", "WAYLAND_DISPLAY=wayland-77", "SSH_AUTH_SOCK="+t.base+"/agent",
		"DBUS_SESSION_BUS_ADDRESS=unix:path="+t.base+"/bus", "GPG_AGENT_INFO="+t.base+"/gpg:1:1", "XAUTHORITY="+t.base+"/xauth")
	for _, step := range []func() error{t.layProcess, t.layFiles, t.laySockets, t.layIPC, t.layKeys, t.layDescriptors} {
		if err := step(); err != nil {
			return err
		}
	}
	if tty {
		return t.layTerminal()
	}
	return nil
}

func (t *trap) layProcess() error {
	stand := exec.Command("/proc/self/exe", "stand", t.Marker)
	stand.Env = t.env
	stand.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := stand.Start(); err != nil {
		return err
	}
	t.PID = stand.Process.Pid
	t.undo = append(t.undo, func() { _ = stand.Process.Kill(); _ = stand.Wait() })
	t.NS = map[string]string{}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		t.NS[ns] = readlink("/proc/self/ns/" + ns)
	}
	t.Hostname, _ = os.Hostname()
	text, _ := os.ReadFile("/proc/self/oom_score_adj")
	_, _ = fmt.Sscan(string(text), &t.OOM)
	t.mounts = hostMounts()
	return nil
}

// layFiles leaves secrets where a user's lie.
func (t *trap) layFiles() error {
	dirs := []string{t.base, "/tmp", "/var/tmp", "/dev/shm", os.Getenv("HOME"), os.Getenv("XDG_RUNTIME_DIR"), os.Getenv("XDG_DATA_HOME"), os.Getenv("XDG_CONFIG_HOME")}
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if dir := os.Getenv(name); strings.Count(dir, "/") > 1 {
			t.Dirs = append(t.Dirs, dir)
		}
	}
	if t.UID == 0 {
		dirs = append(dirs, "/root", "/run", "/srv", "/mnt", "/media", "/home", "/boot")
	}
	for _, dir := range dirs {
		if dir == "" || strings.HasPrefix(dir, t.workdir()+"/") {
			continue
		}
		name := filepath.Join(dir, "."+t.Marker)
		// Everybody may read them: what keeps the sandbox from doing so is the sandbox.
		if os.WriteFile(name, []byte(secret+"\n"), 0o644) == nil {
			_ = os.Chmod(name, 0o644)
			t.Files = append(t.Files, name)
			t.undo = append(t.undo, func() { _ = os.Remove(name) })
		}
	}
	return nil
}

func (t *trap) laySockets() error {
	listen := func(name string) error {
		l, err := net.Listen("unix", name)
		if err != nil {
			return err
		}
		t.undo = append(t.undo, func() { l.Close() })
		return nil
	}
	names := []string{t.base + "/agent", t.base + "/bus", t.base + "/gpg", "/tmp/.X11-unix/X77"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		names = append(names, dir+"/wayland-77", dir+"/pipewire-77")
	}
	_ = os.Mkdir("/tmp/.X11-unix", 0o777|os.ModeSticky)
	for _, name := range names {
		_ = os.Remove(name)
		if listen(name) == nil {
			_ = os.Chmod(name, 0o777)
			t.Sockets = append(t.Sockets, name)
		}
	}
	t.Sockets = append(t.Sockets, "/run/dbus/system_bus_socket", "/run/docker.sock", "/run/podman/podman.sock", "/run/systemd/private", "/run/systemd/journal/socket", "/dev/log")
	t.Abstract = t.Marker
	if err := listen("@" + t.Abstract); err != nil {
		return err
	}
	dgram, err := net.ListenPacket("unixgram", "@"+t.Abstract+"-dgram")
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", ":0")
	if err != nil {
		return err
	}
	t.Port = tcp.Addr().(*net.TCPAddr).Port
	udp, err := net.ListenPacket("udp", fmt.Sprintf(":%d", t.Port))
	if err != nil {
		return err
	}
	t.undo = append(t.undo, func() { dgram.Close(); tcp.Close(); udp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, secret)
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 100)
		for {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte(secret), from)
		}
	}()
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			t.Addresses = append(t.Addresses, ip.IP.String())
		}
	}
	return nil
}

func (t *trap) layIPC() error {
	word := make([]byte, 3)
	_, _ = rand.Read(word)
	t.ShmKey = 0x10000000 | int(word[0])<<16 | int(word[1])<<8 | int(word[2])
	id, _, errno := unix.Syscall(unix.SYS_SHMGET, uintptr(t.ShmKey), 4096, unix.IPC_CREAT|0o666)
	if errno != 0 {
		return errno
	}
	t.ShmID = int(id)
	sem, _, _ := unix.Syscall(unix.SYS_SEMGET, uintptr(t.ShmKey), 1, unix.IPC_CREAT|0o666)
	msg, _, _ := unix.Syscall(unix.SYS_MSGGET, uintptr(t.ShmKey), unix.IPC_CREAT|0o666, 0)
	t.Queue = t.Marker
	name, _ := unix.BytePtrFromString(t.Queue)
	queue, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_CREAT|unix.O_RDWR, 0o666, 0, 0, 0)
	t.undo = append(t.undo, func() {
		_ = call(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0)
		_ = call(unix.SYS_SEMCTL, sem, 0, unix.IPC_RMID)
		_ = call(unix.SYS_MSGCTL, msg, unix.IPC_RMID, 0)
		if errno == 0 {
			unix.Close(int(queue))
			_ = call(unix.SYS_MQ_UNLINK, uintptr(unsafe.Pointer(name)))
		}
	})
	lock, err := os.Create(filepath.Join(t.base, "lock"))
	if err != nil {
		return err
	}
	t.files = append(t.files, lock)
	var st unix.Stat_t
	_ = unix.Fstat(int(lock.Fd()), &st)
	t.LockInode = st.Ino
	return unix.Flock(int(lock.Fd()), unix.LOCK_EX)
}

func (t *trap) layKeys() error {
	// A keyring without a name: package unix's function wants one.
	switch errno := call(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0); errno {
	case 0:
	case unix.ENOSYS, unix.EPERM, unix.EDQUOT:
		fmt.Fprintln(os.Stderr, "probe: lay: no key could be put out:", errno)
		return nil
	default:
		return errno
	}
	for ring, id := range map[int]*int{unix.KEY_SPEC_SESSION_KEYRING: &t.SessionKey, unix.KEY_SPEC_USER_KEYRING: &t.Key} {
		n, err := unix.AddKey("user", keyName, []byte(secret), ring)
		if err != nil {
			return fmt.Errorf("add a key: %w", err)
		}
		*id = n
		_, _ = unix.KeyctlInt(unix.KEYCTL_SETPERM, n, 0x3f3f0000, 0, 0)
		t.undo = append(t.undo, func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, n, ring, 0, 0) })
	}
	// So that who searches the session finds the user's keys, as after a login (pam_keyinit(8)).
	_, _ = unix.KeyctlInt(unix.KEYCTL_LINK, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_SESSION_KEYRING, 0, 0)
	return nil
}

// layDescriptors opens what a careless caller would leave open, and changes what it would leave changed.
func (t *trap) layDescriptors() error {
	name := filepath.Join(t.base, "stdin")
	if err := os.WriteFile(name, []byte(secret+"\n"), 0o666); err != nil {
		return err
	}
	var err error
	if t.stdin, err = os.Open(name); err != nil {
		return err
	}
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	file, err := os.Open(t.Files[0])
	if err != nil {
		return err
	}
	t.files = append(t.files, t.stdin, root, file)
	// Far up too, where nobody looks.
	for _, far := range []int{100, 1000} {
		if _, err := unix.FcntlInt(root.Fd(), unix.F_DUPFD, far); err != nil {
			return err
		}
	}
	unix.Umask(0o077)
	signal.Ignore(unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP)
	blocked := uint64(1)<<(unix.SIGUSR1-1) | 1<<(unix.SIGWINCH-1) | 1<<(unix.SIGALRM-1)
	_ = call(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&blocked)), 0, 8)
	_ = call(unix.SYS_PERSONALITY, 0x0040000)
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: coreMax(), Max: coreMax()})
	return nil
}

func coreMax() uint64 {
	var l unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &l)
	return l.Max
}

// layTerminal is the caller's own terminal, with a setting that can be told from all others.
func (t *trap) layTerminal() error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	_ = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 32000})
	t.tty, t.stdin = master, slave
	t.undo = append(t.undo, func() { master.Close(); slave.Close() })
	return nil
}

// run runs the tool and reads the results that the program inside writes.
func (t *trap) run(name string, args []string) ([]result, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.ExtraFiles = t.workdir(), t.env, t.stdin, t.files
	var out io.Reader
	if t.tty != nil {
		cmd.Stdout, cmd.Stderr = t.stdin, t.stdin
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		out = t.tty
	} else {
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		cmd.Stderr, out = &t.stderr, pipe
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var results []result
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var r result
			line := strings.TrimSpace(lines.Text())
			if json.Unmarshal([]byte(line), &r) == nil && r.Name != "" {
				results = append(results, r)
			} else if line != "" {
				fmt.Fprintln(&t.stderr, line)
			}
		}
	}()
	if t.tty == nil {
		<-read
	}
	err := cmd.Wait()
	if t.tty != nil {
		select {
		case <-read:
		case <-time.After(500 * time.Millisecond): // our own slave is open still: no end is seen
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("no result: %v", err)
	}
	return results, nil
}

// judge looks at the host when it is over.
func (t *trap) judge() []result {
	var out []result
	add := func(name, wrong, right string) {
		if wrong != "" {
			out = append(out, result{name, after, Open, wrong})
			return
		}
		out = append(out, result{name, after, Held, right})
	}
	if err := unix.Kill(t.PID, 0); err != nil {
		add("after-process", "the host's process is gone", "")
	} else {
		add("after-process", "", "the host's process lives")
	}
	wrong := ""
	for _, name := range append(slices.Clone(t.Files), t.base+"/stdin") {
		if text, err := os.ReadFile(name); err != nil || string(text) != secret+"\n" {
			wrong = name + " was changed"
		}
	}
	add("after-files", wrong, "the host's files are as they were")
	wrong = ""
	if sumOf(t.Tool) != t.sum {
		wrong = t.Tool + " was changed"
	}
	add("after-tool", wrong, "the tool's file is as it was")
	wrong = ""
	if name, _ := os.Hostname(); name != t.Hostname {
		wrong = name
	}
	add("after-hostname", wrong, "the host's name is as it was")
	wrong = ""
	for _, pattern := range []string{"/usr/probe-*", "/usr/bin/probe-*", "/etc/probe-*", "/tmp/probe-copy", "/tmp/probe-link", "/dev/shm/probe-copy", "/dev/probe-*"} {
		if names, _ := filepath.Glob(pattern); len(names) > 0 {
			wrong = names[0]
		}
	}
	add("after-new-files", wrong, "no new file lies about outside")
	add("after-left-processes", t.left(), "within a second no process was left")
	wrong = ""
	for name := range strings.SplitSeq(hostMounts(), "\n") {
		// Others may mount what they like meanwhile.
		if !strings.Contains("\n"+t.mounts+"\n", "\n"+name+"\n") && (t.namesHost(name) || strings.HasPrefix(name, t.workdir())) {
			wrong = name
		}
	}
	add("after-left-mounts", wrong, "no mount was left")
	if t.tty != nil {
		// What was typed by somebody else waits to be read here.
		n, _ := unix.IoctlGetInt(int(t.stdin.Fd()), unix.TIOCINQ)
		wrong = ""
		if n > 0 {
			wrong = fmt.Sprintf("%d bytes were typed into the caller's terminal", n)
		}
		add("after-terminal", wrong, "nothing was typed into the caller's terminal")
	}
	return out
}

// left names a process of the sandbox that is still there a second after the tool's end.
func (t *trap) left() string {
	deadline := time.Now().Add(time.Second)
	for {
		found := ""
		for _, pid := range pids() {
			line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if bytes.Contains(line, []byte(t.Marker)) && !bytes.Contains(line, []byte("stand\x00")) && !bytes.Contains(line, []byte("\x00receive\x00")) &&
				!bytes.Contains(line, []byte("\x00lay\x00")) {
				found = fmt.Sprintf("process %s: %.60q", pid, line)
			}
		}
		if found == "" || time.Now().After(deadline) {
			return found
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (t *trap) clear() {
	for _, f := range slices.Backward(t.undo) {
		f()
	}
}

func sumOf(name string) (sum [32]byte) {
	f, err := os.Open(name)
	if err != nil {
		return sum
	}
	defer f.Close()
	h := sha256.New()
	_, _ = io.Copy(h, f)
	copy(sum[:], h.Sum(nil))
	return sum
}

func hostMounts() string {
	var names []string
	for _, m := range mounts() {
		names = append(names, m.point)
	}
	return strings.Join(names, "\n")
}

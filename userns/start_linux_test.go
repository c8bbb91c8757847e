package userns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// The stages of these tests, by argv[0] as everywhere.
const (
	lookStage   = "test-look"   // tells what it sees of itself
	parentStage = "test-parent" // starts a look stage and says its pid, then waits to be killed
)

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case lookStage:
		os.Exit(look())
	case parentStage:
		os.Exit(parent())
	}
	os.Exit(m.Run())
}

// seen is what a stage finds.
type seen struct {
	UIDMap, GIDMap, Setgroups string
	Environ                   string
	FDs                       []string
	CapEff, Groups            string
	UID, PID                  int
	Cwd                       string
}

func look() int {
	conn, err := fdpass.FromFD(ConnFD)
	if err != nil {
		return 3
	}
	for {
		var question string
		files, err := conn.Recv(&question)
		if err != nil {
			return 4
		}
		for _, f := range files {
			f.Close()
		}
		if err := conn.Send(lookAround()); err != nil {
			return 5
		}
	}
}

func lookAround() seen {
	read := func(name string) string {
		b, _ := os.ReadFile(name)
		return string(b)
	}
	s := seen{UIDMap: read("/proc/self/uid_map"), GIDMap: read("/proc/self/gid_map"), Setgroups: read("/proc/self/setgroups"),
		Environ: read("/proc/self/environ"), UID: os.Getuid(), PID: os.Getpid()}
	s.Cwd, _ = os.Getwd()
	for _, line := range strings.Split(read("/proc/thread-self/status"), "\n") {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "CapEff":
			s.CapEff = strings.TrimSpace(value)
		case "Groups":
			s.Groups = strings.TrimSpace(value)
		}
	}
	names, _ := os.ReadDir("/proc/self/fd")
	for _, e := range names {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			s.FDs = append(s.FDs, e.Name()+" "+to)
		}
	}
	return s
}

// parent starts a stage, so that the test can kill it and see what becomes of the stage.
func parent() int {
	c, err := Start(context.Background(), Config{Stage: lookStage, IDMap: Single(uint32(os.Getuid()), uint32(os.Getgid()), 0, 0)})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(c.Pid())
	select {}
}

// ranges is a mapping with more than one id, as this user may have it here.
func ranges(t *testing.T) IDMap {
	t.Helper()
	if os.Getuid() == 0 {
		r := []SubRange{{Start: 300000, Count: 65536}}
		m, err := AllocateRoot(SubIDs{UIDs: r, GIDs: r})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := ReadSubIDs(me.Username, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Allocate(sub, uint32(os.Getuid()), uint32(os.Getgid()), 0, 0)
	if _, _, herr := Helpers(); err != nil || herr != nil {
		lacks(t, errors.Join(err, herr))
	}
	return m
}

func lacks(t *testing.T, why any) {
	t.Helper()
	if os.Getenv("COVE_TEST_REQUIRE") != "" {
		t.Fatalf("COVE_TEST_REQUIRE is set, and this machine lacks it: %v", why)
	}
	t.Skipf("this machine lacks it: %v", why)
}

func startLook(t *testing.T, cfg Config) *Child {
	t.Helper()
	cfg.Stage = lookStage
	c, err := Start(context.Background(), cfg)
	var no *NamespaceError
	if errors.As(err, &no) {
		lacks(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		_, _ = c.Wait()
		c.Conn.Close()
	})
	return c
}

func ask(t *testing.T, c *Child) seen {
	t.Helper()
	if err := c.Conn.Send("?"); err != nil {
		t.Fatal(err)
	}
	var s seen
	if _, err := c.Conn.Recv(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func mapText(file string) string { return strings.Join(strings.Fields(file), " ") }

func TestStart(t *testing.T) {
	// What a careless caller leaves open, without close-on-exec.
	for _, name := range []string{"/etc/hostname", "/"} {
		fd, err := unix.Open(name, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	t.Setenv("COVE_SECRET", "leaks")
	m := ranges(t)
	c := startLook(t, Config{IDMap: m, Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS})
	s := ask(t, c)
	want := mapText(lines(m.UIDs))
	if mapText(s.UIDMap) != want {
		t.Errorf("uid_map %q, want %q", s.UIDMap, want)
	}
	if want := mapText(lines(m.GIDs)); mapText(s.GIDMap) != want {
		t.Errorf("gid_map %q, want %q", s.GIDMap, want)
	}
	if s.Environ != "" {
		t.Errorf("environment %q", s.Environ)
	}
	if s.PID != 1 || s.Cwd != "/" {
		t.Errorf("pid %d, working directory %q", s.PID, s.Cwd)
	}
	known, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Fatal(err)
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(known)))
	if err != nil {
		t.Fatal(err)
	}
	if all := uint64(1)<<uint(last+1) - 1; s.CapEff != fmt.Sprintf("%016x", all) {
		t.Errorf("effective capabilities %s, want %016x", s.CapEff, all)
	}
	for _, fd := range s.FDs {
		n, to, _ := strings.Cut(fd, " ")
		switch {
		case n == "0" || n == "1" || n == "2":
			if to != "/dev/null" {
				t.Errorf("descriptor %s", fd)
			}
		case n == "3" && strings.HasPrefix(to, "socket:"):
		case strings.HasPrefix(to, "anon_inode:"), strings.HasPrefix(to, "/proc/"), strings.HasPrefix(to, "/sys/fs/cgroup/"):
			// the Go runtime's own, and the look itself
		default:
			t.Errorf("inherited descriptor %s", fd)
		}
	}
}

func TestStartSingle(t *testing.T) {
	m := Single(uint32(os.Getuid()), uint32(os.Getgid()), 7, 8)
	s := ask(t, startLook(t, Config{IDMap: m}))
	if want := fmt.Sprintf("7 %d 1", os.Getuid()); mapText(s.UIDMap) != want || s.UID != 7 {
		t.Errorf("uid_map %q, uid %d, want %q", s.UIDMap, s.UID, want)
	}
	if os.Getuid() != 0 && strings.TrimSpace(s.Setgroups) != "deny" {
		t.Errorf("setgroups %q", s.Setgroups)
	}
}

func TestStartFiles(t *testing.T) {
	f, err := os.Open("/etc/hostname")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := ask(t, startLook(t, Config{IDMap: Single(uint32(os.Getuid()), uint32(os.Getgid()), 0, 0), Files: []*os.File{f}}))
	if got := strings.Join(s.FDs, ", "); !strings.Contains(got, "4 /etc/hostname") {
		t.Errorf("descriptors %s", got)
	}
}

// A stage must not outlive what started it, however that ends.
func TestStageDiesWithParent(t *testing.T) {
	for i := range 5 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{parentStage}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		pid, aerr := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || aerr != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			lacks(t, line)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		deadline := time.Now().Add(5 * time.Second)
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("stage %d outlives its parent", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// alive reports whether that process runs and is a stage of ours.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.HasPrefix(string(b), lookStage)
}

// The signal belongs to the parent's thread: goroutines that come and go must not end the stage.
func TestStageOutlivesThreads(t *testing.T) {
	c := startLook(t, Config{IDMap: Single(uint32(os.Getuid()), uint32(os.Getgid()), 0, 0)})
	for range 20 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		}()
		<-done
	}
	ask(t, c)
}

func TestStartWithoutHelper(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes the maps itself")
	}
	m := ranges(t)
	t.Setenv("PATH", t.TempDir())
	if _, err := Start(context.Background(), Config{Stage: lookStage, IDMap: m}); !errors.Is(err, ErrNoHelper) {
		t.Errorf("error %v", err)
	}
	noStages(t)
}

func TestStartHelperRefuses(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes the maps itself")
	}
	ranges(t)
	theirs := IDMap{UIDs: []Range{{0, 1, 10}}, GIDs: []Range{{0, 1, 10}}}
	_, err := Start(context.Background(), Config{Stage: lookStage, IDMap: theirs})
	var refused *HelperError
	if !errors.As(err, &refused) || refused.Text == "" {
		t.Errorf("error %v", err)
	}
	noStages(t)
}

// noStages makes sure that an error left nothing running.
func noStages(t *testing.T) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		return
	}
	for _, pid := range strings.Fields(string(children)) {
		if n, _ := strconv.Atoi(pid); alive(n) {
			t.Errorf("stage %s still runs", pid)
		}
	}
}

// A security module answers clone(2) with what execve(2) says of a file that may not be run.
func TestStartForbidden(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var no *NamespaceError
	if err := startError(exe, unix.EACCES); !errors.As(err, &no) || !errors.Is(err, unix.EACCES) {
		t.Errorf("%v", err)
	}
	if err := startError("/proc/version", unix.EACCES); errors.As(err, &no) || !errors.Is(err, unix.EACCES) {
		t.Errorf("%v", err)
	}
}

// With no user namespace left to make, the error says what the kernel said. The limit is that of a
// namespace of our own, in which this test runs once more.
func TestStartAtTheLimit(t *testing.T) {
	if os.Getenv("COVE_TEST_LIMITED") != "" {
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			fmt.Println("cannot:", err)
			return
		}
		_, err := Start(context.Background(), Config{Stage: lookStage, IDMap: Single(0, 0, 0, 0)})
		var no *NamespaceError
		fmt.Println("limited:", errors.As(err, &no) && errors.Is(err, unix.ENOSPC), err)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestStartAtTheLimit$")
	cmd.Env = append(os.Environ(), "COVE_TEST_LIMITED=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		lacks(t, err)
	}
	if strings.Contains(string(out), "cannot:") {
		lacks(t, string(out))
	}
	if !strings.Contains(string(out), "limited: true create user namespace: ") {
		t.Errorf("%s", out)
	}
}

// A binary that was replaced while it ran must not be started as a stage.
func TestExecutableReplaced(t *testing.T) {
	if os.Getenv("COVE_TEST_REPLACED") != "" {
		_, err := executable()
		fmt.Println("replaced:", err)
		return
	}
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(file, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	// The same path, another file: what an upgrade does.
	const upgrade = `exec 3<"$0"; cp "$0" "$0.new"; mv "$0.new" "$0"; exec /proc/self/fd/3 -test.run='^TestExecutableReplaced$'`
	cmd := exec.Command("sh", "-c", upgrade, file)
	cmd.Env = append(os.Environ(), "COVE_TEST_REPLACED=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "replaced: ") || strings.Contains(string(out), "replaced: <nil>") {
		t.Errorf("%s", out)
	}
}

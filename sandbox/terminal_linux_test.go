package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pty of the test's own, as the caller's.
type terminal struct {
	master *os.File
	slave  *os.File

	mu   sync.Mutex
	seen bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if n, err = unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{master: master, slave: slave}
	t.Cleanup(func() { slave.Close(); master.Close() })
	go func() { _, _ = io.Copy(term, master) }()
	return term
}

func (term *terminal) Write(p []byte) (int, error) {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.seen.Write(p)
}

// await waits until the terminal has shown text, and returns all that it has shown.
func (term *terminal) await(t *testing.T, text string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		term.mu.Lock()
		seen := term.seen.String()
		term.mu.Unlock()
		if strings.Contains(seen, text) {
			return seen
		}
		if time.Now().After(deadline) {
			t.Fatalf("the terminal shows %q, not %q", seen, text)
		}
	}
}

// start starts the job on the terminal, as a shell in it would.
func (term *terminal) start(t *testing.T, j *job) *exec.Cmd {
	t.Helper()
	cmd := j.cmd(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.slave, term.slave, term.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// The pty inside is the command's user's and the group tty's, and has the caller's size.
func TestTerminal(t *testing.T) {
	j := newJob(t)
	users := []string{""}
	if !j.IDMap.Single() {
		users = append(users, "1234:1234")
	}
	for _, who := range users {
		term := newTerminal(t)
		if err := unix.IoctlSetWinsize(int(term.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}); err != nil {
			t.Fatal(err)
		}
		before, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		j := j.again().sh(`echo "$(stat -Lc %u:%g:%a $(tty)) $(tty) $(stty size) $(id -u)"; echo x >/dev/tty; exit 5`)
		j.FirstUser = who
		cmd := term.start(t, j)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 5 {
			t.Errorf("user %q: exit code %d", who, code)
		}
		uid, _, _ := strings.Cut(who+"0:", ":")
		if who != "" {
			uid = "1234"
		}
		gid := "5"
		if j.IDMap.Single() {
			gid = "0"
		}
		want := fmt.Sprintf("%s:%s:620 /dev/pts/0 33 77 %s\r\nx\r\n", uid, gid, uid)
		if seen := term.await(t, "x\r\n"); seen != want {
			t.Errorf("user %q: %q, want %q", who, seen, want)
		}
		if after, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS); err != nil || *after != *before {
			t.Errorf("the terminal was not put back: %+v, %+v, %v", before, after, err)
		}
	}
}

// What cannot be run is told on a terminal as anywhere else: the first command is started before init reaps.
func TestTerminalNotRunnable(t *testing.T) {
	j := newJob(t)
	files := map[string]string{"garbage": "exec format error", "script": "its interpreter or loader is not inside"}
	for name, text := range map[string]string{"garbage": "no program", "script": "#!/nonexistent/interpreter\n"} {
		if err := os.WriteFile(filepath.Join(string(j.Project), name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range files {
		first := j.again().command(filepath.Join(string(j.Project), name))
		term := newTerminal(t)
		cmd := term.start(t, first)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 126 {
			t.Errorf("%s: exit code %d", name, code)
		}
		term.await(t, want)
	}
}

// A command in a terminal session ends by its signal for the caller too: those that Go's runtime has
// its own ideas about, of a crash among them, as any other.
func TestTerminalSignals(t *testing.T) {
	j := newJob(t)
	for _, sig := range []syscall.Signal{unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV,
		unix.SIGSYS, unix.SIGTERM, unix.SIGKILL} {
		term := newTerminal(t)
		cmd := term.start(t, j.again().sh(fmt.Sprintf("echo up; kill -%d $$", sig)))
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 128+int(sig) {
			t.Errorf("%v: exit code %d", sig, code)
		}
		fmt.Fprintln(term.slave, "end")
		if seen := term.await(t, "end"); seen != "up\r\nend\r\n" && seen != "up\r\nend" {
			t.Errorf("%v: %q", sig, seen)
		}
	}
}

// A client of a terminal session that is killed takes its command along, whatever that ignores.
func TestTerminalClientKilled(t *testing.T) {
	j := newJob(t).sh("echo; read x")
	s := j.background(t)
	list, err := List(string(j.Runtime))
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	e := *j
	e.Exec = list[0].Name
	term := newTerminal(t)
	e.sh(`trap '' HUP INT TERM QUIT; echo up; while :; do sleep 0.05; done 2>/dev/null`)
	client := term.start(t, &e)
	term.await(t, "up")
	_ = client.Process.Kill()
	_ = client.Wait()
	// Left are init and the main command: what the client started is no more.
	deadline := time.Now().Add(10 * time.Second)
	for {
		var names []string
		for _, pid := range descendants(t, s.Process.Pid) {
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); len(b) > 0 {
				names = append(names, string(bytes.ReplaceAll(b, []byte{0}, []byte(" "))))
			}
		}
		if len(names) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the command outlives its client: %q", names)
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Fprintln(s.in)
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// A terminal that is closed hangs up what runs in it, and nothing of it stays.
func TestTerminalClosed(t *testing.T) {
	// Under nohup(1) these tests ignore the hang-up, and cove would too. One that is taken is not ignored by what is started.
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, unix.SIGHUP)
	defer signal.Stop(taken)
	for _, script := range []string{
		"echo up; exec sleep 1000",
		"sleep 1000 & setsid sleep 1001 & echo up; cat",
		"trap 'sleep 0.1; exit 3' HUP; echo up; while :; do sleep 0.05; done",
	} {
		term := newTerminal(t)
		cmd := term.start(t, newJob(t).sh(script))
		term.await(t, "up")
		below := descendants(t, cmd.Process.Pid)
		if len(below) < 3 {
			t.Errorf("%q: below it run %v: init, the leader and the command were expected", script, below)
		}
		// The copy of what the terminal shows reads the master: it is closed when that read has ended.
		term.master.Close()
		fmt.Fprintln(term.slave, "the last words")
		term.slave.Close()
		patience := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		if !patience.Stop() {
			t.Fatalf("%q: it goes on without its terminal", script)
		}
		gone(t, below)
	}
}

package sandbox

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

func TestExitCodes(t *testing.T) {
	j := newJob(t)
	script := filepath.Join(string(j.Project), "script")
	for name, mode := range map[string]os.FileMode{"script": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(string(j.Project), name), []byte("#!/nonexistent/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		argv []string
		code int
		text string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 42"}, 42, ""},
		{[]string{"sh", "-c", "exit 255"}, 255, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{[]string{"no-such-program"}, 127, "not found"},
		{[]string{"/no/such/program"}, 127, "no such file"},
		{[]string{"/usr"}, 126, "permission denied"},
		{[]string{"./plain"}, 126, "permission denied"},
		{[]string{script}, 126, "interpreter"},
		{[]string{""}, 127, "no command"},
		{[]string{"a\x1b[31m"}, 127, `"a\x1b[31m"`},
	} {
		if r := j.again().command(c.argv...).run(t); r.code != c.code || !strings.Contains(r.err, c.text) || (c.text == "" && r.err != "") {
			t.Errorf("%q: exit code %d, want %d; %q", c.argv, r.code, c.code, r.err)
		}
	}
	for what, change := range map[string]func(*job){
		"nosuchuser":  func(j *job) { j.FirstUser = "nosuchuser" },
		"4000000000":  func(j *job) { j.FirstUser = "4000000000" },
		"working dir": func(j *job) { j.Project, j.Mode, j.Cwd = j.Project+"/gone", "none", j.Project },
	} {
		j := j.again().command("true")
		change(j)
		r := j.run(t)
		if what == "working dir" {
			continue
		}
		if r.code != 125 || !strings.Contains(r.err, what) {
			t.Errorf("%s: exit code %d, %q", what, r.code, r.err)
		}
	}
}

// Nothing that the caller left open reaches the command, and neither does its environment.
func TestNothingIsInherited(t *testing.T) {
	j := newJob(t).sh(`ls -l /proc/self/fd; cat /proc/1/environ; env`)
	cmd := j.cmd(t)
	for _, name := range []string{"/etc/hostname", "/"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f, f)
	}
	cmd.Env = append(cmd.Env, "SECRET=tell-nobody")
	r := finish(t, cmd)
	for _, line := range strings.Split(r.out, "\n") {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[len(fields)-2] == "->" {
			n, to := fields[len(fields)-3], fields[len(fields)-1]
			if n != "0" && n != "1" && n != "2" && !strings.HasPrefix(to, "/proc/") {
				t.Errorf("the command has descriptor %s", line)
			}
		}
	}
	if strings.Contains(r.out, "tell-nobody") || strings.Contains(r.out, jobVar) {
		t.Errorf("the environment came along: %s", r.out)
	}
	if !strings.Contains(r.out, "PATH=") {
		t.Errorf("no environment: %s%s", r.out, r.err)
	}
}

// What the caller ignores or blocks, its umask and its limits.
func TestSignalsAndLimits(t *testing.T) {
	j := newJob(t).sh(`umask; ulimit -n; grep -E '^Sig(Blk|Ign)' /proc/self/status; kill -TERM $$; echo alive`)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	plain := j.cmd(t)
	for name, script := range map[string]string{
		"ignored": `trap '' TERM INT HUP QUIT USR1 TSTP CHLD PIPE; umask 077; ulimit -n 64; exec "$0"`,
		"blocked": `umask 000; ulimit -n 64; exec env --block-signal=TERM,INT,CHLD,USR1 "$0"`,
	} {
		cmd := exec.Command("sh", "-c", script, exe)
		cmd.Env = plain.Env
		r := finish(t, cmd)
		if r.code == 125 && strings.Contains(r.err, "unrecognized option") {
			t.Logf("%s: this env(1) cannot block signals", name)
			continue
		}
		want := "0022\n64\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
		if r.code != 143 || r.out != want {
			t.Errorf("%s: exit code %d, %q, %q", name, r.code, r.out, r.err)
		}
	}
}

// Files, pipes and descriptors that are closed: each byte goes where it belongs.
func TestStdio(t *testing.T) {
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	j := newJob(t).sh("tee /dev/stderr")
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.WriteFile(in, data, 0o600); err != nil {
		t.Fatal(err)
	}
	files := map[string]*os.File{}
	for _, name := range []string{"out", "err"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[name] = f
	}
	f, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := j.sh("tee /proc/self/fd/2").cmd(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, files["out"], files["err"]
	if r := finish(t, cmd); r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}
	for name := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(data), err)
		}
	}
	cmd = j.again().command("cat").cmd(t)
	cmd.Stdin = bytes.NewReader(data)
	if r := finish(t, cmd); r.out != string(data) || r.err != "" {
		t.Errorf("through pipes: %d bytes of %d, %q", len(r.out), len(data), r.err)
	}
	for _, fds := range []string{"<&-", ">&-", "2>&-", "<&- >&- 2>&-"} {
		exe, _ := os.Executable()
		cmd := exec.Command("sh", "-c", `"$0" `+fds, exe)
		cmd.Env = j.again().sh("cat; echo x; exit 7").cmd(t).Env
		if r := finish(t, cmd); r.code != 7 {
			t.Errorf("%s: exit code %d, %s", fds, r.code, r.err)
		}
	}
	cmd = j.again().command("true").cmd(t)
	dirFile, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dirFile.Close()
	cmd.Stdin = dirFile
	if r := finish(t, cmd); r.code != 125 || !strings.Contains(r.err, "stdin: is a directory") {
		t.Errorf("a directory: %d, %q", r.code, r.err)
	}
}

// A background process that holds stdout keeps nobody waiting: it ends with the sandbox.
func TestBackgroundProcess(t *testing.T) {
	start := time.Now()
	if out := newJob(t).sh("sleep 1000 & setsid sleep 1000 & echo done").ok(t); out != "done\n" || time.Since(start) > 20*time.Second {
		t.Errorf("%q after %v", out, time.Since(start))
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	s := newJob(t).sh(`trap 'exit 9' USR1; echo; while :; do sleep 0.05; done`).background(t)
	if err := s.Process.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	_ = s.Wait()
	if code := s.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code %d", code)
	}
}

// A kill -9 at any moment leaves no process, and after the next start nothing on disk.
func TestKilledAtAnyMoment(t *testing.T) {
	j := newJob(t)
	whole := time.Now()
	j.again().sh("true").ok(t)
	took := time.Since(whole)
	const rounds = 24
	for i := range rounds {
		cmd := j.again().sh("setsid sleep 1000 & trap '' HUP TERM; sleep 1000").cmd(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(took * time.Duration(i) * 3 / (2 * rounds))
		below := descendants(t, cmd.Process.Pid)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		gone(t, below)
	}
	j.again().sh("true").ok(t)
	if left := leftovers(t, sandboxesDir(string(j.Runtime))); len(left) != 0 {
		t.Errorf("left in the runtime folder: %v", left)
	}
	if left := leftovers(t, string(j.Project)); len(left) != 0 {
		t.Errorf("left in the workspace: %v", left)
	}
}

// When init is killed, the run ends and says so.
func TestInitKilled(t *testing.T) {
	j := newJob(t)
	s := j.sh("echo; sleep 1000").background(t)
	below := descendants(t, s.Process.Pid)
	for _, pid := range below {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(b), "cove-init") {
			if err := syscall.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = s.Wait()
	if code := s.ProcessState.ExitCode(); code != 125 {
		t.Errorf("exit code %d", code)
	}
	gone(t, below)
	if left := leftovers(t, string(j.Project)); len(left) != 0 {
		t.Errorf("left in the workspace: %v", left)
	}
}

// Init is killed at any moment, from outside or by the kernel: the run says so, or had its result already, and takes away
// at once what it had made.
func TestInitKilledAtAnyMoment(t *testing.T) {
	j := newJob(t)
	const rounds = 16
	killed := 0
	for i := range rounds {
		cmd := j.again().sh("setsid sleep 1000 & exec sleep 0.05").cmd(t)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var below []int
		for deadline := time.Now().Add(10 * time.Second); len(below) == 0 && time.Now().Before(deadline); {
			below = descendants(t, cmd.Process.Pid)
		}
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		below = descendants(t, cmd.Process.Pid)
		for _, pid := range below {
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(b), "cove-init") {
				_ = syscall.Kill(pid, unix.SIGKILL)
			}
		}
		_ = cmd.Wait()
		switch code := cmd.ProcessState.ExitCode(); {
		case code == 125 && strings.Count(errs.String(), "cove: ") == 1 && !strings.Contains(errs.String(), "goroutine"):
			killed++
		case code == 0 && errs.Len() == 0: // it was over
		default:
			t.Errorf("round %d: exit code %d, %q", i, code, errs.String())
		}
		gone(t, below)
		if left := append(leftovers(t, string(j.Project)), leftovers(t, sandboxesDir(string(j.Runtime)))...); len(left) != 0 {
			t.Fatalf("round %d: left: %v", i, left)
		}
	}
	if killed == 0 {
		t.Error("none was hit")
	}
}

// A command that is killed from outside has ended by that signal, and takes with it what it left running.
func TestCommandKilled(t *testing.T) {
	j := newJob(t)
	s := j.sh("setsid sleep 1000 & echo; exec sleep 1001").background(t)
	var below []int
	// The shell has written its line before it becomes what is killed here.
	for killed, end := false, time.Now().Add(20*time.Second); !killed; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the command is not there")
		}
		below = descendants(t, s.Process.Pid)
		for _, pid := range below {
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); string(b) == "sleep\x001001\x00" {
				if err := syscall.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				killed = true
			}
		}
	}
	_ = s.Wait()
	if code := s.ProcessState.ExitCode(); code != 137 {
		t.Errorf("exit code %d", code)
	}
	gone(t, below)
}

// What a command leaves running ends with it: when the run is over, the workspace is nobody's but the caller's. Only a
// sandbox without anybody left is not waited for.
func TestNobodyIsLeftAtWork(t *testing.T) {
	j := newJob(t)
	file := filepath.Join(string(j.Project), "file")
	// Several, so that they take a while to end, and none holds what the run's caller waits for.
	j.again().sh("for i in $(seq 20); do (trap '' HUP TERM; while :; do echo >>file; done) >/dev/null 2>&1 & done; until [ -s file ]; do :; done").ok(t)
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	after, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if before.Size() != after.Size() {
		t.Error("somebody wrote when the run was over")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		cmd := j.again().sh("sleep 0.05").cmd(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Millisecond)
		below := descendants(t, cmd.Process.Pid)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if left := append(leftovers(t, string(j.Project)), leftovers(t, sandboxesDir(string(j.Runtime)))...); len(left) != 0 {
			t.Fatalf("left: %v", left)
		}
		gone(t, below)
	}
}

// Init takes no signal from inside, and gives nothing of itself away.
func TestInitIsOutOfReach(t *testing.T) {
	out := newJob(t).sh(`for s in TERM INT HUP QUIT USR1 KILL STOP SEGV BUS FPE ILL ABRT TRAP SYS PIPE CHLD URG PROF ALRM TSTP RTMIN RTMAX; do kill -$s 1; done
		for f in mem environ maps exe root cwd fd/3 auxv; do
			if head -c1 /proc/1/$f >/dev/null 2>&1 && [ -n "$(head -c1 /proc/1/$f 2>/dev/null | od -c)" ]; then echo "read $f"; fi
			if (: >/proc/1/$f) 2>/dev/null; then echo "write $f"; fi
		done
		ls /proc/1/cwd/ /proc/1/root/ 2>/dev/null
		sleep 0.1; echo alive`).ok(t)
	if out != "alive\n" {
		t.Errorf("%s", out)
	}
}

func TestTwoAtOnce(t *testing.T) {
	j := newJob(t)
	first := j.again().sh("echo; read x; touch first").background(t)
	other := j.again().sh("touch second; ls -a; ! mkdir .git/x 2>/dev/null && ! touch cove.lock 2>/dev/null && ! touch cove.toml/x 2>/dev/null").run(t)
	if other.code != 0 {
		t.Errorf("the second: %d, %s%s", other.code, other.out, other.err)
	}
	if r := j.again().sh("echo x >cove.toml || echo x >.git/config || mkdir .git/hooks").run(t); r.code == 0 {
		t.Error("the third wrote to what is protected while the first runs")
	}
	fmt.Fprintln(first.in)
	if err := first.Wait(); err != nil {
		t.Error(err)
	}
	if left := leftovers(t, string(j.Project)); strings.Join(left, " ") != "first second" {
		t.Errorf("in the workspace: %v", left)
	}
}

// Many starts at the same time do not take each other for leftovers.
func TestManyAtOnce(t *testing.T) {
	j := newJob(t)
	results := make(chan string, 50)
	for range cap(results) {
		cmd := j.again().sh("echo -n x").cmd(t)
		go func() {
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != "x" {
				results <- fmt.Sprintf("%v: %s", err, out)
				return
			}
			results <- ""
		}()
	}
	for range cap(results) {
		if text := <-results; text != "" {
			t.Error(text)
		}
	}
	if left := append(leftovers(t, string(j.Project)), leftovers(t, sandboxesDir(string(j.Runtime)))...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A runtime folder whose name is longer than a socket's may be, and one with odd bytes.
func TestLongRuntimeDir(t *testing.T) {
	j := newJob(t)
	j.Runtime = spec.Path(filepath.Join(string(j.Runtime), strings.Repeat("r", 200), "\xff\n :,"))
	s := j.sh("echo; read x").background(t)
	list, err := List(string(j.Runtime))
	if err != nil || len(list) != 1 || list[0].ID != j.ID {
		t.Fatalf("running: %v, %v", list, err)
	}
	e := *j
	e.Exec = list[0].Name
	if out := e.command("echo", "inside").ok(t); out != "inside\n" {
		t.Errorf("exec: %q", out)
	}
	if err := Stop(string(j.Runtime), list[0].Name); err != nil {
		t.Error(err)
	}
	_ = s.Wait()
	if code := s.ProcessState.ExitCode(); code != 143 && code != 129 {
		t.Errorf("exit code %d", code)
	}
}

// Who stands in a folder that is gone can still run something.
func TestCwdDeleted(t *testing.T) {
	j := newJob(t)
	j.Mode, j.Cwd = "none", ""
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `cd "$1" && rmdir "$1" && exec "$0"`, exe, t.TempDir())
	cmd.Env = j.command("pwd").cmd(t).Env
	if r := finish(t, cmd); r.code != 0 || r.out != "/root\n" {
		t.Errorf("%d, %q, %q", r.code, r.out, r.err)
	}
}

// A workspace that is not ours to write: what is protected there cannot be made by anybody.
func TestUnwritableWorkspace(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root can write anywhere")
	}
	j := newJob(t).sh("pwd; touch x 2>/dev/null || echo no")
	j.Project, j.Cwd = "/usr/share", "/usr/share"
	if out := j.ok(t); out != "/usr/share\nno\n" {
		t.Errorf("%q", out)
	}
}

// The caller's groups are dropped in every thread of init.
func TestGroupsAreDropped(t *testing.T) {
	needRange(t)
	j := newJob(t).sh("id -G; echo; read x")
	cmd := j.cmd(t)
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 24, 1234}}}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	buf := make([]byte, 16)
	n, _ := out.Read(buf)
	if string(buf[:min(n, 2)]) != "0\n" {
		t.Errorf("groups of the command: %q", buf[:n])
	}
	threads := 0
	for _, pid := range descendants(t, cmd.Process.Pid) {
		names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, name := range names {
			b, _ := os.ReadFile(name)
			for _, line := range strings.Split(string(b), "\n") {
				if groups, ok := strings.CutPrefix(line, "Groups:"); ok {
					threads++
					if strings.TrimSpace(groups) != "" {
						t.Errorf("%s has groups %s", name, groups)
					}
				}
			}
		}
	}
	if threads < 3 {
		t.Errorf("looked at %d threads", threads)
	}
}

// A user with any number has what it should, and no capability.
func TestOtherUser(t *testing.T) {
	needRange(t)
	j := newJob(t).sh("id -u; id -g; grep -E '^Cap(Prm|Eff|Amb|Inh)' /proc/self/status | cut -f2 | sort -u; touch /root/x 2>&1")
	j.FirstUser, j.Mode = "1234:4321", "none"
	j.Project, j.Cwd = "", ""
	r := j.run(t)
	if want := "1234\n4321\n0000000000000000\n"; !strings.HasPrefix(r.out, want) || r.code == 0 {
		t.Errorf("%d, %q, %q", r.code, r.out, r.err)
	}
}

func TestRootInsideIsNotRootOutside(t *testing.T) {
	j := newJob(t).sh("touch file; chmod 4755 file 2>/dev/null; cat /etc/shadow 2>/dev/null; cat /proc/self/uid_map")
	out := j.ok(t)
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("%q", out)
		}
		lo, _ := strconv.Atoi(f[1])
		if lo == 0 {
			t.Errorf("an id inside is host 0: %s", line)
		}
	}
	st, err := os.Stat(filepath.Join(string(j.Project), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Getuid() {
		t.Errorf("the file is %d's", uid)
	}
}

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cove/config"
	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/layer/stage"
	"cove/sandbox/host"
	"cove/sandbox/spec"
	"cove/userns"
)

// jobVar holds a job for this binary to carry out in place of the tests, as cove would: in a process
// of its own, which a test may kill, and which inherits what the test wants it to.
const jobVar = "COVE_TEST_JOB"

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case layer.StageName:
		stage.Main()
	case KeeperName:
		os.Exit(KeeperMain(nil, nil))
	}
	if text := os.Getenv(jobVar); text != "" {
		os.Exit(carryOut(text))
	}
	os.Exit(m.Run())
}

// job is what to run. A sandbox of the host's root file system, unless it is an exec in another one.
type job struct {
	ID        string
	Argv      []spec.Arg
	User      string // of the profile
	IDMap     userns.IDMap
	Runtime   spec.Path
	Project   spec.Path
	Mode      string // of the workspace
	Protect   []string
	Hide      []string
	Mounts    []mountJob
	Network   string
	Attach    string // what becomes of it: see fakeNetwork
	Cwd       spec.Path
	Env       map[string]string
	Exec      string // instead: in the sandbox with this name
	FirstUser string // -u
}

type mountJob struct {
	Source, Target spec.Path
	Mode           string
	Within         bool
}

func carryOut(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Fprintln(os.Stderr, "job:", err)
		return 125
	}
	o := Options{RuntimeDir: string(j.Runtime), Project: string(j.Project), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Warn: os.Stderr}
	if j.Attach != "" {
		o.Network = fakeNetwork(j.Attach)
	}
	var argv []string
	for _, a := range j.Argv {
		argv = append(argv, string(a))
	}
	status, err := func() (Status, error) {
		if j.Exec != "" {
			return Exec(j.Exec, ExecInput{Argv: argv}, o)
		}
		s, err := Plan(j.input(argv))
		if err != nil {
			return Status{}, err
		}
		return Run(context.Background(), s, o)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cove:", err)
		return 125
	}
	if status.Text != "" {
		fmt.Fprintln(os.Stderr, "cove:", status.Text)
	}
	return status.ExitCode()
}

func (j *job) input(argv []string) Input {
	in := Input{
		Profile: &config.Profile{Dir: string(j.Project), Image: "host", User: j.User,
			Workspace: config.Workspace{Mode: j.Mode, Protect: j.Protect},
			Network:   config.Network{Mode: j.Network}, Env: config.Env{Set: j.Env},
			Security: config.Security{Caps: []string{"default"}}},
		Host: &host.Host{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Name: "tester", LandlockScope: true,
			Tried: host.Tried{UserNS: host.Fact{OK: true}}},
		ID: j.ID, Argv: argv, IDMap: j.IDMap, Image: &image.Image{Ref: "host", Kind: image.Host},
		Cwd: string(j.Cwd), HostHome: "/home/tester", Hide: j.Hide, LookupEnv: os.LookupEnv, User: j.FirstUser,
	}
	for _, m := range j.Mounts {
		in.Profile.Mounts = append(in.Profile.Mounts, config.Mount{Source: string(m.Source), Target: string(m.Target), Mode: m.Mode, Within: m.Within})
	}
	return in
}

// newJob is a job in a runtime folder and a project of the test's own.
func newJob(t *testing.T, argv ...string) *job {
	t.Helper()
	project := t.TempDir()
	if name, err := filepath.EvalSymlinks(project); err == nil {
		project = name
	}
	j := &job{ID: NewID(), User: "root", IDMap: mapping(t), Runtime: spec.Path(t.TempDir()), Project: spec.Path(project), Mode: "rw",
		Network: "none", Cwd: spec.Path(project), Protect: config.DefaultProtect()}
	return j.command(argv...)
}

func (j *job) command(argv ...string) *job {
	j.Argv = nil
	for _, a := range argv {
		j.Argv = append(j.Argv, spec.Arg(a))
	}
	return j
}

// sh makes the job's command a shell script.
func (j *job) sh(script string) *job { return j.command("sh", "-c", script) }

// again is the job with an id of its own, as a second start has one.
func (j *job) again() *job {
	c := *j
	c.ID = NewID()
	return &c
}

// mapping is the one that this user gets, with a range where there is one.
func mapping(t *testing.T) userns.IDMap {
	t.Helper()
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	if uid == 0 {
		r := []userns.SubRange{{Start: 300000, Count: 65536}}
		m, err := userns.AllocateRoot(userns.SubIDs{UIDs: r, GIDs: r})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := userns.ReadSubIDs(me.Username, uid)
	if err != nil {
		t.Fatal(err)
	}
	m, err := userns.Allocate(sub, uid, gid, 0, 0)
	if _, _, herr := userns.Helpers(); err != nil || herr != nil {
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatalf("COVE_TEST_REQUIRE is set: %v, %v", err, herr)
		}
		return userns.Single(uid, gid, 0, 0)
	}
	return m
}

// needRange skips a test that needs more than one id.
func needRange(t *testing.T) {
	t.Helper()
	if mapping(t).Single() {
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatal("COVE_TEST_REQUIRE is set: one id is mapped")
		}
		t.Skip("needs subordinate ids, newuidmap and newgidmap")
	}
}

// cmd is the process that carries out the job.
func (j *job) cmd(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), jobVar+"="+string(text))
	// A start that hangs must not take the suite with it.
	cmd.WaitDelay = time.Second
	timer := time.AfterFunc(60*time.Second, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	t.Cleanup(func() { timer.Stop() })
	return cmd
}

type result struct {
	code     int
	out, err string
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	if strings.Contains(r.err, "create user namespace") {
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatalf("COVE_TEST_REQUIRE is set: %s", r.err)
		}
		t.Skip(r.err)
	}
	return r
}

func (j *job) run(t *testing.T) result { t.Helper(); return finish(t, j.cmd(t)) }

// ok runs the job, which must end well, and returns what it wrote.
func (j *job) ok(t *testing.T) string {
	t.Helper()
	r := j.run(t)
	if r.code != 0 {
		t.Fatalf("%q: exit code %d, %s%s", j.Argv, r.code, r.out, r.err)
	}
	return r.out
}

// started is a job that runs, and has said so.
type started struct {
	*exec.Cmd
	in io.WriteCloser
}

// background starts the job and waits until its command has written a line. It ends with the test.
func (j *job) background(t *testing.T) *started {
	t.Helper()
	cmd := j.cmd(t)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if n, err := out.Read(make([]byte, 1)); n != 1 {
		_ = cmd.Wait()
		if strings.Contains(errs.String(), "create user namespace") && os.Getenv("COVE_TEST_REQUIRE") == "" {
			t.Skip(errs.String())
		}
		t.Fatalf("the job did not start: %v, %s", err, errs.String())
	}
	return &started{cmd, in}
}

// descendants are the processes below pid, by their parents.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	children := map[int][]int{}
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		children[parent] = append(children[parent], child)
	}
	var out []int
	for todo := children[pid]; len(todo) > 0; todo = todo[1:] {
		out = append(out, todo[0])
		todo = append(todo, children[todo[0]]...)
	}
	return out
}

// gone waits until none of the processes is there.
func gone(t *testing.T, pids []int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for _, pid := range pids {
		for runs(pid) {
			if time.Now().After(deadline) {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				t.Fatalf("process %d is left: %s", pid, b)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// runs reports whether pid is there and more than a zombie, which only waits for its parent's leave.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	rest := strings.TrimSpace(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// leftovers are the names below dir, but not of the locks, which stay.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

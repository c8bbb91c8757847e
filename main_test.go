package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cove/fetch/layer"
	"cove/fetch/policy/policytest"
	"cove/fetch/registrytest"
	"cove/sandbox"
	"cove/sandbox/clitest"
	"cove/sandbox/host"
	"cove/sandbox/review/tree"
	"cove/testdata/attack"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// TestMain lets this test binary be cove: its stages, which cove starts of itself, and `cove` in a script.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case layer.StageName, tree.StageName, host.StageName, sandbox.KeeperName:
		main()
	}
	testscript.Main(m, map[string]func(){
		"cove":   cove,
		"attack": func() { os.Exit(attack.Main(os.Args[1:])) },
		"bait":   func() { os.Exit(attack.Bait(os.Args[1:])) },
	})
}

func cove() { clitest.Exit(run(os.Args)) }

// TestScripts runs testdata/script. Each script has an empty home and a store of its own.
func TestScripts(t *testing.T) { scripts(t, "testdata/script") }

// TestTakeovers holds what is initialised and allocated before a stage, and before the usual run, take over: each start pays for it, the
// stage's on the way from the command line to the command. What a module links in may come before them only because of its
// name (package start says why), so a limit that is reached by a new one is to be raised, with a look at what it costs:
// GODEBUG=inittrace=1 shows that. What is allocated then is tables, mostly, which somebody has to fill: its limits are a
// thirtieth above what was seen, and the same from run to run but for two or three pieces.
func TestTakeovers(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	type initialised struct {
		names         []string
		bytes, allocs int
	}
	initialise := func(before string, args ...string) (did initialised) {
		cmd := &exec.Cmd{Path: exe, Args: args, Env: []string{"GODEBUG=inittrace=1"}}
		out, _ := cmd.CombinedOutput()
		// init os @0.5 ms, 0.02 ms clock, 456 bytes, 12 allocs
		for line := range strings.Lines(string(out)) {
			fields := strings.Fields(line)
			if len(fields) != 11 || fields[0] != "init" {
				continue
			}
			if fields[1] == before {
				return did
			}
			bytes, err := strconv.Atoi(fields[7])
			allocs, also := strconv.Atoi(fields[9])
			if err != nil || also != nil {
				t.Fatalf("inittrace says %q", line)
			}
			did.names, did.bytes, did.allocs = append(did.names, fields[1]), did.bytes+bytes, did.allocs+allocs
		}
		if before != "" {
			t.Fatalf("%s is not initialised: %s", before, out)
		}
		return did
	}
	// What a command never needs, and what is known to take long.
	never := []string{"regexp", "net", "net/http", "text/template", "github.com/urfave/cli/v2", "cove/sandbox/cli"}
	for _, c := range []struct {
		who                 string
		did                 initialised
		most, bytes, allocs int
	}{
		// cove-init ends when it finds that it has no socket.
		{"a stage", initialise("", "cove-init"), 92, 79_000, 270},
		{"the usual run", initialise("cove/sandbox/quick", "cove", "--version"), 128, 116_000, 453},
	} {
		if len(c.did.names) == 0 {
			t.Fatalf("nothing is told of initialisation before %s takes over", c.who)
		}
		if len(c.did.names) > c.most {
			t.Errorf("%d packages are initialised before %s takes over, more than %d: %s", len(c.did.names), c.who, c.most, strings.Join(c.did.names, " "))
		}
		if !clitest.Race && (c.did.bytes > c.bytes || c.did.allocs > c.allocs) {
			t.Errorf("before %s takes over %d bytes are allocated in %d pieces, more than %d in %d", c.who, c.did.bytes, c.did.allocs, c.bytes, c.allocs)
		}
		for _, name := range never {
			if slices.Contains(c.did.names, name) {
				t.Errorf("%s is initialised before %s takes over", name, c.who)
			}
		}
	}
}

// TestSize holds how large cove is: a first start reads it from the disk, and each maps it. The limit is what was seen and a
// thirtieth more. What is beyond that is a module, and comes with a reason. There are no symbols in it, for whose length
// the names of folders count.
func TestSize(t *testing.T) {
	if clitest.Race {
		t.Skip("the race detector's tests have another build's packages")
	}
	most, ok := map[string]int64{"amd64": 23_000_000}[runtime.GOARCH]
	if !ok {
		t.Skip("it was measured on amd64 alone")
	}
	bin := filepath.Join(t.TempDir(), "cove")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > most {
		t.Errorf("cove has %d bytes without its symbols, more than %d", info.Size(), most)
	}
}

// TestRoot runs what is different when root calls cove.
func TestRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("for root alone: run as root `go test -run Root ./...`")
	}
	scripts(t, "testdata/script/root")
}

func scripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":   status,
			"pty":      pty,
			"layout":   layout,
			"programs": programs,
			"heavy":    heavy,
			"peak":     peak,
			"registry": registry,
			"sign":     sign,
			"serve":    serve,
			"families": families,
			"probe":    probe,
		},
	})
}

// TestImports keeps the layers apart: what runs inside links no TOML, no HTTP and no command line, nothing below
// knows what is above it, and what a start from the store needs initialises no package that it does without.
func TestImports(t *testing.T) {
	// Of modules these need golang.org/x/sys alone.
	light := []string{"cove/fetch/store", "cove/fetch/image", "cove/fetch/layer"}
	for pkg, never := range map[string][]string{
		// The first two are initialised behind all that is linked in of loggers, ASN.1 and archives.
		"cove/sandbox/stage": {"path/filepath", "os/exec", "net", "net/http", "github.com/BurntSushi/toml", "github.com/urfave/cli/v2", "cove/config", "cove/fetch", "cove/fetch/store", "cove/sandbox", "cove/sandbox/host"},
		"cove/sandbox/spec":  {"net/http", "cove/config", "cove/sandbox/host"},
		// What its data was generated from is for its tests alone.
		"cove/sandbox/seccomp":            {"cove/config", "cove/sandbox/spec", "encoding/json", "github.com/moby/profiles/seccomp"},
		"cove":                            {"github.com/moby/profiles/seccomp"},
		"cove/sandbox/host":               {"net", "cove/config", "cove/fetch", "cove/sandbox/spec"},
		"cove/sandbox/rootfs":             {"net", "cove/config", "cove/fetch", "cove/sandbox", "cove/sandbox/host"},
		"cove/sandbox/network":            {"net", "net/http", "cove/config", "cove/fetch", "cove/sandbox", "cove/sandbox/host"},
		"cove/sandbox/console":            {"net", "cove/config", "cove/fetch", "cove/sandbox", "cove/sandbox/host", "cove/sandbox/stage"},
		"cove/sandbox/cgroup":             {"net", "cove/config", "cove/fetch", "cove/sandbox", "cove/sandbox/stage"},
		"cove/userns":                     {"net", "cove/config", "cove/fetch", "cove/sandbox/spec", "cove/sandbox/host"},
		"cove/config":                     {"net/http", "cove/fetch", "cove/sandbox", "cove/userns"},
		"cove/fetch/store":                {"cove/fetch", "cove/fetch/layer/stage"},
		"cove/fetch/image":                {"cove/fetch", "cove/fetch/layer/stage"},
		"cove/fetch/layer":                {"cove/fetch/store", "cove/fetch/layer/stage"},
		"cove/fetch/policy":               {"net/http", "cove/fetch/store", "cove/fetch/image"},
		"cove/fetch":                      {"cove/config", "cove/sandbox", "cove/sandbox/spec"},
		"cove/sandbox":                    {"net", "cove/fetch", "cove/sandbox/cli", "cove/sandbox/start", "cove/sandbox/network/driver", "cove/sandbox/integration/outside", "cove/sandbox/integration/gpu", "github.com/urfave/cli/v2"},
		"cove/sandbox/integration":        {"net", "cove/config", "cove/fetch", "cove/sandbox", "golang.org/x/crypto/ssh"},
		"cove/sandbox/integration/inside": {"net", "os/exec", "path/filepath", "cove/config", "cove/fetch", "cove/sandbox"},
		"cove/sandbox/start":              {"cove/fetch", "cove/sandbox/cli", "cove/sandbox/quick", "cove/sandbox/network/driver", "cove/sandbox/integration/outside"},
		"cove/sandbox/trace":              {"os", "fmt", "reflect", "strings", "golang.org/x/sys/unix"},
		"cove/sandbox/early":              {"os", "fmt", "reflect", "strings", "golang.org/x/sys/unix"},
		// See package start for why: these are initialised late, or let others be that take their time.
		"cove/sandbox/quick": {"github.com/urfave/cli/v2", "go.podman.io/image/v5/docker/reference", "github.com/opencontainers/go-digest",
			"cove/fetch/policy", "regexp", "net", "net/netip", "unique", "runtime/debug", "text/template"},
	} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", pkg, err)
		}
		deps := strings.Fields(string(out))
		for _, dep := range never {
			if slices.Contains(deps, dep) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
		if !slices.Contains(light, pkg) {
			continue
		}
		for _, dep := range deps {
			domain, _, _ := strings.Cut(dep, "/")
			if strings.Contains(domain, ".") && !strings.HasPrefix(dep, "golang.org/x/sys/") || slices.Contains([]string{"regexp", "net", "net/http", "crypto/tls"}, dep) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

// raceLog begins the names of the race detector's reports, in the runtime directory of a script.
const raceLog = "race"

func setup(e *testscript.Env) error {
	home := filepath.Join(e.WorkDir, "home")
	// A socket's path may have 107 bytes (unix(7)), of which a script's folder takes most.
	run, err := os.MkdirTemp("", "ct")
	if err != nil {
		return err
	}
	for _, dir := range []string{home, filepath.Join(e.WorkDir, "data"), filepath.Join(e.WorkDir, "config")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	e.Values["served"] = &served{digests: map[string]digest.Digest{}, keys: map[string]any{}}
	e.Setenv("HOME", home)
	e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "data"))
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
	e.Setenv("XDG_RUNTIME_DIR", run)
	e.Setenv("TERM", "xterm")
	e.Setenv(clitest.StatusFile, filepath.Join(run, "status"))
	// A race build's processes would each sleep for a second when they end, and tell of races where a script may not look.
	e.Setenv("GORACE", "atexit_sleep_ms=0 log_path="+filepath.Join(run, raceLog))
	vars := append([]string{}, e.Vars...)
	e.Defer(func() { cleanUp(e, vars, run) })
	return nil
}

// cleanUp ends what a script left running, and removes what subordinate ids own, as they alone can.
func cleanUp(e *testscript.Env, vars []string, run string) {
	bin, err := exec.LookPath("cove")
	if err != nil {
		e.T().Fatal(err)
	}
	calls := [][]string{{"stop", "--all"}}
	if os.Getuid() != 0 { // root needs no help to remove what others own
		calls = append(calls, []string{"unshare", "--", "rm", "-rf", filepath.Join(e.WorkDir, "data")})
	}
	for _, args := range calls {
		cmd := exec.Command(bin, args...)
		cmd.Env, cmd.Dir = vars, "/"
		if out, err := cmd.CombinedOutput(); err != nil && machine().UserNS.OK {
			e.T().Log("clean up:", strings.Join(args, " "), err, string(out))
		}
	}
	races, _ := filepath.Glob(filepath.Join(run, raceLog+".*"))
	for _, name := range races {
		report, _ := os.ReadFile(name)
		e.T().Log(string(report))
	}
	defer func() {
		if len(races) > 0 {
			e.T().Fatal("a data race in cove: the report is above")
		}
	}()
	if err := os.RemoveAll(run); err != nil {
		e.T().Log("clean up:", err)
	}
}

// machine is what the tests' conditions are about.
var machine = sync.OnceValue(func() *host.Host {
	dir, err := os.MkdirTemp("", "cove-test-store")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	h, err := host.Probe(context.Background(), host.Options{StoreDir: dir})
	if err != nil {
		panic(err)
	}
	return h
})

// condition answers what a script asks of the machine. Where COVE_TEST_REQUIRE is set, everything
// has to be there: a suite that skips looks green.
func condition(name string) (bool, error) {
	h := machine()
	var has bool
	switch name {
	case "root":
		return os.Getuid() == 0, nil
	case "race":
		return clitest.Race, nil
	case "netns":
		return os.Getenv("COVE_TEST_NETNS") != "", nil
	case "userns":
		has = h.UserNS.OK
	case "subids":
		has = h.MapRange.OK
	case "overlay":
		has = h.NativeOverlay.OK
	case "fuse":
		has = h.Fuse()
	case "bwrap":
		_, err := exec.LookPath("bwrap")
		has = err == nil
	case "ssh-agent":
		_, err := exec.LookPath("ssh-agent")
		has = err == nil
	case "zsh", "fish", "busybox":
		_, err := exec.LookPath(name)
		has = err == nil
	case "strace":
		_, err := exec.LookPath("strace")
		has = err == nil
	case "slirp4netns":
		has = h.Helpers.Slirp4netns != "" && h.DevNetTun.OK
	case "landlock":
		has = h.LandlockABI > 0
	case "landlock-scope":
		has = h.LandlockScope
	case "pasta":
		has = h.Helpers.Pasta != "" && h.DevNetTun.OK
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
	if !has && os.Getenv("COVE_TEST_REQUIRE") != "" {
		return false, fmt.Errorf("COVE_TEST_REQUIRE is set, and this machine does not have %s", name)
	}
	return has, nil
}

// status N: the last cove, which has ended, had this exit code.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: status N")
	}
	got, err := os.ReadFile(ts.Getenv(clitest.StatusFile))
	ts.Check(err)
	if string(got) != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
	ts.Check(os.Remove(ts.Getenv(clitest.StatusFile))) // so that the next one cannot be this one
}

// pty DIALOGUE COMMAND...: the command on a terminal of its own, as a person uses it. The file DIALOGUE has lines
//
//	> text    type text and Enter
//	+ text    type text alone
//	^ c       type Ctrl-C
//	< regexp  wait for the output since the last match to match
//	= N       make the window N columns wide
//
// What it printed is stdout for the commands that follow.
func pty(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: pty DIALOGUE COMMAND...")
	}
	bin, err := exec.LookPath(args[1])
	ts.Check(err)
	term, slave, err := openPTY()
	ts.Check(err)
	defer term.Close()
	cmd := exec.Command(bin, args[2:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	for _, name := range []string{"PATH", "HOME", "TERM", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "COVE_HIDE", "COVE_STORE", "NO_COLOR", "PAGER", "PS1", clitest.StatusFile} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	ts.Check(cmd.Start())
	slave.Close()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	defer func() { _ = cmd.Process.Kill(); <-ended }()

	d := &dialogue{ts: ts, term: term, more: make(chan []byte)}
	go read(d.term, d.more)
	for _, line := range strings.Split(ts.ReadFile(args[0]), "\n") {
		if line != "" {
			d.step(line)
		}
	}
	d.wait("its end", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	d.drain(2 * time.Second) // on a busy machine the last words come late
	_, _ = ts.Stdout().Write([]byte(strings.ReplaceAll(d.all, "\r\n", "\n")))
}

// dialogue is one person at one terminal.
type dialogue struct {
	ts   *testscript.TestScript
	term *os.File
	more chan []byte
	all  string // everything that came
	seen int    // how much of it has been waited for
}

// read hands on what comes, and closes more when nobody has the other side open any longer (EIO).
func read(term io.Reader, more chan<- []byte) {
	for {
		buf := make([]byte, 4096)
		n, err := term.Read(buf)
		if n > 0 {
			more <- buf[:n]
		}
		if err != nil {
			close(more)
			return
		}
	}
}

func (d *dialogue) step(line string) {
	kind, text := line[:1], strings.TrimPrefix(line[1:], " ")
	var err error
	switch kind {
	case "#":
	case ">":
		_, err = d.term.WriteString(text + "\r")
	case "+":
		_, err = d.term.WriteString(text)
	case "^":
		_, err = d.term.Write([]byte{text[0] &^ 0x60})
	case "=":
		var cols int
		if cols, err = strconv.Atoi(text); err == nil {
			err = unix.IoctlSetWinsize(int(d.term.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(cols)})
		}
	case "<":
		re := regexp.MustCompile(text)
		d.wait(text, func() bool {
			at := re.FindStringIndex(d.all[d.seen:])
			if at != nil {
				d.seen += at[1]
			}
			return at != nil
		})
	default:
		d.ts.Fatalf("%q begins with none of > + ^ < = #", line)
	}
	d.ts.Check(err)
}

// wait takes what is printed until done says so.
func (d *dialogue) wait(what string, done func() bool) {
	deadline := time.After(60 * time.Second)
	more := d.more
	for !done() {
		select {
		case b, ok := <-more:
			if !ok {
				more = nil
			}
			d.all += string(b)
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			d.ts.Fatalf("waited for %s; so far it printed %q", what, d.all)
		}
	}
	d.more = more
	d.drain(20 * time.Millisecond)
}

// drain takes what comes until nothing has for a while, or nobody has the terminal open.
func (d *dialogue) drain(pause time.Duration) {
	for d.more != nil {
		select {
		case b, ok := <-d.more:
			if !ok {
				d.more = nil
			}
			d.all += string(b)
		case <-time.After(pause):
			return
		}
	}
}

// openPTY is posix_openpt(3), unlockpt(3) and ptsname(3).
func openPTY() (term, slave *os.File, err error) {
	term, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(term.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(term.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		err = unix.IoctlSetWinsize(int(term.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})
	}
	return term, slave, err
}

// attacker builds testdata/probe, once; COVE_PROBE names one that is built already.
var attacker = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("COVE_PROBE"); bin != "" {
		return bin, nil
	}
	dir, err := os.MkdirTemp("", "cove-probe")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "probe")
	cmd := exec.Command("go", "build", "-o", bin, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./testdata/probe: %w: %s", err, out)
	}
	return bin, os.Chmod(dir, 0o755)
})

// probe ARGS...: `probe lay ARGS...`, which starts a sandbox and tries to get out of it. It fails when anything is open;
// what it prints is stdout. The program is shared by all scripts.
func probe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: probe [OPTIONS] -- TOOL ARGS...")
	}
	bin, err := attacker()
	ts.Check(err)
	ts.Check(ts.Exec(bin, append([]string{"lay"}, args...)...))
}

// images are what the script commands registry and layout offer. They hold no programs: a script
// lends them this machine's, with -v /usr:/usr:ro.
func images() map[string]registrytest.Image {
	base := []registrytest.Entry{
		registrytest.Dir("usr"), registrytest.Symlink("bin", "usr/bin"), registrytest.Symlink("sbin", "usr/sbin"),
		registrytest.Symlink("lib", "usr/lib"), registrytest.Symlink("lib64", "usr/lib64"),
		registrytest.Dir("etc"), registrytest.Dir("tmp"), registrytest.Dir("root"),
		registrytest.File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/srv/app:/bin/sh\n"),
		registrytest.File("etc/group", "root:x:0:\napp:x:1000:\n"),
		registrytest.File("etc/image", "base\n"),
	}
	app := registrytest.Simple(append(base, registrytest.Owned(registrytest.Dir("srv/app"), 1000, 1000),
		registrytest.Owned(registrytest.File("srv/app/data", "app's\n"), 1000, 1000))...)
	app.Config = v1.ImageConfig{User: "app", WorkingDir: "/srv/app", Env: []string{"PATH=/usr/bin:/bin", "APP=yes"},
		Entrypoint: []string{"/bin/echo", "entry"}, Cmd: []string{"cmd"}}
	foreign := registrytest.Simple(base...)
	foreign.Platform.OS, foreign.Platform.Architecture = "linux", "s390x"
	large := registrytest.Simple(append(slices.Clone(base), registrytest.File("large", strings.Repeat("large ", 10_000)))...)
	tool := registrytest.Simple(append(slices.Clone(base), registrytest.Program("opt/tool", "#!/opt/sh\necho a tool\n"), registrytest.Symlink("opt/sh", "../usr/bin/sh"))...)
	many := registrytest.Simple(base...)
	for i := range 20 {
		entries := []registrytest.Entry{registrytest.File(fmt.Sprintf("l/%d", i), "x")}
		if i > 0 {
			entries = append(entries, registrytest.File(fmt.Sprintf("l/.wh.%d", i-1), ""))
		}
		many.Layers = append(many.Layers, registrytest.Layer{Tar: registrytest.Tar(entries...), Compression: registrytest.Zstd})
	}
	rude := registrytest.Simple(base...)
	rude.Config = v1.ImageConfig{User: "\x1b]0;rude\a", Cmd: []string{"/bin/\x1b[31mrude"}, Labels: map[string]string{"a": "\x1b[2J"}}
	// Every name that a sandbox mounts or writes at is a link out, by a name that no machine has.
	links := registrytest.Simple(append(slices.Clone(base), registrytest.Symlink("proc", "../../cove-nowhere/proc"), registrytest.Symlink("sys", "/cove-nowhere/sys"),
		registrytest.Symlink("dev", "/cove-nowhere/./dev"), registrytest.Symlink("etc/resolv.conf", "../../../cove-nowhere/resolv.conf"),
		registrytest.Symlink("etc/hosts", "/cove-nowhere/hosts"), registrytest.Symlink("etc/hostname", "/proc/1/root/cove-nowhere/hostname"),
		registrytest.Symlink("work", "../cove-nowhere/work"), registrytest.Symlink("wd", "/../../cove-nowhere/work"))...)
	links.Config = v1.ImageConfig{WorkingDir: "/wd"}
	odd := func(c v1.ImageConfig) registrytest.Image {
		image := registrytest.Simple(base...)
		image.Config = c
		return image
	}
	return map[string]registrytest.Image{"links": links, "fdwd": odd(v1.ImageConfig{WorkingDir: "/proc/self/fd/3"}), "rootwd": odd(v1.ImageConfig{WorkingDir: "/proc/1/cwd"}),
		"upwd": odd(v1.ImageConfig{WorkingDir: "../../../../usr"}), "lost": odd(v1.ImageConfig{User: "nosuchuser"}), "lostgroup": odd(v1.ImageConfig{User: "app:nosuchgroup"}),
		"base": registrytest.Simple(base...), "large": large, "tool": tool, "app": app, "many": many, "rude": rude, "foreign": foreign}
}

// registry [FILE]: starts a registry that serves the images as $REGISTRY/NAME:v1 for the rest of the script. With FILE
// it hangs when it is asked for a layer, and makes the file; with -empty it has no images, and -login lets anna in with s3cret. With -tls it speaks https, and
// FILE has its authority. With -close it ends, and with
// -log FILE it writes down what it was asked since the last time.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	tls := len(args) == 2 && args[0] == "-tls"
	if neg || len(args) > 2 || len(args) == 2 && args[0] != "-log" && !tls {
		ts.Fatalf("usage: registry [FILE | -empty | -login | -tls FILE | -close | -log FILE]")
	}
	if len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-empty" && args[0] != "-login" && !tls {
		r := ts.Value("served").(*served).Registry
		if args[0] == "-close" {
			r.Close()
			return
		}
		var log strings.Builder
		for _, q := range r.Log() {
			fmt.Fprintf(&log, "%s %s\n", q.Method, q.Path)
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(log.String()), 0o600))
		return
	}
	start := registrytest.New
	if tls {
		start = registrytest.NewTLS
	}
	r := start()
	ts.Defer(r.Close)
	ts.Setenv("REGISTRY", r.Addr)
	if tls {
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), r.CA(), 0o600))
	}
	if len(args) == 1 && args[0] == "-empty" {
		return
	}
	if len(args) == 1 && args[0] == "-login" {
		r.RequireLogin("anna", "s3cret", false)
	} else if len(args) == 1 {
		asked := ts.MkAbs(args[0])
		r.SetFault(func(_ http.ResponseWriter, req *http.Request) bool {
			if !strings.Contains(req.URL.Path, "/blobs/") {
				return false
			}
			if err := os.WriteFile(asked, nil, 0o600); err != nil {
				panic(err)
			}
			<-req.Context().Done()
			return true
		})
	}
	s := ts.Value("served").(*served)
	s.Registry = r
	for name, image := range images() {
		_, s.digests[name] = r.Add(name+":v1", image)
	}
	r.AddIndex("index:v1", images()["base"], images()["app"])
}

// serve NAME:TAG IMAGE...: from now on the registry serves that image as $REGISTRY/NAME:TAG, or an index of them.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value("served").(*served)
	if neg || len(args) < 2 || r.Registry == nil {
		ts.Fatalf("usage: registry; serve NAME:TAG IMAGE...")
	}
	var list []registrytest.Image
	for _, name := range args[1:] {
		image, ok := images()[name]
		if !ok {
			ts.Fatalf("no image %q", name)
		}
		list = append(list, image)
	}
	if len(list) == 1 {
		r.Add(args[0], list[0])
		return
	}
	r.AddIndex(args[0], list...)
}

// families FILE: of every socket in what `strace -f` has written, its family and whether the process that made it was in
// a network namespace that cove had made ("own") or in the one that it was started in ("host"), a line each.
func families(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: families FILE")
	}
	start := regexp.MustCompile(`^(\d+) +(?:clone3?|v?fork)\(`)
	child := regexp.MustCompile(`^(\d+) .*\b(?:clone3?|v?fork)\b.* = (\d+)$`)
	socket := regexp.MustCompile(`^(\d+) +socket(?:pair)?\((AF_\w+)`)
	lines := strings.Split(ts.ReadFile(args[0]), "\n")
	// A child may be seen before the call that made it has ended, so who made whom comes first. An interrupted call is
	// in two lines, of which the first has the flags and the second the child.
	parent, makes, isolated := map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if m := start.FindStringSubmatch(line); m != nil {
			makes[m[1]] = strings.Contains(line, "CLONE_NEWNET")
		}
		if m := child.FindStringSubmatch(line); m != nil {
			parent[m[2]], isolated[m[2]] = m[1], makes[m[1]]
		}
	}
	if len(parent) == 0 {
		ts.Fatalf("%s tells of no process", args[0])
	}
	for _, line := range lines {
		m := socket.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		where := "host"
		for pid := m[1]; pid != ""; pid = parent[pid] {
			if isolated[pid] {
				where = "own"
			}
		}
		fmt.Fprintf(ts.Stdout(), "%s %s\n", m[2], where)
	}
}

// served is a script's registry, and the keys that its images are signed with.
type served struct {
	*registrytest.Registry
	digests map[string]digest.Digest
	keys    map[string]any
}

// sign cosign|gpg KEY [IMAGE [IDENTITY]]: the registry's IMAGE:v1 is signed with the key of that name, as itself or as
// IDENTITY. KEY.pub holds the public key.
func sign(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 4 {
		ts.Fatalf("usage: sign cosign|gpg KEY [IMAGE [IDENTITY]]")
	}
	s := ts.Value("served").(*served)
	if s.keys[args[1]] == nil {
		s.keys[args[1]] = map[string]any{"cosign": policytest.NewCosign(), "gpg": policytest.NewGPG(args[1], 0)}[args[0]]
	}
	public := s.keys[args[1]].(interface{ Public() []byte }).Public()
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".pub"), public, 0o600))
	if len(args) == 2 {
		return
	}
	d, identity := s.digests[args[2]], s.Addr+"/"+args[2]+":v1"
	if len(args) == 4 {
		identity = args[3]
	}
	switch key := s.keys[args[1]].(type) {
	case *policytest.Cosign:
		policytest.Attach(s.Registry, args[2], d, key.Sign(d, identity))
	case *policytest.GPG:
		dir := filepath.Join(ts.Getenv("HOME"), ".local/share/containers/sigstore", args[2]+"@sha256="+d.Encoded())
		ts.Check(os.MkdirAll(dir, 0o700))
		ts.Check(os.WriteFile(filepath.Join(dir, "signature-1"), key.Sign(d, identity), 0o600))
	}
}

// heavy DIR: writes an OCI layout with an image, "words", of documents that take as much memory as they may, one, "layers",
// of as many layers as there can be, and one, "folders", whose folders have paths of 65 MB together.
func heavy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: heavy DIR")
	}
	words := registrytest.Simple(registrytest.File("a", "a"))
	words.Mangle = func(m *v1.Manifest, c *v1.Image) {
		m.Annotations, c.Config.Labels = map[string]string{}, map[string]string{}
		for i := range 45_000 {
			key := fmt.Sprint(i)
			m.Annotations[key], c.Config.Labels[key] = strings.Repeat("x", 60), strings.Repeat("y", 60)
		}
	}
	layers := registrytest.Image{}
	for i := range 500 {
		layers.Layers = append(layers.Layers, registrytest.Layer{Tar: registrytest.Tar(registrytest.File(fmt.Sprint(i), "x")), Compression: registrytest.Gzip})
	}
	deep := strings.Repeat(strings.Repeat("d", 250)+"/", 15)
	var all []registrytest.Entry
	for i := range 16_000 {
		all = append(all, registrytest.Dir(fmt.Sprintf("%s%0200d", deep, i)))
	}
	folders := registrytest.Simple(all...)
	ts.Check(registrytest.WriteLayout(ts.MkAbs(args[0]), map[string]registrytest.Image{"words": words, "layers": layers, "folders": folders,
		"small": registrytest.Simple()}))
}

// peak MB CMD...: runs a command, which may not hold more memory than that, with the processes that it starts. Each counts
// with the most that it had; rusage(2) has in that what the one before exec had, and so the test's own.
func peak(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: peak MB CMD...")
	}
	most, err := strconv.Atoi(args[0])
	ts.Check(err)
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TERM", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	held := map[string]*memory{}
	for err = nil; ; time.Sleep(2 * time.Millisecond) {
		select {
		case err = <-ended:
		default:
			holds(strconv.Itoa(cmd.Process.Pid), held)
			continue
		}
		break
	}
	if err != nil {
		ts.Fatalf("%s: %v", strings.Join(args[1:], " "), err)
	}
	sum := 0
	for _, m := range held {
		if m.seen > 3 { // else it may be one about to exec, whose memory is its parent's
			sum += m.kb
		}
	}
	if sum == 0 || sum>>10 > most {
		ts.Fatalf("%s took %d MB of memory, more than %d", strings.Join(args[1:], " "), sum>>10, most)
	}
}

// memory is the most that a process had, and how often it was looked at.
type memory struct{ kb, seen int }

// holds notes the memory of a process, and of those below it.
func holds(pid string, held map[string]*memory) {
	status, _ := os.ReadFile("/proc/" + pid + "/status")
	if _, rest, ok := strings.Cut(string(status), "VmHWM:"); ok {
		if kb, err := strconv.Atoi(strings.Fields(rest)[0]); err == nil {
			if held[pid] == nil {
				held[pid] = &memory{}
			}
			held[pid].kb = kb
			held[pid].seen++
		}
	}
	tasks, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			holds(child, held)
		}
	}
}

// layout DIR: writes the images into an OCI layout, each under its name as the tag.
func layout(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: layout DIR")
	}
	ts.Check(registrytest.WriteLayout(ts.MkAbs(args[0]), images()))
}

// programs DIR: writes an OCI layout with one image, "sh", that has programs of its own: this machine's shell and a few
// others, with the libraries that they need. What runs where nothing can be lent to it runs in this.
func programs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: programs DIR")
	}
	image, err := shell()
	ts.Check(err)
	ts.Check(registrytest.WriteLayout(ts.MkAbs(args[0]), map[string]registrytest.Image{"sh": image}))
	if s, ok := ts.Value("served").(*served); ok && s.Registry != nil {
		s.Add("sh:v1", image)
	}
}

var shell = sync.OnceValues(func() (registrytest.Image, error) {
	entries := []registrytest.Entry{registrytest.Dir("bin"), registrytest.Dir("etc"), registrytest.Dir("tmp"), registrytest.Dir("root"), registrytest.Dir("srv"),
		registrytest.File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/srv:/bin/sh\n"), registrytest.File("etc/group", "root:x:0:\napp:x:1000:\n")}
	seen := map[string]bool{}
	for _, name := range []string{"sh", "bash", "cat", "chown", "chmod", "env", "id", "ln", "ls", "mkdir", "mkfifo", "mv", "rm", "sleep", "stat", "touch", "true"} {
		file, err := exec.LookPath(name)
		if err != nil {
			return registrytest.Image{}, err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return registrytest.Image{}, err
		}
		entries = append(entries, registrytest.Program("bin/"+name, string(data)))
		out, _ := exec.Command("ldd", file).Output() // of a static program it says that it is one, and fails
		for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
			if seen[library] {
				continue
			}
			seen[library] = true
			if data, err = os.ReadFile(library); err != nil {
				return registrytest.Image{}, err
			}
			entries = append(entries, registrytest.Program(strings.TrimPrefix(library, "/"), string(data)))
		}
	}
	image := registrytest.Simple(entries...)
	image.Config = v1.ImageConfig{WorkingDir: "/srv", Env: []string{"PATH=/bin", "IMAGE=yes"}, Cmd: []string{"sh"}}
	return image, nil
})

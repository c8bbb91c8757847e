package signals

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets this test binary be a program that was begun in some state.
func TestMain(m *testing.M) {
	if f := programs[os.Getenv("SIGNALS_TEST")]; f != nil {
		f()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// programs say on stdout what they saw.
var programs = map[string]func(){
	"given back": func() {
		c := make(chan os.Signal, 1)
		Notify(c, unix.SIGTERM)
		raise(unix.SIGTERM)
		fmt.Println(<-c)
		Stop(c)
		raise(unix.SIGTERM)
		time.Sleep(10 * time.Second) // it has ended
	},
	"waits for USR2": func() {
		c := make(chan os.Signal, 1)
		Notify(c, unix.SIGUSR2, unix.SIGHUP)
		raise(unix.SIGHUP)
		raise(unix.SIGUSR2)
		fmt.Println(<-c)
		Stop(c)
		if len(c) > 0 {
			fmt.Println(<-c)
		}
	},
}

func raise(sig unix.Signal) { _ = unix.Kill(os.Getpid(), sig) }

// become runs one of the programs above, through a shell's or another's words before it.
func become(t *testing.T, program string, through ...string) (string, error) {
	t.Helper()
	argv := append(through, "/proc/self/exe")
	if len(through) > 0 {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		argv[len(argv)-1] = exe
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "SIGNALS_TEST="+program)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func got(t *testing.T, c <-chan os.Signal, want unix.Signal) {
	t.Helper()
	select {
	case sig := <-c:
		if sig != want {
			t.Errorf("%v came, want %v", sig, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("%v did not come", want)
	}
}

func TestNotify(t *testing.T) {
	before := action(unix.SIGUSR1)
	one, both := make(chan os.Signal, 4), make(chan os.Signal, 4)
	Notify(one, unix.SIGUSR1)
	Notify(both, unix.SIGUSR1, unix.SIGUSR2)
	Notify(both, unix.SIGUSR1) // is not twice as much
	raise(unix.SIGUSR1)
	got(t, one, unix.SIGUSR1)
	got(t, both, unix.SIGUSR1)
	raise(unix.SIGUSR2)
	got(t, both, unix.SIGUSR2)
	Stop(one)
	raise(unix.SIGUSR1)
	got(t, both, unix.SIGUSR1)
	if len(one)+len(both) > 0 {
		t.Errorf("%d came to who does not listen any more, %d twice", len(one), len(both))
	}
	if now := action(unix.SIGUSR1); now == before {
		t.Error("one who does not listen any more ended it for the other")
	}
	Stop(both)
	Stop(both)
	if now := action(unix.SIGUSR1); now != before {
		t.Errorf("the action is %+v afterwards, was %+v", now, before)
	}
}

func TestStopGivesBack(t *testing.T) {
	out, err := become(t, "given back")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGTERM || out != "terminated" {
		t.Errorf("%q, %v", out, err)
	}
}

// A signal that was ignored when the process began stays so, and one that was blocked comes.
func TestBegunWith(t *testing.T) {
	for _, through := range [][]string{{"sh", "-c", `trap "" HUP; exec "$0"`}, {"env", "--ignore-signal=HUP", "--block-signal=USR2"}} {
		if out, err := become(t, "waits for USR2", through...); err != nil || out != "user defined signal 2" {
			t.Errorf("%s: %q, %v", through, out, err)
		}
	}
}

func TestContext(t *testing.T) {
	ctx, stop := Context(context.Background(), unix.SIGUSR1)
	raise(unix.SIGUSR1)
	select {
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
		t.Error("the signal did not end the context")
	}
	stop()
	ctx, stop = Context(context.Background(), unix.SIGUSR1)
	if ctx.Err() != nil {
		t.Error("the last one's signal ended it")
	}
	stop()
	if ctx.Err() == nil {
		t.Error("it goes on after its end")
	}
}

// The handler interrupts whatever the runtime does on any thread: growing stacks, collecting, system calls, forks.
func TestNotifyAnywhere(t *testing.T) {
	c := make(chan os.Signal, 1)
	Notify(c, unix.SIGUSR1)
	defer Stop(c)
	var over atomic.Bool
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for n := 0; !over.Load(); n++ {
				deep(200)
				if n%16 == 0 {
					runtime.GC()
				}
			}
		})
	}
	work.Go(func() {
		for !over.Load() {
			if err := exec.Command("true").Run(); err != nil {
				t.Error("a command under signals:", err)
			}
		}
	})
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for range 50 {
			raise(unix.SIGUSR1)
		}
		got(t, c, unix.SIGUSR1)
	}
	over.Store(true)
	work.Wait()
}

// Where Go's runtime does not wait for the pipe, signals come all the same. It does not for one that came to it in blocking
// mode.
func TestDistributeWithoutPoller(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	pipe := os.NewFile(uintptr(ends[0]), "signals")
	defer pipe.Close()
	if err := unix.SetNonblock(ends[0], true); err != nil {
		t.Fatal(err)
	}
	c := make(chan os.Signal, 4)
	Notify(c, unix.SIGUSR2)
	defer Stop(c)
	over := make(chan struct{})
	go func() {
		distribute(pipe, ends[0])
		close(over)
	}()
	for range 2 {
		if _, err := unix.Write(ends[1], binary.NativeEndian.AppendUint32(nil, uint32(unix.SIGUSR2))); err != nil {
			t.Fatal(err)
		}
		got(t, c, unix.SIGUSR2)
	}
	_ = unix.Close(ends[1])
	<-over
}

//go:noinline
func deep(n int) byte {
	var room [256]byte
	if n == 0 {
		return 0
	}
	room[n%256] = deep(n - 1)
	return room[(n+1)%256]
}

// A run begins and ends them once each.
func BenchmarkNotify(b *testing.B) {
	c := make(chan os.Signal, 1)
	for b.Loop() {
		Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGCONT)
		Stop(c)
	}
}

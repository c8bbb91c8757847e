package stage

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// All that descends from here is stopped, with what it just starts, and goes on afterwards; what was stopped before
// stays so. A shell sees no child of its own stop.
func TestPause(t *testing.T) {
	busy := exec.Command("sh", "-c", "while :; do sh -c 'sleep .01'; done")
	job := exec.Command("sh", "-c", "sleep .6; echo waited $?")
	if bash, err := exec.LookPath("bash"); err == nil {
		job = exec.Command(bash, "-c", "set -m; sleep .6; echo waited $?") // it would tell of a stop
	}
	before := exec.Command("sleep", "100")
	var said strings.Builder
	job.Stdout, job.Stderr = io.Writer(&said), io.Writer(&said)
	for _, c := range []*exec.Cmd{busy, job, before} {
		c.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
			_ = c.Wait()
		}()
	}
	if err := unix.Kill(before.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(func() bool { return allStopped(before.Process.Pid) })
	time.Sleep(100 * time.Millisecond)
	for range 3 {
		var h holding
		if running := h.stopAll(); running != 0 {
			t.Fatalf("%d still run", running)
		}
		pids := parentsFirst()
		for _, c := range []*exec.Cmd{busy, before} {
			if !slices.Contains(pids, c.Process.Pid) {
				t.Fatalf("%d is not among %v", c.Process.Pid, pids)
			}
		}
		time.Sleep(50 * time.Millisecond)
		for _, pid := range pids {
			if !allStopped(pid) {
				t.Errorf("%d runs", pid)
			}
		}
		h.resume()
		time.Sleep(50 * time.Millisecond)
	}
	if allStopped(busy.Process.Pid) || !allStopped(before.Process.Pid) {
		t.Error("what ran does not, or what did not does")
	}
	if err := job.Wait(); err != nil || said.String() != "waited 0\n" {
		t.Errorf("%q %v", said.String(), err)
	}
}

// A release never overtakes its hold, whatever goroutine runs first.
func TestPauseInTurn(t *testing.T) {
	var h holding
	var got []int
	for n := range 1000 {
		h.inTurn(func() { got = append(got, n) })
	}
	<-h.last
	if len(got) != 1000 || !slices.IsSorted(got) {
		t.Errorf("%d, in the order %v", len(got), got)
	}
}

// Who cannot stop, however many there are, holds nobody up for longer than that, and goes on afterwards too: a process in
// vfork(2) stops when its child has done, be that after all is over.
func TestPauseVfork(t *testing.T) {
	if os.Getenv("COVE_TEST_VFORK") != "" {
		vfork()
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const many = 20
	var outs []io.Reader
	parents := map[int]bool{}
	for range many {
		c := exec.Command(self, "-test.run", "TestPauseVfork$")
		c.Env = append(os.Environ(), "COVE_TEST_VFORK=1")
		c.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
			_ = c.Wait()
		}()
		outs, parents[c.Process.Pid] = append(outs, out), true
	}
	children := func() (pids []int) {
		for _, pid := range parentsFirst() {
			if up, ok := parentOf(pid); ok && parents[up] {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	for deadline := time.Now().Add(20 * time.Second); len(children()) < many && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	began := time.Now()
	var h holding
	if running := h.stopAll(); running < many {
		t.Errorf("%d of %d run", running, many)
	}
	if took := time.Since(began); took > holdTime+time.Second {
		t.Errorf("it took %v", took)
	}
	h.resume()
	for _, pid := range children() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	for _, out := range outs {
		said := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(out)
			said <- string(b)
		}()
		select {
		case s := <-said:
			if s != "on" {
				t.Errorf("%q", s)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it stays stopped")
		}
	}
}

// vfork waits for a child that waits for a signal.
func vfork() {
	runtime.LockOSThread()
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_VFORK|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && errno == 0 {
		for {
			_, _, _ = syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
	}
	_, _ = os.Stdout.WriteString("on")
	os.Exit(0)
}

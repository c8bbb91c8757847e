package stage

import (
	"io"
	"os/exec"
	"slices"
	"strings"
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

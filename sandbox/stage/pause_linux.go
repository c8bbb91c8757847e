package stage

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Processes are stopped by SIGSTOP, since a sandbox need not have a control group to freeze. A shell that saw its child
// stop would take it for ^Z, and say so: so the parents are stopped before their children, each being waited for, and go
// on after them. A parent that was stopped asks its wait(2) again, and of a child that runs on by then the kernel tells
// no stop (wait_task_stopped).

// holding is what is stopped.
type holding struct {
	last    chan struct{} // closed when what came last has been done; the listener's own
	mu      sync.Mutex
	paused  bool
	stopped []int // parents first: all that were told to stop, for who could not at once does later
}

const (
	holdTime = 3 * time.Second        // to stop all
	stopTime = 200 * time.Millisecond // for one to stop, or to go on
)

// inTurn does one thing after the other, and does not keep the listener: a release that overtook its hold would leave all
// standing for good.
func (h *holding) inTurn(do func()) {
	before, done := h.last, make(chan struct{})
	h.last = done
	go func() {
		if before != nil {
			<-before
		}
		do()
		close(done)
	}()
}

// hold stops all processes, and answers with what there is to know of the root file system.
func (i *initStage) hold(h *spec.Hold) {
	i.held.mu.Lock()
	defer i.held.mu.Unlock()
	answer := &spec.Held{Placed: i.placed}
	if h.Pause && !i.held.paused {
		i.held.paused = true
		i.spawner.gate.Lock()
		i.reaper.setQuiet(true)
		answer.Running = i.held.stopAll()
	}
	if i.spec.Root.Kind == spec.RootFuse {
		// What was written by way of a mapping lies in the kernel until then.
		if root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			_ = unix.Syncfs(root)
			_ = unix.Close(root)
		}
	}
	_ = i.control.Send(spec.FromInit{Held: answer})
}

// release lets them go on.
func (i *initStage) release() {
	i.held.mu.Lock()
	defer i.held.mu.Unlock()
	if !i.held.paused {
		return
	}
	i.held.resume()
	i.held.paused = false
	time.Sleep(20 * time.Millisecond) // the reaper may just be telling of a stop
	i.reaper.setQuiet(false)
	i.spawner.gate.Unlock()
}

func (r *reaper) setQuiet(quiet bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet = quiet
}

// stopAll goes through all processes until there is none that runs, and returns how many still do.
func (h *holding) stopAll() (running int) {
	known := map[int]bool{}
	told := map[int]bool{}
	for deadline := time.Now().Add(holdTime); ; {
		running = 0
		for _, pid := range parentsFirst() {
			if known[pid] || allStopped(pid) {
				continue // by us, or before
			}
			_ = unix.Kill(pid, unix.SIGSTOP)
			if !told[pid] {
				told[pid] = true
				h.stopped = append(h.stopped, pid)
			}
			// A parent in vfork(2) stops when its child has done, which that decides; there may be many.
			if time.Now().Before(deadline) && await(func() bool { return allStopped(pid) }) {
				known[pid] = true
			} else {
				running++
			}
		}
		if running == 0 && !anyRuns(known) || time.Now().After(deadline) {
			break
		}
	}
	return running
}

// resume has them go on, children first.
func (h *holding) resume() {
	for n := len(h.stopped) - 1; n >= 0; n-- {
		pid := h.stopped[n]
		_ = unix.Kill(pid, unix.SIGCONT)
		await(func() bool { return !allStopped(pid) })
	}
	h.stopped = nil
}

// anyRuns tells of a process that was not there before.
func anyRuns(known map[int]bool) bool {
	for _, pid := range parentsFirst() {
		if !known[pid] && !allStopped(pid) {
			return true
		}
	}
	return false
}

func await(done func() bool) bool {
	for deadline := time.Now().Add(stopTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if done() {
			return true
		}
	}
	return done()
}

// parentsFirst lists the processes that descend from this one, which in a sandbox are all, each after its parent.
func parentsFirst() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			if parent, ok := parentOf(pid); ok {
				children[parent] = append(children[parent], pid)
			}
		}
	}
	var out []int
	next := children[os.Getpid()]
	for len(next) > 0 {
		pid := next[0]
		next = append(next[1:], children[pid]...)
		out = append(out, pid)
	}
	return out
}

// allStopped tells that no thread of a process runs: all are stopped (proc_pid_stat(5): T, t), or it is gone.
func allStopped(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, err := os.ReadDir(dir)
	if err != nil {
		return true
	}
	for _, t := range tasks {
		b, err := os.ReadFile(dir + "/" + t.Name() + "/stat")
		if err != nil {
			continue
		}
		text := string(b)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		if len(fields) > 0 && !strings.Contains("TtZX", fields[0]) {
			return false
		}
	}
	return true
}

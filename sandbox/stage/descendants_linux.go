package stage

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// endTime bounds the hunt for what a command left; one that forks without end and faster than that is left, confined as it is.
const endTime = 8 * time.Second

// endDescendants kills every process that descends from this one, which is their reaper when their parents end. Who is seen
// is first kept from forking, so that even a fork bomb has an end.
func endDescendants() {
	for deadline := time.Now().Add(endTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !killDescendants() {
			return
		}
	}
}

// killDescendants goes through all processes once, and reports whether there was one to kill.
func killDescendants() bool {
	parents := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if parent, ok := parentOf(pid); ok {
				parents[pid] = parent
			}
		}
	}
	ours := map[int]bool{os.Getpid(): true}
	for grew := true; grew; {
		grew = false
		for pid, parent := range parents {
			if ours[parent] && !ours[pid] {
				ours[pid], grew = true, true
			}
		}
	}
	delete(ours, os.Getpid())
	for pid := range ours {
		killOne(pid, ours)
	}
	return len(ours) > 0
}

// killOne kills a process that is still what it was seen as: by the time its number may be another's.
func killOne(pid int, ours map[int]bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if parent, ok := parentOf(pid); !ok || parent != os.Getpid() && !ours[parent] {
		return
	}
	_ = unix.Prlimit(pid, unix.RLIMIT_NPROC, &unix.Rlimit{}, nil)
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// parentOf reads the parent's number of proc_pid_stat(5); a process that has ended and waits to be reaped has none.
func parentOf(pid int) (int, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// "pid (name) state ppid ...": a name may hold anything.
	text := string(b)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	parent, err := strconv.Atoi(fields[1])
	return parent, err == nil
}

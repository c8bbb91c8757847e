package stage

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFiles is the most descriptors that a program inside may open. Programs that close every number there could be, as
// old ones do, take minutes where a container engine has set the limit to a thousand million.
const maxFiles = 1 << 20

// maxSignals is how many signals may wait for the processes inside. They count among those of the caller's outside, who
// has a limit too (96 000 on a machine with 24 GB): a program inside that uses all of that up, by sending real-time
// signals to who blocks them, keeps others of the caller's from working, cove's among them.
const maxSignals = 4096

// oomScore is what is added to the caller's own score (proc_pid_oom_score_adj(5)): when the machine is out of memory,
// what runs inside ends before what the caller has outside.
const oomScore = 200

// limitSelf sets what everything inside inherits from init, and what takes neither ids nor a Spec. What the kernel
// refuses here keeps nothing in and nothing out: the sandbox is made all the same.
func limitSelf() {
	// Where core_pattern(5) is a pipe, the kernel dumps all the same, and to the host.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil && files.Max > maxFiles {
		// The soft limit that the caller had is hidden by Go's runtime, which raises its own. 1024 is systemd's and the kernel's,
		// and what select(2) can count to; programs that need more raise it themselves.
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: maxFiles})
	}
	var waiting unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_SIGPENDING, &waiting) == nil && waiting.Max > maxSignals {
		_ = unix.Setrlimit(unix.RLIMIT_SIGPENDING, &unix.Rlimit{Cur: maxSignals, Max: maxSignals})
	}
	raiseOOMScore()
}

func raiseOOMScore() {
	// The file is ours to write until init makes itself not dumpable.
	fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	buf := make([]byte, 16)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return
	}
	_, _ = unix.Pwrite(fd, []byte(strconv.Itoa(min(score+oomScore, 1000))), 0)
}

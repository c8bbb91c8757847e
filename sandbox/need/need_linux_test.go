package need

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestEnough(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if text := lacking(); text != "" {
		t.Errorf("here is too little of something: %s", text)
	}
}

// Each limit that is lowered is told, with its number.
func TestLacking(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, c := range []struct {
		resource int
		limit    unix.Rlimit // the hard limit stays, but for the descriptors
		want     string
	}{
		{unix.RLIMIT_AS, unix.Rlimit{Cur: 899 << 20}, "it may have 899 MB of address space (ulimit -v), and needs 900"},
		{unix.RLIMIT_SIGPENDING, unix.Rlimit{Cur: 7}, "your processes may have 7 signals waiting (ulimit -i), and not 8 of these are left"},
		{unix.RLIMIT_NPROC, unix.Rlimit{Cur: 3}, "it may have 3 processes and threads (ulimit -u), has "},
	} {
		if c.resource == unix.RLIMIT_NPROC && os.Geteuid() == 0 {
			continue // not held to it
		}
		var old unix.Rlimit
		if err := unix.Getrlimit(c.resource, &old); err != nil {
			t.Fatal(err)
		}
		c.limit.Max = old.Max
		if err := unix.Setrlimit(c.resource, &c.limit); err != nil {
			t.Fatal(err)
		}
		text := lacking()
		if err := unix.Setrlimit(c.resource, &old); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text, c.want) {
			t.Errorf("%q, want %q", text, c.want)
		}
	}
}

// What one program has waiting is missing to all of the user's, which is what a start would hang for: Go's runtime sends a
// signal to each thread, and waits until it has come.
func TestSignalsUsedUp(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread, and what waits for it, ends with this test
	const sig = 41
	block := uint64(1) << (sig - 1)
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&block)), 0, 8, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_SIGPENDING, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &unix.Rlimit{Cur: min(64, old.Max), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := unix.Tgkill(unix.Getpid(), unix.Gettid(), sig); err != nil {
			break
		}
	}
	text := lacking()
	if err := unix.Setrlimit(unix.RLIMIT_SIGPENDING, &old); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "signals waiting") {
		t.Errorf("%q", text)
	}
	if !canQueue(signals) {
		t.Error("with the limit as it was no signal can wait")
	}
}

func TestCounts(t *testing.T) {
	before := openDescriptors(512)
	f, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	if n := openDescriptors(512); n != before+1 {
		t.Errorf("%d descriptors, and %d with one more", before, n)
	}
	f.Close()
	if n := ownTasks(os.Getuid()); n < 2 {
		t.Errorf("we are %d threads, of which Go's runtime alone has more", n)
	}
	if uid, threads := tasksOf([]byte("Name:\tx\nUid:\t1001\t0\t0\t0\nThreads:\t12\n")); uid != 1001 || threads != 12 {
		t.Errorf("uid %d, %d threads", uid, threads)
	}
	for _, text := range []string{"", "Name:\tx\nUid:\t", "Name:\tx\nUid:\tx\n"} {
		if uid, threads := tasksOf([]byte(text)); uid != -1 || threads != 0 {
			t.Errorf("%q: uid %d, %d threads", text, uid, threads)
		}
	}
	runtime.KeepAlive(f)
}

func TestCode(t *testing.T) {
	for line, want := range map[string]int{"": 125, "cove": 1, "cove run -- true": 125, "cove exec x y": 125, "cove images": 1, "cove --debug run": 1} {
		if got := code(strings.Fields(line)); got != want {
			t.Errorf("%s: %d, want %d", line, got, want)
		}
	}
}

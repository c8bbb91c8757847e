package stage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// A protected path is a mount on a file or folder of the workspace. When a program outside replaces
// that by a rename, as many editors and git do, the kernel takes the mount away with it (since
// Linux 3.18), and what is there now can be written inside. That cannot be kept from happening; it
// is told to whoever works in the sandbox.

// watch is the mount table as it is read to see whether a protected path is still protected.
type watch struct {
	// A descriptor of /proc/self/mountinfo, which polls as changed when mounts come and go (proc_pid_mountinfo(5)). It is
	// no os.File: Go's runtime would have it in its epoll set, and of two that poll only one is told.
	table int
	paths []string // of the mounts, absolute
}

func newWatch(views []spec.Below) (*watch, error) {
	if len(views) == 0 {
		return nil, nil
	}
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /proc/self/mountinfo", err)
	}
	w := &watch{table: table}
	for _, v := range views {
		for _, name := range v.Paths {
			w.paths = append(w.paths, path.Join(string(v.Target), string(name)))
		}
	}
	return w, nil
}

// run tells of each path once, when its mount is gone; and when that cannot be known any more, it tells that.
func (w *watch) run(tell func(text string)) {
	for len(w.paths) > 0 {
		fds := []unix.PollFd{{Fd: int32(w.table), Events: unix.POLLPRI}}
		_, err := unix.Poll(fds, -1)
		var table []byte
		if err == nil || errors.Is(err, unix.EINTR) {
			table, err = w.read()
		}
		if err != nil {
			tell(fmt.Sprintf("the protected paths cannot be watched any more (%v): one that is replaced outside can be written inside, and that is not told", err))
			return
		}
		left := w.paths[:0]
		for _, name := range w.paths {
			if mounted(table, name) {
				left = append(left, name)
				continue
			}
			tell(fmt.Sprintf("%q was replaced outside, and can be written inside until the sandbox is started again", name))
		}
		w.paths = left
	}
}

// read reads the table by the descriptor that is there: a command that is root inside may lower init's limits (prlimit(2)),
// so that it could open no other.
func (w *watch) read() ([]byte, error) {
	var table []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Pread(w.table, buf, int64(len(table)))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, os.NewSyscallError("read /proc/self/mountinfo", err)
		case n == 0:
			return table, nil
		default:
			table = append(table, buf[:n]...)
		}
	}
}

// mounted reports whether name is a mount point in the table.
func mounted(table []byte, name string) bool {
	want := []byte(escapeMount(name))
	for line := range bytes.Lines(table) {
		if fields := bytes.Fields(line); len(fields) > 4 && bytes.Equal(fields[4], want) {
			return true
		}
	}
	return false
}

// escapeMount writes a name as the mount table does: in octal what would end a field.
func escapeMount(name string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(name)
}

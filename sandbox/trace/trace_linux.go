// Package trace writes down when the steps of a start were done, for whoever looks for where its time goes: a line of
// CLOCK_MONOTONIC's nanoseconds, the process and the step each, in the file that COVE_TRACE names.
//
// A step costs a system call or two when somebody looks, and a comparison otherwise. Nothing reaches what runs inside:
// init has the file by a descriptor that it closes before it forks the first command.
package trace

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Variable names the file, Descriptor the descriptor that a stage inherits instead.
const (
	Variable   = "COVE_TRACE"
	Descriptor = "COVE_TRACE_FD"
)

var (
	fd  = -1
	who = ""
)

// Open begins, when somebody asked for it. Role is how this process is called in the file. It returns the file to hand on.
func Open(role string) *os.File {
	name := os.Getenv(Variable)
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil
	}
	fd, who = int(f.Fd()), role
	return f
}

// Inherit goes on in a stage.
func Inherit(role string) {
	if n, err := strconv.Atoi(os.Getenv(Descriptor)); err == nil {
		unix.CloseOnExec(n)
		fd, who = n, role
	}
}

// Step writes down that something is done now.
func Step(what string) {
	if fd < 0 {
		return
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	line := make([]byte, 0, 64)
	line = strconv.AppendInt(line, now.Nano(), 10)
	line = append(line, ' ')
	line = append(line, who...)
	line = append(line, ' ')
	line = append(line, what...)
	line = append(line, '\n')
	_, _ = unix.Write(fd, line)
}

// Close ends it in this process.
func Close() {
	if fd >= 0 {
		_ = unix.Close(fd)
		fd = -1
	}
}

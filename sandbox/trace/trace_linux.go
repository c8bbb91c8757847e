// Package trace writes down when the steps of a start were done, for whoever looks for where its time goes: a line of
// CLOCK_MONOTONIC's nanoseconds, the process and the step each, in the file that COVE_TRACE names.
//
// A step costs two system calls when somebody looks, and a comparison otherwise. Nothing reaches what runs inside: init
// has the file by a descriptor that it closes on exec. It imports syscall alone, for the sake of package early.
package trace

import (
	"strconv"
	"syscall"
	"unsafe"
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

// Open begins, when somebody asked for it. Role is how this process is called in the file.
func Open(role string) {
	name, _ := syscall.Getenv(Variable)
	if name == "" {
		return
	}
	f, err := syscall.Open(name, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CREAT|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err == nil {
		fd, who = f, role
	}
}

// File is the descriptor to hand on to a stage; -1 when nobody looks.
func File() int { return fd }

// Inherit goes on in a stage.
func Inherit(role string) {
	if n, _ := syscall.Getenv(Descriptor); len(n) == 1 && n[0] > '2' && n[0] <= '9' {
		fd, who = int(n[0]-'0'), role
		syscall.CloseOnExec(fd)
	}
}

// Step writes down that something is done now.
func Step(what string) {
	if fd < 0 {
		return
	}
	const clockMonotonic = 1
	var now syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	line := strconv.AppendInt(make([]byte, 0, 80), now.Nano(), 10)
	line = append(line, ' ')
	line = append(line, who...)
	line = append(line, ' ')
	line = append(line, what...)
	line = append(line, '\n')
	_, _ = syscall.Write(fd, line)
}

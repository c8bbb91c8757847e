// Package memory gives back what a process needed to start, once it only waits. A sandbox may idle
// for days with two processes of cove's beside it.
package memory

import (
	"bytes"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wait is how long a sandbox has to last before its memory is worth the time: most commands are short.
const wait = 300 * time.Millisecond

// GiveBackSoon gives memory back after a while, unless the process ends before.
func GiveBackSoon() { time.AfterFunc(wait, giveBack) }

// giveBack lets go of the pages of this program's file, which are two thirds of what it has: they stay in the
// page cache, and those that are still wanted come back one by one (madvise(2), MADV_DONTNEED). The heap is
// small, and a collection of it would take more memory than it frees.
func giveBack() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for line := range bytes.Lines(maps) {
		if from, size, ok := unwritten(line, exe); ok {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, size, unix.MADV_DONTNEED)
		}
	}
}

// unwritten finds in a line of /proc/PID/maps (proc_pid_maps(5)) a mapping of the file exe that nothing can have
// been written to: what was written to would be lost.
func unwritten(line []byte, exe string) (from, size uintptr, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) < 6 || !bytes.HasSuffix(bytes.TrimRight(line, "\n"), []byte(" "+exe)) || bytes.IndexByte(fields[1], 'w') >= 0 {
		return 0, 0, false
	}
	start, end, _ := bytes.Cut(fields[0], []byte("-"))
	a, err1 := strconv.ParseUint(string(start), 16, int(8*unsafe.Sizeof(from)))
	b, err2 := strconv.ParseUint(string(end), 16, int(8*unsafe.Sizeof(from)))
	if err1 != nil || err2 != nil || b <= a {
		return 0, 0, false
	}
	return uintptr(a), uintptr(b - a), true
}

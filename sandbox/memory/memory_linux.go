// Package memory gives back what a process needed to start, once it only waits. A sandbox may idle
// for days with two processes of cove's beside it.
package memory

import (
	"bytes"
	"os"
	"strconv"
	"time"

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
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for _, m := range unwritten(smaps, exe) {
		m.part()
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.size, unix.MADV_DONTNEED)
	}
}

// partSize is of what comes back for a page that is wanted, at most.
const partSize = 256 << 10

// part divides a mapping, by an advice that every other part has and that is nothing to a file's pages otherwise. The page cache may have the file
// in pieces of two megabytes, and since Linux 6.18 the first page that is wanted brings back all of its piece, as far as the mapping goes.
func (m mapping) part() {
	for at := uintptr(0); at < m.size; at += 2 * partSize {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from+at, min(partSize, m.size-at), unix.MADV_NOHUGEPAGE)
	}
}

// mapping is a range of addresses.
type mapping struct{ from, size uintptr }

// unwritten lists the mappings of the file exe in /proc/PID/smaps (proc_pid_smaps(5)) that nothing can be
// written to and nothing was: what was written to would be lost. A read-only one may have been: a
// dynamic linker fills in addresses before it takes the right to write away (RELRO).
func unwritten(smaps []byte, exe string) []mapping {
	var out []mapping
	var m mapping
	candidate := false
	for line := range bytes.Lines(smaps) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if rest, ok := bytes.CutPrefix(line, []byte("Anonymous:")); ok {
			if candidate && string(bytes.Join(bytes.Fields(rest), []byte(" "))) == "0 kB" {
				out = append(out, m)
			}
			candidate = false
			continue
		}
		if from, size, perms, ok := header(line); ok {
			m = mapping{from, size}
			candidate = perms == "r-xp" || perms == "r--p"
			candidate = candidate && bytes.HasSuffix(line, []byte(" "+exe))
		}
	}
	return out
}

// header takes the first line of a mapping apart: "00400000-00800000 r-xp 00000000 fe:00 12 /usr/bin/cove".
func header(line []byte) (from, size uintptr, perms string, ok bool) {
	fields := bytes.Fields(line)
	if len(fields) < 5 || bytes.HasSuffix(fields[0], []byte(":")) {
		return 0, 0, "", false
	}
	start, end, _ := bytes.Cut(fields[0], []byte("-"))
	a, err1 := strconv.ParseUint(string(start), 16, strconv.IntSize)
	b, err2 := strconv.ParseUint(string(end), 16, strconv.IntSize)
	if err1 != nil || err2 != nil || b <= a {
		return 0, 0, "", false
	}
	return uintptr(a), uintptr(b - a), string(fields[1]), true
}

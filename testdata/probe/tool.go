package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// toolChecks go for the tool's own processes that are within reach, process 1 and a terminal session's leader, and for
// the file that they run, which is the host's (CVE-2019-5736).
func toolChecks() []check {
	list := []check{
		{"init-ptrace-attach", tool, others(func(pid int) error { return attached(pid, unix.PtraceAttach(pid)) })},
		{"init-ptrace-seize", tool, others(func(pid int) error {
			err := unix.PtraceSeize(pid)
			if err == nil {
				err = unix.PtraceInterrupt(pid)
			}
			return attached(pid, err)
		})},
		{"init-memory-read", tool, others(func(pid int) error {
			buf := make([]byte, 8)
			_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
			return accessOnly(err)
		})},
		{"init-memory-write", tool, others(func(pid int) error {
			buf := make([]byte, 8)
			_, err := unix.ProcessVMWritev(pid, []unix.Iovec{{Base: &buf[0], Len: 8}}, []unix.RemoteIovec{{Base: 0x10, Len: 8}}, 0)
			return accessOnly(err)
		})},
		{"init-descriptor-taken", tool, others(func(pid int) error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			for n := range 16 {
				if _, err = unix.PidfdGetfd(fd, n, 0); err == nil {
					return nil
				}
			}
			return err
		})},
		{"init-compared", tool, others(func(pid int) error {
			return errnoOf(call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), 0, 0, 3))
		})},
		{"init-pages-moved", tool, others(func(pid int) error {
			return errnoOf(call(unix.SYS_MOVE_PAGES, uintptr(pid), 0, 0, 0, 0, 0))
		})},
		{"init-advised", tool, others(func(pid int) error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			vec := unix.RemoteIovec{Base: 0x400000, Len: 4096}
			return errnoOf(call(440, uintptr(fd), uintptr(unsafe.Pointer(&vec)), 1, 20 /* MADV_COLD */, 0))
		})},
		{"init-robust-list", tool, others(func(pid int) error {
			var head, length uintptr
			return errnoOf(call(unix.SYS_GET_ROBUST_LIST, uintptr(pid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&length))))
		})},
		{"init-namespaces", tool, others(func(pid int) error {
			_, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
			return err
		})},
	}
	for _, name := range []string{"mem", "environ", "maps", "smaps", "auxv", "exe", "stack", "syscall", "pagemap", "io", "personality", "timers"} {
		list = append(list, check{"init-proc-" + name, tool, others(func(pid int) error {
			f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
			if err != nil {
				return err
			}
			defer f.Close()
			if name == "mem" || name == "pagemap" {
				return nil // that it opened says it
			}
			n, err := f.Read(make([]byte, 64))
			if n == 0 && err == nil {
				err = unix.ENODATA
			}
			return err
		})})
	}
	for _, name := range []string{"root", "cwd"} {
		list = append(list, check{"init-proc-" + name, tool, others(func(pid int) error {
			_, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s/", pid, name))
			return err
		})})
	}
	for _, name := range []string{"fd", "fdinfo", "map_files"} {
		list = append(list, check{"init-proc-" + name, tool, others(func(pid int) error {
			dir := fmt.Sprintf("/proc/%d/%s", pid, name)
			d, err := os.Open(dir)
			if err != nil {
				return err
			}
			defer d.Close()
			// Their numbers alone, which the kernel lets root of the namespace see, say nothing.
			names, err := d.Readdirnames(-1)
			for _, n := range names {
				if _, err = os.Readlink(dir + "/" + n); err == nil {
					return nil
				}
				var f *os.File
				if f, err = os.Open(dir + "/" + n); err == nil {
					f.Close()
					return nil
				}
			}
			if err == nil {
				err = unix.ENOENT
			}
			return err
		})})
	}
	return append(list, []check{
		{"init-memory-opened", tool, others(func(pid int) error {
			f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
			if err == nil {
				f.Close()
			}
			return err
		})},
		{"init-killed", tool, func(*bait) (string, string) {
			if os.Getppid() == 1 && os.Getpid() == 1 || own(1) {
				return held("process 1 is the command itself")
			}
			for sig := unix.Signal(1); sig < 65; sig++ {
				if sig == unix.SIGCONT {
					continue
				}
				_ = unix.Kill(1, sig)
			}
			if err := unix.Kill(1, 0); err == unix.ESRCH {
				return open("it is gone")
			}
			// Were it gone, nobody would be told this: the kernel ends the namespace with it.
			return held("it lives after 63 signals")
		}},
		{"tool-file-write", tool, func(b *bait) (string, string) {
			for _, pid := range pids() {
				names, _ := filepath.Glob("/proc/" + pid + "/task/*/exe")
				for _, name := range append(names, "/proc/"+pid+"/exe") {
					if ok, how := writesTool(name, b); ok {
						return open("%s by %s", name, how)
					}
				}
			}
			return held("no process within reach has a file that is the tool's and could be written")
		}},
		{"tool-file-by-path", tool, func(b *bait) (string, string) {
			var st unix.Stat_t
			if unix.Stat(b.Tool, &st) != nil {
				return held("%s is not to be seen", b.Tool)
			}
			if st.Dev != b.ToolFile[0] || st.Ino != b.ToolFile[1] {
				return held("%s is another file here", b.Tool)
			}
			if err := appendTo(b.Tool); err == nil {
				return open("%s can be written", b.Tool)
			}
			if unix.Access(filepath.Dir(b.Tool), unix.W_OK) == nil {
				other := b.Tool + ".probe"
				if unix.Rename(b.Tool, other) == nil {
					_ = unix.Rename(other, b.Tool)
					return open("%s can be replaced", b.Tool)
				}
			}
			return held("it is seen, and read-only")
		}},
		{"tool-file-in-maps", tool, func(b *bait) (string, string) {
			for _, pid := range pids() {
				names, _ := filepath.Glob("/proc/" + pid + "/map_files/*")
				for _, name := range names {
					if ok, how := writesTool(name, b); ok {
						return open("%s by %s", name, how)
					}
				}
			}
			return held("no mapping leads there")
		}},
		{"tool-passed-over", tool, func(b *bait) (string, string) {
			return passOver(b)
		}},
	}...)
}

// others tries f on the processes that the tool made and that are within reach: process 1 and those above this one.
func others(f func(pid int) error) func(*bait) (string, string) {
	return func(*bait) (string, string) {
		var last error
		tried := 0
		for _, pid := range above() {
			tried++
			if last = f(pid); last == nil {
				return open("process %d (%s)", pid, status(fmt.Sprintf("/proc/%d/status", pid))["Name"])
			}
		}
		if tried == 0 {
			return held("process 1 is the command itself")
		}
		return held("%d processes: %v", tried, last)
	}
}

// attached lets go of a process that could be traced: one that stays stopped is of no use to those that come after.
func attached(pid int, err error) error {
	if err == nil {
		_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
		_ = unix.PtraceDetach(pid)
		_ = unix.Kill(pid, unix.SIGCONT)
	}
	return err
}

// above lists process 1 and the processes that this one descends from, but for those of this program.
func above() []int {
	var out []int
	for pid := os.Getpid(); pid > 0; {
		if !own(pid) {
			out = append(out, pid)
		}
		if pid == 1 {
			return out
		}
		pid, _ = strconv.Atoi(status(fmt.Sprintf("/proc/%d/status", pid))["PPid"])
	}
	if !own(1) {
		out = append(out, 1)
	}
	return out
}

// own reports whether the process runs our program: an attempt on ourselves says nothing.
func own(pid int) bool {
	var ours, theirs unix.Stat_t
	if unix.Stat("/proc/self/exe", &ours) != nil {
		return false
	}
	if unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &theirs) != nil {
		return false
	}
	return ours.Dev == theirs.Dev && ours.Ino == theirs.Ino
}

// accessOnly makes an error of the address, which means that the process could be reached, none.
func accessOnly(err error) error {
	if err == unix.EFAULT || err == unix.EIO {
		return nil
	}
	return err
}

// writesTool tries to open what name leads to for writing, in each way there is, if it is the tool's file.
func writesTool(name string, b *bait) (bool, string) {
	var st unix.Stat_t
	if unix.Stat(name, &st) != nil || st.Dev != b.ToolFile[0] || st.Ino != b.ToolFile[1] {
		return false, ""
	}
	for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_APPEND, unix.O_WRONLY | unix.O_TRUNC} {
		if fd, err := unix.Open(name, flags, 0); err == nil || err == unix.ETXTBSY {
			unix.Close(fd)
			return true, fmt.Sprintf("open: %v", err)
		}
	}
	fd, err := unix.Open(name, unix.O_PATH, 0)
	if err != nil {
		return false, ""
	}
	defer unix.Close(fd)
	// ETXTBSY says that only its running keeps it from being written, and it will not run for ever.
	if again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY, 0); err == nil || err == unix.ETXTBSY {
		unix.Close(again)
		return true, fmt.Sprintf("a descriptor: %v", err)
	}
	if unix.Fchmodat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), 0o777, 0) == nil {
		return true, "chmod"
	}
	if unix.Linkat(fd, "", unix.AT_FDCWD, b.Work+"/tool", unix.AT_EMPTY_PATH) == nil {
		return true, "linkat"
	}
	return false, ""
}

// passOver gives a sandbox of the same folder descriptors that one alone has no use for, and sees what the other can do
// with them. The other one is lay's second start of the tool, in the mode `receive`.
func passOver(b *bait) (string, string) {
	if !b.grants("partner") {
		return cannot("it was started alone")
	}
	cmd := exec.Command("/proc/self/exe", "send", b.Work+"/partner")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return cannot("%v: %s", err, out)
	}
	if text := string(out); text != "" {
		return open("%s", text)
	}
	return held("roots, namespaces, process descriptors and programs of the one were of no use to the other")
}

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// most is what DESIGN gives root inside at most: docker's set without NET_RAW, MKNOD and AUDIT_WRITE.
const most = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_KILL | 1<<unix.CAP_SETGID |
	1<<unix.CAP_SETUID | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SETFCAP

// rightsChecks are about what this process and those beside it may do, and about getting more.
func rightsChecks() []check {
	capSet := func(field string, allowed func() uint64) func(*bait) (string, string) {
		return func(*bait) (string, string) {
			got, err := strconv.ParseUint(status("/proc/self/status")[field], 16, 64)
			if err != nil {
				return cannot("%v", err)
			}
			if extra := got &^ allowed(); extra != 0 {
				return open("%#x more than it should be", extra)
			}
			return held("%#x", got)
		}
	}
	zero := func() uint64 { return 0 }
	some := func() uint64 { return most }
	byUser := func() uint64 {
		if os.Geteuid() == 0 {
			return most
		}
		return 0
	}
	return []check{
		{"caps-inheritable", rights, capSet("CapInh", zero)},
		{"caps-ambient", rights, capSet("CapAmb", zero)},
		{"caps-bounding", rights, capSet("CapBnd", some)},
		{"caps-permitted", rights, capSet("CapPrm", byUser)},
		{"caps-effective", rights, capSet("CapEff", byUser)},
		{"caps-raised", rights, func(*bait) (string, string) {
			head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			full := ^uint32(0)
			data := [2]unix.CapUserData{{Effective: full, Permitted: full, Inheritable: full}, {Effective: 1<<9 - 1, Permitted: 1<<9 - 1, Inheritable: 1<<9 - 1}}
			if err := unix.Capset(&head, &data[0]); err == nil {
				return open("capset gave all of them")
			}
			for c := range 41 {
				if most&(1<<c) == 0 && unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0) == nil {
					return open("capability %d became ambient", c)
				}
			}
			return held("neither capset nor PR_CAP_AMBIENT_RAISE gives one")
		}},
		{"no-new-privs", rights, func(*bait) (string, string) {
			n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
			if n != 1 {
				return open("%d, %v", n, err)
			}
			return held("set")
		}},
		{"no-new-privs-everywhere", rights, everyTask("NoNewPrivs", "1")},
		{"no-new-privs-cleared", rights, func(*bait) (string, string) {
			_ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)
			if n, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); n != 1 {
				return open("it is not set any more, or was never")
			}
			return held("it stays")
		}},
		{"seccomp", rights, func(*bait) (string, string) {
			if got := status("/proc/self/status")["Seccomp"]; got != "2" {
				return open("mode %s", got)
			}
			return held("a filter")
		}},
		{"seccomp-everywhere", rights, everyTask("Seccomp", "2")},
		{"dumpable-init", rights, func(*bait) (string, string) {
			for _, pid := range above() {
				// The files of a process that is not dumpable are root's, whoever it runs as.
				var st unix.Stat_t
				name := fmt.Sprintf("/proc/%d/environ", pid)
				if unix.Stat(name, &st) == nil && unix.Access(name, unix.R_OK) == nil {
					if f, err := os.Open(name); err == nil {
						f.Close()
						return open("process %d", pid)
					}
				}
			}
			return held("no process of the tool's is")
		}},
		{"setuid-program", rights, func(*bait) (string, string) {
			if os.Geteuid() == 0 {
				return asOther()
			}
			for _, name := range []string{"/suid-probe", "/usr/bin/suid-probe"} {
				if out, err := exec.Command(name, "suid").Output(); err == nil && strings.HasPrefix(string(out), "0 ") {
					return open("%s: %s", name, out)
				}
			}
			for _, name := range []string{"/usr/bin/su", "/usr/bin/mount", "/usr/bin/newuidmap", "/usr/bin/passwd", "/usr/bin/chsh", "/usr/bin/sudo", "/usr/bin/fusermount3", "/usr/bin/bwrap"} {
				if v, why := starts(name, 0); v != "" {
					return open("%s", why)
				}
			}
			return held("none gave another user's id")
		}},
		{"setuid-made", rights, func(*bait) (string, string) {
			// A copy of our own with the bit: whoever runs it must stay who they are.
			return madeProgram(func(name string) error { return unix.Chmod(name, 0o6755) })
		}},
		{"file-capabilities", rights, func(*bait) (string, string) {
			return madeProgram(func(name string) error {
				all := []byte{1, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 1, 0, 0, 0, 0, 0, 0}
				return unix.Setxattr(name, "security.capability", all, 0)
			})
		}},
		{"ids-root-of-host", rights, func(b *bait) (string, string) {
			// The kernel's own files belong to root of the first user namespace, who is nobody where not mapped.
			var st unix.Stat_t
			if err := unix.Stat("/proc/version", &st); err != nil {
				return cannot("%v", err)
			}
			if st.Uid != 65534 || st.Gid != 65534 {
				return open("root of the host is %d:%d here", st.Uid, st.Gid)
			}
			return held("root of the host is nobody here")
		}},
		{"ids-unmapped", rights, func(*bait) (string, string) {
			for _, id := range []int{65536 * 2, 1 << 30, 4294967294} {
				if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, uintptr(id), uintptr(id), uintptr(id)); errno == 0 {
					return open("became %d, which is not mapped", id)
				}
			}
			return held("no id outside the mapping can be taken")
		}},
		{"ids-map-written", rights, func(*bait) (string, string) {
			for _, name := range []string{"/proc/self/uid_map", "/proc/self/gid_map", "/proc/1/uid_map"} {
				if err := os.WriteFile(name, []byte("0 0 1\n"), 0); err == nil {
					return open("%s was written", name)
				}
			}
			return held("the maps are written once")
		}},
		{"ids-groups-dropped", rights, func(*bait) (string, string) {
			// With setgroups allowed to one who is not root, a group that is denied something could be left.
			if os.Geteuid() == 0 {
				return held("root may")
			}
			if _, _, errno := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno == 0 {
				return open("setgroups")
			}
			return held("refused")
		}},
		{"priority-nice", rights, func(*bait) (string, string) {
			if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err == nil {
				if n, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && 20-n < 0 {
					return open("nice %d", 20-n)
				}
			}
			return held("cannot be raised above the caller's")
		}},
		{"priority-realtime", rights, func(*bait) (string, string) {
			param := struct{ priority int32 }{1}
			if errno := call(unix.SYS_SCHED_SETSCHEDULER, 0, 1 /* SCHED_FIFO */, uintptr(unsafe.Pointer(&param))); errno == 0 {
				return open("SCHED_FIFO")
			}
			return held("refused")
		}},
		{"priority-io", rights, func(*bait) (string, string) {
			if errno := call(unix.SYS_IOPRIO_SET, 1, 0, 1<<13 /* real-time */); errno == 0 {
				return open("real-time I/O")
			}
			return held("refused")
		}},
		{"priority-oom", rights, func(b *bait) (string, string) {
			if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(b.OOM-1)), 0); err == nil {
				return open("oom_score_adj below the caller's")
			}
			return held("cannot be lowered below the caller's")
		}},
		{"limits-raised", rights, func(*bait) (string, string) {
			for what, resource := range map[string]int{"core": unix.RLIMIT_CORE, "memlock": unix.RLIMIT_MEMLOCK, "rtprio": unix.RLIMIT_RTPRIO, "nice": unix.RLIMIT_NICE} {
				var old unix.Rlimit
				if unix.Getrlimit(resource, &old) != nil || old.Max == unix.RLIM_INFINITY {
					continue
				}
				if unix.Setrlimit(resource, &unix.Rlimit{Cur: old.Cur, Max: old.Max + 1}) == nil {
					return open("%s", what)
				}
			}
			return held("no hard limit can be")
		}},
		{"seccomp-removed", rights, func(*bait) (string, string) {
			if errno := call(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, 0, 0); errno == 0 {
				return open("PR_SET_SECCOMP with mode 0")
			}
			return held("cannot be")
		}},
	}
}

// everyTask looks at every thread of every process that can be seen.
func everyTask(field, want string) func(*bait) (string, string) {
	return func(*bait) (string, string) {
		tasks := 0
		for _, pid := range pids() {
			names, _ := filepath.Glob("/proc/" + pid + "/task/*/status")
			for _, name := range names {
				s := status(name)
				if len(s) == 0 || strings.HasPrefix(s["State"], "Z") {
					continue
				}
				tasks++
				if s[field] != want {
					return open("%s of process %s (%s) has %s", name, pid, s["Name"], s[field])
				}
			}
		}
		if tasks == 0 {
			return cannot("/proc shows no process")
		}
		return held("%d threads", tasks)
	}
}

// madeProgram makes a copy of this program with rights of its own in every place that can be written, and runs it as
// another user, or as this one.
func madeProgram(give func(name string) error) (string, string) {
	content, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return cannot("%v", err)
	}
	made := 0
	for _, dir := range []string{"/tmp", ".", "/run", "/dev/shm", "/", "/root", "/usr/local/bin"} {
		name := filepath.Join(dir, "probe-copy")
		if os.WriteFile(name, content, 0o755) != nil {
			continue
		}
		if give(name) != nil {
			_ = os.Remove(name)
			continue
		}
		made++
		before := status("/proc/self/status")
		cmd := exec.Command(name, "suid")
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1, NoSetGroups: true}}
		}
		out, err := cmd.Output()
		_ = os.Remove(name)
		if err != nil {
			continue
		}
		uid, caps, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
		if os.Geteuid() == 0 && (uid == "0" || strings.Trim(caps, "0") != "") {
			return open("%s gave uid %s, capabilities %s to uid 1", name, uid, caps)
		}
		if os.Geteuid() != 0 && (uid != strconv.Itoa(os.Geteuid()) || caps != before["CapEff"]) {
			return open("%s gave uid %s, capabilities %s", name, uid, caps)
		}
	}
	if made == 0 {
		return held("none could be made")
	}
	return held("%d were made, none gave anything", made)
}

// asOther runs the setuid programs that there are as a user that is not root.
func asOther() (string, string) {
	tried := 0
	for _, name := range []string{"/suid-probe", "/usr/bin/su", "/usr/bin/mount", "/usr/bin/newuidmap", "/usr/bin/passwd", "/usr/bin/chsh"} {
		v, why := starts(name, 1)
		if v != "" {
			return open("%s", why)
		}
		if why != "" {
			tried++
		}
	}
	return held("%d were tried as uid 1", tried)
}

// starts runs a setuid program for a moment and looks whose id it has.
func starts(name string, as uint32) (found, why string) {
	var st unix.Stat_t
	if unix.Stat(name, &st) != nil || st.Mode&unix.S_ISUID == 0 {
		return "", ""
	}
	argv := []string{"--help"}
	if name == "/suid-probe" {
		argv = []string{"suid"}
	}
	cmd := exec.Command(name, argv...)
	attr := &syscall.SysProcAttr{Ptrace: false}
	if as != 0 {
		attr.Credential = &syscall.Credential{Uid: as, Gid: as, NoSetGroups: true}
	}
	cmd.SysProcAttr = attr
	if name == "/suid-probe" {
		out, _ := cmd.Output()
		if strings.HasPrefix(string(out), "0 ") {
			return Open, name + " gave " + string(out)
		}
		return "", "tried"
	}
	// It stops at its first system call that reads a pipe nobody writes to; its status tells whose it is.
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", ""
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		return "", ""
	}
	euid := ""
	if f := strings.Fields(status(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))["Uid"]); len(f) > 1 {
		euid = f[1]
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if euid == "0" && as != 0 {
		return Open, name + " runs as uid 0"
	}
	return "", "tried"
}

func uintptrOf(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// systemChecks are about /proc, /sys and /dev.
func systemChecks() []check {
	var list []check
	for _, name := range []string{"kcore", "kmsg", "kpagecount", "kpageflags", "kpagecgroup", "timer_list", "timer_stats", "sched_debug", "latency_stats",
		"vmallocinfo", "slabinfo", "pagetypeinfo", "interrupts", "keys", "key-users", "iomem", "ioports", "scsi/scsi", "acpi", "asound", "mtrr"} {
		list = append(list, check{"proc-" + strings.ReplaceAll(name, "/", "-"), system, func(*bait) (string, string) { return shown("/proc/" + name) }})
	}
	for _, name := range []string{"sysrq-trigger", "sys/kernel/core_pattern", "sys/kernel/modprobe", "sys/kernel/hotplug", "sys/kernel/sysrq", "sys/kernel/hostname",
		"sys/kernel/ns_last_pid", "sys/kernel/randomize_va_space", "sys/kernel/unprivileged_bpf_disabled", "sys/fs/binfmt_misc/register",
		"sys/fs/suid_dumpable", "sys/vm/overcommit_memory", "sys/vm/drop_caches", "sys/net/ipv4/ip_forward", "irq/default_smp_affinity"} {
		list = append(list, check{"proc-write-" + filepath.Base(name), system, func(*bait) (string, string) { return writable("/proc/" + name) }})
	}
	for _, name := range []string{"kernel/uevent_helper", "power/state", "kernel/mm/transparent_hugepage/enabled", "module", "kernel/kexec_crash_size"} {
		list = append(list, check{"sys-write-" + filepath.Base(name), system, func(*bait) (string, string) { return writable("/sys/" + name) }})
	}
	for _, name := range []string{"kernel/debug", "kernel/tracing", "kernel/security", "firmware", "fs/selinux", "fs/bpf", "fs/pstore", "devices/virtual/powercap", "kernel/vmcoreinfo", "kernel/notes"} {
		list = append(list, check{"sys-" + strings.ReplaceAll(name, "/", "-"), system, func(*bait) (string, string) {
			if name == "kernel/vmcoreinfo" || name == "kernel/notes" {
				// What they hold is the address of a page, or the build's number; both are worth nothing by themselves.
				if err := appendTo("/sys/" + name); err == nil {
					return open("it can be written")
				}
				return held("it cannot be written")
			}
			return shown("/sys/" + name)
		}})
	}
	for what, names := range map[string][]string{
		"memory": {"mem", "kmem", "port", "kmsg", "nvram", "crash", "oldmem"},
		"disks":  {"sda", "sda1", "vda", "vda1", "nvme0n1", "nvme0", "xvda", "mmcblk0", "loop0", "loop-control", "dm-0", "mapper/control", "sg0", "sr0", "md0", "btrfs-control", "zfs", "ram0"},
		"guests": {"kvm", "vhost-net", "vhost-vsock", "vsock", "vfio/vfio", "vboxguest", "sev", "sgx_enclave", "tdx_guest", "vmci"},
		"fuse":   {"fuse", "cuse", "userfaultfd", "autofs"},
		"tunnel": {"net/tun", "ppp", "tap0"},
		"input":  {"uinput", "uhid", "input/event0", "input/mice", "hidraw0", "snd/timer", "snd/seq", "video0", "dri/card0", "dri/renderD128", "fb0", "bus/usb/001/001", "uhidev0", "rfkill"},
		"screen": {"tty0", "tty1", "ttyS0", "vcs", "vcs1", "vcsa", "hvc0"},
		"clock":  {"rtc", "rtc0", "hpet", "ptp0", "watchdog", "cpu_dma_latency", "cpu/0/msr", "cpu/0/cpuid", "mcelog", "snapshot", "udmabuf", "dma_heap/system", "binder", "ashmem"},
	} {
		list = append(list, check{"dev-" + what, system, func(*bait) (string, string) {
			for _, name := range names {
				if fd, err := unix.Open("/dev/"+name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0); err == nil {
					unix.Close(fd)
					return open("opened /dev/%s", name)
				}
			}
			return held("none of %d could be opened", len(names))
		}})
	}
	slices.SortFunc(list, func(a, b check) int { return strings.Compare(a.name, b.name) })
	return append(list, []check{
		{"proc-write-anything", system, func(*bait) (string, string) {
			return walkWritable("/proc", func(name string) bool {
				// Of processes the other checks speak; /proc/self and /proc/thread-self are ours.
				top, _, _ := strings.Cut(strings.TrimPrefix(name, "/proc/"), "/")
				return top == "self" || top == "thread-self" || top != "" && top[0] >= '0' && top[0] <= '9'
			})
		}},
		{"sys-write-anything", system, func(*bait) (string, string) {
			return walkWritable("/sys", func(string) bool { return false })
		}},
		{"proc-kernel-addresses", system, func(*bait) (string, string) {
			for _, name := range []string{"/proc/kallsyms", "/proc/modules"} {
				text, err := os.ReadFile(name)
				if err != nil {
					continue
				}
				for _, line := range strings.Split(string(text), "\n") {
					f := strings.Fields(line)
					address := ""
					if name == "/proc/modules" && len(f) > 5 {
						address = strings.TrimPrefix(f[5], "0x")
					} else if name == "/proc/kallsyms" && len(f) > 2 && f[1] != "A" {
						address = f[0]
					}
					if strings.Trim(address, "0") != "" {
						return open("%s: %s", name, line)
					}
				}
			}
			return held("all are zero")
		}},
		{"proc-cgroup-path", system, func(*bait) (string, string) {
			text, err := os.ReadFile("/proc/self/cgroup")
			if err != nil {
				return held("%v", err)
			}
			for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
				f := strings.SplitN(line, ":", 3)
				if len(f) == 3 && f[2] != "/" {
					return open("%s", line)
				}
			}
			return held("it is the root everywhere")
		}},
		{"cgroup-release-agent", system, func(*bait) (string, string) {
			// The host runs what it names, as root (CVE-2022-0492).
			for _, top := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
				for _, pattern := range []string{"/release_agent", "/*/release_agent", "/cgroup.procs", "/*/cgroup.procs", "/cgroup.subtree_control", "/*/notify_on_release", "/devices/devices.allow", "/memory.max", "/*/memory.limit_in_bytes"} {
					names, _ := filepath.Glob(top + pattern)
					for _, name := range names {
						if appendTo(name) == nil {
							return open("%s can be written", name)
						}
					}
				}
			}
			for _, kind := range []string{"cgroup", "cgroup2"} {
				if err := unix.Mount("none", "/tmp", kind, 0, map[string]string{"cgroup": "rdma"}[kind]); err == nil {
					return open("mounted a %s", kind)
				}
			}
			return held("no control group can be written or mounted")
		}},
		{"dev-list", system, func(*bait) (string, string) {
			known := []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
			var odd []string
			_ = filepath.WalkDir("/dev", func(name string, d fs.DirEntry, err error) error {
				if err == nil && d.Type()&fs.ModeDevice != 0 && !strings.HasPrefix(name, "/dev/pts/") && !slices.Contains(known, filepath.Base(name)) {
					odd = append(odd, name)
				}
				return nil
			})
			if len(odd) > 0 {
				return open("%s", strings.Join(odd, ", "))
			}
			return held("nothing but %s", strings.Join(known, ", "))
		}},
		{"dev-nodes-changed", system, func(*bait) (string, string) {
			// The nodes are the host's own, by a bind: what is changed of one is changed for all.
			for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
				var st unix.Stat_t
				if unix.Stat("/dev/"+name, &st) != nil || st.Uid != 65534 {
					continue
				}
				if unix.Chmod("/dev/"+name, st.Mode&0o7777) == nil || unix.Chown("/dev/"+name, -1, -1) == nil && unix.Chown("/dev/"+name, os.Getuid(), -1) == nil {
					return open("/dev/%s can be changed", name)
				}
			}
			return held("neither their mode nor their owner")
		}},
		{"dev-terminals", system, func(b *bait) (string, string) {
			entries, _ := os.ReadDir("/dev/pts")
			for _, e := range entries {
				if e.Name() == "ptmx" {
					continue
				}
				var st unix.Stat_t
				if unix.Stat("/dev/pts/"+e.Name(), &st) == nil && st.Uid == 65534 {
					return open("/dev/pts/%s is somebody's of the host", e.Name())
				}
			}
			fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
			if err != nil {
				return held("no pty can be opened: %v", err)
			}
			n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
			if err == nil && !exists(fmt.Sprintf("/dev/pts/%d", n)) {
				return open("a new pty, %d, is another file system's", n)
			}
			return held("the terminals are the sandbox's own")
		}},
		{"dev-console", system, func(b *bait) (string, string) {
			fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
			if err != nil {
				return held("%v", err)
			}
			var st unix.Stat_t
			_ = unix.Fstat(fd, &st)
			if unix.Major(st.Rdev) == 5 && unix.Minor(st.Rdev) == 1 {
				return open("the host's console")
			}
			if _, errno := ioctl(fd, unix.TIOCCONS, 0); errno == 0 {
				return open("the console's output was redirected")
			}
			return held("a pty of the sandbox's own")
		}},
		{"system-hostname", system, func(b *bait) (string, string) {
			name, _ := os.Hostname()
			if name == b.Hostname {
				return open("the host's, %q", name)
			}
			return held("%q", name)
		}},
		{"system-log", system, func(*bait) (string, string) {
			for _, what := range []uintptr{3 /* read all */, 10 /* its size */} {
				buf := make([]byte, 4096)
				n, _, errno := unix.Syscall(unix.SYS_SYSLOG, what, uintptrOf(buf), uintptr(len(buf)))
				if errno == 0 {
					return open("syslog(%d): %d", what, n)
				}
			}
			return held("the kernel's log cannot be read")
		}},
		{"system-proc-mounted-anew", system, func(*bait) (string, string) { return mountsAnew("proc") }},
		{"system-sys-mounted-anew", system, func(*bait) (string, string) { return mountsAnew("sysfs") }},
	}...)
}

// shown reports a file that can be read and is not empty, or a folder that holds something.
func shown(name string) (string, string) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return held("%v", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		entries, err := os.ReadDir(name)
		if len(entries) > 0 {
			return open("it shows %s and %d others", entries[0].Name(), len(entries)-1)
		}
		return held("empty, %v", err)
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return held("%v", err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if n > 0 {
		if name == "/proc/iomem" || name == "/proc/ioports" {
			// Who may not know sees the names of devices and zeros.
			if !strings.ContainsAny(strings.SplitN(string(buf[:n]), ":", 2)[0], "123456789abcdef") {
				return held("its addresses are zero")
			}
		}
		return open("%.40q", buf[:n])
	}
	return held("empty, %v", err)
}

func writable(name string) (string, string) {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return held("%v", err)
	}
	unix.Close(fd)
	return open("it can be opened for writing")
}

// walkWritable opens every file below top for writing.
func walkWritable(top string, skip func(name string) bool) (string, string) {
	var found []string
	tried := 0
	deadline := time.Now().Add(15 * time.Second)
	_ = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		switch {
		case time.Now().After(deadline):
			return fs.SkipAll
		case err != nil:
			return nil
		case skip(name):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular() || device(name):
			return nil
		}
		tried++
		if fd, err := unix.Open(name, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			unix.Close(fd)
			found = append(found, name)
		}
		return nil
	})
	if len(found) > 0 {
		return open("%d of %d: %s", len(found), tried, strings.Join(found[:min(len(found), 5)], ", "))
	}
	return held("none of %d files", tried)
}

// mountsAnew mounts a fresh one, without what hides parts of it, here or in a user namespace where there can be one.
func mountsAnew(kind string) (string, string) {
	if got := freshMount(kind); got != "" {
		return open("%s", got)
	}
	got, err := nested("mount", kind)
	switch {
	case err != nil:
		return held("no mount here, and no user namespace: %v", err)
	case got != "":
		return open("in a user namespace: %s", got)
	}
	return held("neither here nor in a user namespace")
}

func freshMount(kind string) string {
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		return ""
	}
	defer unix.Rmdir(dir)
	if unix.Mount(kind, dir, kind, 0, "") != nil {
		return ""
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if v, why := shown(dir + "/" + map[string]string{"proc": "keys", "sysfs": "firmware"}[kind]); v == Open {
		return "mounted, and unmasked: " + why
	}
	return "mounted"
}

// nested runs this program as root in namespaces of its own, and returns what it printed.
func nested(args ...string) (string, error) {
	cmd := exec.Command("/proc/self/exe", append([]string{"nested"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// outsideChecks look for the host's processes and files, and for ways up the tree.
func outsideChecks() []check {
	list := []check{
		{"process-listed", outside, func(b *bait) (string, string) {
			for _, pid := range pids() {
				line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
				if bytes.Contains(line, []byte("stand\x00"+b.Marker)) {
					return open("the host's process is %s here", pid)
				}
			}
			return held("%d processes, none of the host's", len(pids()))
		}},
		{"process-killed", outside, func(b *bait) (string, string) {
			// 0 asks whether it could be done.
			err := unix.Kill(b.PID, 0)
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", b.PID))
			if err == nil && bytes.Contains(line, []byte(b.Marker)) || err == unix.EPERM {
				return open("the host's process %d can be seen by kill: %v", b.PID, err)
			}
			return held("no such process")
		}},
		{"process-pidfd", outside, func(b *bait) (string, string) {
			fd, err := unix.PidfdOpen(b.PID, 0)
			if err == nil {
				defer unix.Close(fd)
				if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", b.PID)); bytes.Contains(line, []byte(b.Marker)) {
					return open("pidfd_open of the host's process")
				}
			}
			return held("no such process")
		}},
		{"process-environ", outside, func(*bait) (string, string) {
			var read int
			for _, pid := range pids() {
				names, _ := filepath.Glob("/proc/" + pid + "/task/*/environ")
				for _, name := range append(names, "/proc/"+pid+"/environ") {
					text, err := os.ReadFile(name)
					if err == nil {
						read++
					}
					if bytes.Contains(text, []byte(envName+"=")) {
						return open("%s has the caller's environment", name)
					}
				}
			}
			return held("%d read, the caller's environment in none", read)
		}},
		{"process-cmdline", outside, func(b *bait) (string, string) {
			for _, pid := range pids() {
				if pid == strconv.Itoa(os.Getpid()) || pid == strconv.Itoa(os.Getppid()) {
					continue
				}
				line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
				// Who was told the bait is one of ours.
				if bytes.Contains(line, []byte(b.Marker)) && !bytes.Contains(line, []byte(`"marker"`)) {
					return open("%s: %.80q", pid, line)
				}
			}
			return held("no name of the host")
		}},
		{"process-parent", outside, func(b *bait) (string, string) {
			if ppid, _ := strconv.Atoi(status("/proc/1/status")["PPid"]); ppid != 0 {
				return open("process 1 has the parent %d", ppid)
			}
			return held("process 1 has none here")
		}},
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		list = append(list, check{"namespace-" + ns, outside, func(b *bait) (string, string) {
			got, err := os.Readlink("/proc/self/ns/" + ns)
			switch {
			case err != nil:
				return cannot("%v", err)
			case got == b.NS[ns] && ns == "net" && b.grants("network=host"):
				return granted("network host")
			case got == b.NS[ns]:
				return open("the host's own")
			}
			return held("its own")
		}})
	}
	return append(list, []check{
		{"files-secrets", outside, func(b *bait) (string, string) {
			for _, name := range b.Files {
				if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), secret) {
					return open("read %s", name)
				}
			}
			return held("none of %d: home, temporary folders, runtime folder, shared memory", len(b.Files))
		}},
		{"files-home", outside, func(b *bait) (string, string) {
			for _, pattern := range []string{"/home/*/.*", "/root/.*", "/home/*/*", "/root/*"} {
				names, _ := filepath.Glob(pattern)
				for _, name := range names {
					if text, err := os.ReadFile(name); err == nil && bytes.Contains(text, []byte(secret)) {
						return open("%s", name)
					}
				}
			}
			return held("no home of the host's")
		}},
		{"files-shadow", outside, func(*bait) (string, string) {
			for _, name := range []string{"/etc/shadow", "/etc/gshadow", "/etc/shadow-", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key", "/etc/sudoers", "/etc/krb5.keytab"} {
				var st unix.Stat_t
				text, err := os.ReadFile(name)
				if err != nil || unix.Stat(name, &st) != nil {
					continue
				}
				if st.Uid == 65534 && st.Mode&0o004 == 0 && len(text) > 0 {
					return open("read %s, which is not ours", name)
				}
			}
			return held("what is kept from others is kept from here")
		}},
		{"files-system-write", outside, func(*bait) (string, string) {
			// Where /usr and /etc are the host's own, their owner is nobody here.
			for _, dir := range []string{"/usr", "/usr/bin", "/usr/lib", "/etc", "/opt", "/bin", "/lib"} {
				var st unix.Stat_t
				if unix.Stat(dir, &st) != nil {
					continue
				}
				name := dir + "/probe-was-here"
				fd, err := unix.Open(name, unix.O_CREAT|unix.O_WRONLY|unix.O_EXCL, 0o600)
				if err == nil {
					unix.Close(fd)
					_ = unix.Unlink(name)
					if st.Uid == 65534 {
						return open("made a file in %s, which is the host's", dir)
					}
				}
			}
			return held("nothing of the host's could be written")
		}},
		{"files-remount", outside, func(*bait) (string, string) {
			for _, dir := range []string{"/", "/usr", "/etc", "/proc/sys", "/sys"} {
				if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err == nil {
					return open("%s was made writable again", dir)
				}
				if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err == nil {
					return open("%s was made writable again by mount_setattr", dir)
				}
			}
			return held("no mount became writable")
		}},
		{"files-uncover", outside, func(*bait) (string, string) {
			for _, m := range mounts() {
				if m.point == "/" {
					continue
				}
				if err := unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err == nil {
					return open("unmounted %s", m.point)
				}
			}
			return held("none of %d mounts came off", len(mounts()))
		}},
		{"files-above-root", outside, func(*bait) (string, string) {
			var root, up unix.Stat_t
			_ = unix.Stat("/", &root)
			_ = unix.Stat("/../../../..", &up)
			if root.Dev != up.Dev || root.Ino != up.Ino {
				return open("/.. is not /")
			}
			return held("/.. is /")
		}},
		{"files-above-cwd", outside, func(*bait) (string, string) {
			var root, up unix.Stat_t
			_ = unix.Stat("/", &root)
			for range 64 {
				_ = unix.Chdir("..")
			}
			_ = unix.Stat(".", &up)
			buf := make([]byte, 4096)
			n, err := unix.Getcwd(buf)
			if err != nil || root.Dev != up.Dev || root.Ino != up.Ino || string(buf[:max(n-1, 0)]) != "/" {
				return open("going up from the working directory ends at %q, %v", buf[:max(n-1, 0)], err)
			}
			return held("going up ends at /")
		}},
		{"files-chroot-breakout", outside, func(*bait) (string, string) {
			// The classic: a folder held open while the root is moved below it (chroot(2)).
			var root, up unix.Stat_t
			_ = unix.Stat("/", &root)
			dir, err := os.MkdirTemp("", "probe")
			if err != nil {
				return cannot("%v", err)
			}
			defer unix.Rmdir(dir)
			top, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return cannot("%v", err)
			}
			if err := unix.Chroot(dir); err != nil {
				return held("chroot: %v", err)
			}
			_ = unix.Fchdir(top)
			for range 64 {
				_ = unix.Chdir("..")
			}
			_ = unix.Stat(".", &up)
			if root.Dev != up.Dev || root.Ino != up.Ino {
				return open("out of the root: another folder lies above")
			}
			return held("there is nothing above /")
		}},
		{"files-pivot", outside, func(*bait) (string, string) {
			if err := unix.PivotRoot(".", "."); err == nil {
				return open("pivot_root worked")
			} else {
				return held("pivot_root: %v", err)
			}
		}},
		{"files-other-roots", outside, func(b *bait) (string, string) {
			var own unix.Stat_t
			_ = unix.Stat("/", &own)
			for _, pid := range pids() {
				for _, kind := range []string{"root", "cwd"} {
					var st unix.Stat_t
					name := "/proc/" + pid + "/" + kind
					if unix.Stat(name+"/.", &st) != nil {
						continue
					}
					if kind == "root" && (st.Dev != own.Dev || st.Ino != own.Ino) {
						return open("%s is another root", name)
					}
					if target, err := os.Readlink(name); err == nil && strings.HasPrefix(target, "(unreachable)") {
						return open("%s -> %s", name, target)
					}
				}
			}
			return held("every root and working directory within reach is inside")
		}},
		{"files-descriptors", outside, func(b *bait) (string, string) {
			for _, pid := range pids() {
				names, _ := filepath.Glob("/proc/" + pid + "/fd/*")
				for _, name := range names {
					target, err := os.Readlink(name)
					if err == nil && (strings.Contains(target, b.Marker) && !strings.HasPrefix(target, b.Work) || strings.HasPrefix(target, "(unreachable)")) {
						return open("%s -> %s", name, target)
					}
				}
			}
			return held("none of the host's in any process here")
		}},
		{"files-by-handle", outside, func(*bait) (string, string) {
			// shocker: a file is named by its inode number (open_by_handle_at(2)); that of / is 2 on ext4, 128 on xfs.
			dir, err := unix.Open("/etc", unix.O_RDONLY, 0)
			if err != nil {
				return cannot("%v", err)
			}
			for _, inode := range []byte{2, 128} {
				handle := unix.NewFileHandle(1, []byte{inode, 0, 0, 0, 0, 0, 0, 0})
				if fd, err := unix.OpenByHandleAt(dir, handle, unix.O_RDONLY); err == nil {
					unix.Close(fd)
					return open("opened inode %d", inode)
				}
			}
			handle, _, err := unix.NameToHandleAt(dir, "hostname", 0)
			if err == nil {
				if fd, err := unix.OpenByHandleAt(dir, handle, unix.O_RDONLY); err == nil {
					unix.Close(fd)
					return open("opened a file by its handle")
				}
			}
			return held("no file could be opened by its number")
		}},
		{"files-device-node", outside, func(*bait) (string, string) {
			for _, dir := range []string{"/tmp", "/dev", "/dev/shm", "/run", ".", "/"} {
				for what, dev := range map[string][2]uint32{"mem": {1, 1}, "kmsg": {1, 11}, "loop-control": {10, 237}, "fuse": {10, 229}} {
					name := filepath.Join(dir, "probe-"+what)
					if unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(dev[0], dev[1]))) != nil {
						continue
					}
					fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
					_ = unix.Unlink(name)
					if err == nil {
						unix.Close(fd)
						return open("made and opened %s", name)
					}
				}
				name := filepath.Join(dir, "probe-disk")
				if unix.Mknod(name, unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))) == nil {
					_ = unix.Unlink(name)
					return open("made a disk's node in %s", dir)
				}
			}
			return held("none that could be opened could be made")
		}},
		{"files-mount-names", outside, func(b *bait) (string, string) {
			for _, name := range []string{"/proc/self/mountinfo", "/proc/1/mountinfo"} {
				text, _ := os.ReadFile(name)
				for _, line := range strings.Split(string(text), "\n") {
					f := strings.Fields(line)
					// A folder that is shown where it lies outside too tells nothing by its name.
					if len(f) < 6 {
						continue
					}
					told := strings.Join(append(f[3:4:4], f[6:]...), " ") // all but the mount point
					if strings.HasSuffix(f[4], f[3]) && f[3] != "/" || !b.namesHost(told) {
						continue
					}
					if b.grants("renamed") {
						return granted("a folder was mounted elsewhere than it lies: the kernel tells where (%s)", f[3])
					}
					return open("%s tells where things lie outside: %s", name, line)
				}
			}
			return held("the mount table has no name of the host's")
		}},
		{"files-mount-flags", outside, func(b *bait) (string, string) {
			for _, m := range mounts() {
				if device(m.point) {
					continue // the nodes of /dev, and null over what is hidden
				}
				// In a user namespace the kernel honours no device node and no setuid bit of a mount made outside it;
				// these two flags hold where that is not so, too.
				if !strings.Contains(m.options, "nosuid") || !strings.Contains(m.options, "nodev") && m.point != "/dev" && m.fstype != "devpts" {
					return open("%s: %s", m.point, m.options)
				}
			}
			return held("%d mounts are nosuid, and nodev but for those of /dev", len(mounts()))
		}},
		{"files-hardlink", outside, func(b *bait) (string, string) {
			// A second name for a file on a mount that is read-only, on one that is not.
			for _, source := range []string{"/usr/bin/env", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf"} {
				for _, dir := range []string{"/tmp", ".", "/run", "/dev/shm"} {
					name := filepath.Join(dir, "probe-link")
					var st unix.Stat_t
					if unix.Stat(source, &st) == nil && st.Uid == 65534 && unix.Linkat(unix.AT_FDCWD, source, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW) == nil {
						_ = unix.Unlink(name)
						return open("linked the host's %s into %s", source, dir)
					}
				}
			}
			return held("none of the host's files got a second name")
		}},
		{"files-reopened", outside, func(*bait) (string, string) {
			// A descriptor of a file on a read-only mount, opened anew through /proc.
			for _, name := range []string{"/usr/bin/env", "/etc/passwd", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"} {
				var st unix.Stat_t
				fd, err := unix.Open(name, unix.O_PATH, 0)
				if err != nil || unix.Fstat(fd, &st) != nil || st.Uid != 65534 {
					continue
				}
				if again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR, 0); err == nil {
					unix.Close(again)
					return open("%s", name)
				}
			}
			return held("stays read-only")
		}},
		{"files-protected", outside, func(b *bait) (string, string) {
			// lay puts a cove.toml into the workspace: what is protected there must stay, whatever is done around it.
			if !b.grants("protected") {
				return cannot("nothing is said to be protected")
			}
			dir, name := b.Work, b.Work+"/.git/hooks"
			for what, try := range map[string]func() error{
				"write":    func() error { return os.WriteFile(dir+"/cove.toml", []byte("x"), 0o600) },
				"append":   func() error { return appendTo(dir + "/cove.toml") },
				"truncate": func() error { return unix.Truncate(dir+"/cove.toml", 0) },
				"unlink":   func() error { return unix.Unlink(dir + "/cove.toml") },
				"rename":   func() error { return unix.Rename(dir+"/cove.toml", dir+"/other") },
				"replace": func() error {
					_ = os.WriteFile(dir+"/new", nil, 0o600)
					return unix.Rename(dir+"/new", dir+"/cove.toml")
				},
				"exchange": func() error {
					_ = os.WriteFile(dir+"/new", nil, 0o600)
					return unix.Renameat2(unix.AT_FDCWD, dir+"/new", unix.AT_FDCWD, dir+"/cove.toml", unix.RENAME_EXCHANGE)
				},
				"hook":         func() error { return os.WriteFile(name+"/post-commit", []byte("x"), 0o700) },
				"move hooks":   func() error { return unix.Rename(name, dir+"/hooks") },
				"move .git":    func() error { return unix.Rename(dir+"/.git", dir+"/git") },
				"remove hooks": func() error { return unix.Rmdir(name) },
				"link": func() error {
					if err := unix.Link(dir+"/cove.toml", dir+"/second"); err != nil {
						return err
					}
					return appendTo(dir + "/second")
				},
				"by /proc": func() error {
					fd, err := unix.Open(dir+"/cove.toml", unix.O_RDONLY, 0)
					if err != nil {
						return err
					}
					return appendTo(fmt.Sprintf("/proc/self/fd/%d", fd))
				},
				"by cwd":  func() error { return appendTo("/proc/self/cwd/cove.toml") },
				"by root": func() error { return appendTo("/proc/self/root" + dir + "/cove.toml") },
				"by 1":    func() error { return appendTo("/proc/1/root" + dir + "/cove.toml") },
				"mount over": func() error {
					return unix.Mount(dir, dir+"/.git", "", unix.MS_BIND, "")
				},
				"chmod": func() error { return unix.Chmod(dir+"/cove.toml", 0o777) },
				"time":  func() error { return os.Chtimes(dir+"/cove.toml", time.Now(), time.Now()) },
				"xattr": func() error { return unix.Setxattr(dir+"/cove.toml", "user.probe", []byte("x"), 0) },
			} {
				if try() == nil {
					return open("%s", what)
				}
			}
			_ = unix.Unlink(dir + "/new")
			return held("neither file, folder nor what lies above could be changed in 20 ways")
		}},
	}...)
}

func device(name string) bool {
	var st unix.Stat_t
	return unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
}

func appendTo(name string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_APPEND, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// pids are the processes that /proc shows.
func pids() []string {
	entries, _ := os.ReadDir("/proc")
	var out []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, e.Name())
		}
	}
	return out
}

type mount struct{ root, point, options, fstype string }

func mounts() []mount {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	var out []mount
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) > 5 {
			_, rest, _ := strings.Cut(line, " - ")
			fstype, _, _ := strings.Cut(rest, " ")
			point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4])
			out = append(out, mount{f[3], point, f[5], fstype})
		}
	}
	return out
}

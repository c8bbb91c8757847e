package rootfs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// What is hidden and what is read-only of /proc and /sys follows the OCI runtimes' default
// (maskedPaths and readonlyPaths of docker and podman). Who writes to a file of /proc/pressure has the kernel watch all of
// the machine for them (psi.rst of the kernel's documentation).
var (
	procMasked = []string{"acpi", "asound", "interrupts", "kcore", "keys", "key-users", "kmsg", "kpagecount", "kpageflags",
		"latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats", "vmallocinfo"}
	procReadOnly = []string{"bus", "fs", "irq", "pressure", "sys", "sysrq-trigger"}
	sysMasked    = []string{"devices/virtual/powercap", "firmware", "fs/selinux", "kernel/security", "kernel/debug", "kernel/tracing"}
)

// system mounts /proc, /sys and /dev.
func (r *Root) system() error {
	if err := r.proc(); err != nil {
		return err
	}
	if err := r.sys(); err != nil {
		return err
	}
	return r.dev()
}

const safe = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

func (r *Root) proc() error {
	proc, err := create("proc", safe)
	if err != nil {
		return err
	}
	defer unix.Close(proc)
	if err := r.mountDir(proc, "/proc"); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if r.spec.Security.Nested {
		// The kernel gives a nested sandbox no /proc of its own where anything of this one is covered (mount_too_revealing).
		return provenSafe(proc)
	}
	for _, name := range procReadOnly {
		if err := readOnly(proc, name); err != nil {
			return fmt.Errorf("make /proc/%s read-only: %w", name, err)
		}
	}
	for _, name := range procMasked {
		if err := r.mask(proc, name); err != nil {
			return fmt.Errorf("mask /proc/%s: %w", name, err)
		}
	}
	return nil
}

// sys mounts a sysfs of the sandbox's own network namespace. With the host's network there is
// none to be had (the kernel asks for rights over the network namespace), so /sys stays empty.
func (r *Root) sys() error {
	if r.spec.Network.Mode == "host" {
		return nil
	}
	sys, err := create("sysfs", safe|unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(sys)
	if err := r.mountDir(sys, "/sys"); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if r.spec.Security.Nested { // read-only as a whole it is; the same rule as for /proc
		return nil
	}
	for _, name := range sysMasked {
		if err := r.mask(sys, name); err != nil {
			return fmt.Errorf("mask /sys/%s: %w", name, err)
		}
	}
	return nil
}

// ownSettings are below /proc/sys what belongs to the sandbox's own namespaces, and may be written there: of the network
// (whose packet filter has no settings), of System V and POSIX ipc, of process ids, and how many namespaces there can be.
var ownSettings = []string{"net", "user", "fs/mqueue", "kernel/auto_msgmni", "kernel/msg_next_id", "kernel/msgmax", "kernel/msgmnb",
	"kernel/msgmni", "kernel/ns_last_pid", "kernel/pid_max", "kernel/sem", "kernel/sem_next_id", "kernel/shm_next_id", "kernel/shm_rmid_forced", "kernel/shmall",
	"kernel/shmmax", "kernel/shmmni"}

// provenSafe makes sure that nothing of what would be covered in /proc can be written, though it is all there: every file
// in turn, by the uid 0 inside, with all capabilities that anybody here can ever have.
func provenSafe(proc int) error {
	for _, name := range append(slices.Clone(procReadOnly), procMasked...) {
		var st unix.Stat_t
		err := unix.Fstatat(proc, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if isMissing(err) {
			continue
		}
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = refuseWritableBelow(proc, name)
		} else if err == nil {
			err = refuseWritable(proc, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refuseWritable asks for a file with the effective ids; a setting answers by rules of its own.
func refuseWritable(proc int, name string) error {
	if err := unix.Faccessat(proc, name, unix.W_OK, unix.AT_EACCESS); err == nil {
		return fmt.Errorf("nested: /proc/%s could be written from inside", name)
	}
	return nil
}

func refuseWritableBelow(proc int, name string) error {
	fd, err := unix.Openat(proc, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err == unix.EACCES {
		return nil // nor can anybody inside
	}
	if err != nil {
		return fmt.Errorf("open /proc/%s: %w", name, err)
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("read /proc/%s: %w", name, err)
	}
	for _, entry := range entries {
		below := name + "/" + entry.Name()
		switch {
		case name == "pressure":
			// What is written asks for a notice, to the writer and until it closes the file (psi.rst).
		case slices.Contains(ownSettings, strings.TrimPrefix(below, "sys/")):
		case entry.Type() == os.ModeSymlink:
			// Leads to what is looked at by itself, or out of /proc.
		case entry.IsDir():
			if err := refuseWritableBelow(proc, below); err != nil {
				return err
			}
		default:
			if err := refuseWritable(proc, below); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Root) mountDir(mount int, name string) error {
	target, err := r.dir(name)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return attach(mount, target)
}

// readOnly binds name, relative to dirfd, onto itself read-only. A name that this kernel does not have is fine.
func readOnly(dirfd int, name string) error {
	mount, err := clone(dirfd, name)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if err := restrict(mount, unix.MOUNT_ATTR_RDONLY, true); err != nil {
		return err
	}
	target, err := unix.Openat(dirfd, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return attach(mount, target)
}

// mask covers name with nothing: a directory with an empty read-only one, a file with /dev/null.
func (r *Root) mask(dirfd int, name string) error {
	target, err := unix.Openat(dirfd, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	var st unix.Stat_t
	if err := unix.Fstat(target, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return r.coverDir(target)
	}
	cover, err := clone(unix.AT_FDCWD, "/dev/null")
	if err != nil {
		return err
	}
	defer unix.Close(cover)
	return attach(cover, target)
}

// coverDir puts an empty read-only directory over target. It is the same one for all: a file system each would take
// longer to make, and to take down, than all else that is masked.
func (r *Root) coverDir(target int) error {
	if r.empty >= 0 {
		cover, err := clone(r.empty, "")
		if err != nil {
			return err
		}
		defer unix.Close(cover)
		return attach(cover, target)
	}
	cover, err := tmpfs(safe|unix.MOUNT_ATTR_RDONLY, 0o555, 4096)
	if err != nil {
		return err
	}
	r.empty = cover // one that is attached can be cloned; a detached one cannot before Linux 6.15
	return attach(cover, target)
}

// dev makes the usual dozen on a tmpfs: harmless nodes of the host's, an own devpts, shm and mqueue.
func (r *Root) dev() error {
	dev, err := tmpfs(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, 0o755, 64<<10)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	if err := r.mountDir(dev, "/dev"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	d := tree{fd: dev}
	for _, name := range deviceNodes {
		if err := unix.Mknodat(dev, name, unix.S_IFREG|0o666, 0); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		target, err := unix.Openat(dev, name, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		err = attach(r.src.devices[name], target)
		unix.Close(target)
		if err != nil {
			return fmt.Errorf("mount /dev/%s: %w", name, err)
		}
	}
	if err := r.grantedDevices(d); err != nil {
		return err
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		if err := unix.Symlinkat(to, dev, name); err != nil {
			return fmt.Errorf("link /dev/%s: %w", name, err)
		}
	}
	pts := []option{{"newinstance", ""}, {"ptmxmode", "0666"}, {"mode", "0620"}}
	if _, ok := r.spec.IDMap.HostGID(ttyGID); ok {
		pts = append(pts, option{"gid", strconv.Itoa(ttyGID)})
	}
	if err := d.create("pts", "devpts", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, pts...); err != nil {
		return err
	}
	if err := d.create("shm", "tmpfs", safe, option{"mode", "1777"}, option{"size", "64m"}); err != nil {
		return err
	}
	return d.create("mqueue", "mqueue", safe)
}

// ttyGID is the group tty of every distribution.
const ttyGID = 5

// create makes the directory name in t and mounts a new file system on it.
func (t tree) create(name, fstype string, attrs int, opts ...option) error {
	if err := unix.Mkdirat(t.fd, name, 0o755); err != nil {
		return fmt.Errorf("make /dev/%s: %w", name, err)
	}
	mount, err := create(fstype, attrs, opts...)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	target, err := unix.Openat(t.fd, name, unix.O_PATH|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return attach(mount, target)
}

// tmpfs mounts an empty tmpfs on name.
func (r *Root) tmpfs(name string, mode uint32, sizeBytes int64) error {
	mount, err := tmpfs(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, mode, sizeBytes)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	return r.mountDir(mount, name)
}

// mounts puts the Spec's mounts in place, in order.
func (r *Root) mounts() error {
	for i, m := range r.spec.Mounts {
		put := r.mount
		if m.Kind == spec.MountView {
			put = r.mountView
		}
		if err := put(i, m); err != nil {
			return fmt.Errorf("mount %q: %w", m.Target, err)
		}
	}
	return nil
}

func (r *Root) mount(i int, m spec.Mount) error {
	mount := r.src.binds[i]
	if m.Kind == spec.MountTmpfs {
		var err error
		if mount, err = r.ownedTmpfs(m); err != nil {
			return err
		}
	} else {
		attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
		if m.ReadOnly {
			attrs |= unix.MOUNT_ATTR_RDONLY
		}
		if err := restrict(mount, attrs, true); err != nil {
			return err
		}
	}
	defer unix.Close(mount)
	var st unix.Stat_t
	if err := unix.Fstat(mount, &st); err != nil {
		return err
	}
	target, err := r.target(m, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err == unix.EROFS {
		return fmt.Errorf("the target is missing and its file system is read-only: %w", err)
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := refuseKernelFS(target); err != nil {
		return err
	}
	return attach(mount, target)
}

// target opens what a mount is put on, and makes what is missing of it.
func (r *Root) target(m spec.Mount, dir bool) (int, error) {
	if m.Below == "" {
		t := r.tree
		t.likeParent = r.inView(m.Target)
		return t.ensure(string(m.Target), dir)
	}
	top, err := r.dir(string(m.Below))
	if err != nil {
		return -1, err
	}
	defer unix.Close(top)
	return ensurePlain(top, strings.TrimPrefix(strings.TrimPrefix(string(m.Target), string(m.Below)), "/"), dir)
}

// inView reports whether a target lies in a copy-on-write view: there the caller removes what was made to be mounted on.
func (r *Root) inView(target spec.Path) bool {
	for _, v := range r.spec.Views() {
		if strings.HasPrefix(string(target), string(v.Target)+"/") {
			return true
		}
	}
	return false
}

func (r *Root) ownedTmpfs(m spec.Mount) (int, error) {
	opts := []option{{"mode", strconv.FormatUint(uint64(m.Mode), 8)},
		{"uid", strconv.FormatUint(uint64(m.UID), 10)}, {"gid", strconv.FormatUint(uint64(m.GID), 10)}}
	if m.Size > 0 {
		opts = append(opts, option{"size", strconv.FormatInt(m.Size, 10)})
	}
	return create("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, opts...)
}

// refuseKernelFS keeps mounts off /proc and /sys, where one could cover a mask: a link in an image
// may lead a harmless target there.
func refuseKernelFS(fd int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC || fs.Type == unix.SYSFS_MAGIC {
		return fmt.Errorf("the target lies in /proc or /sys")
	}
	return nil
}

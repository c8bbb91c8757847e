package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ipcChecks look for what processes of the host talk by, and for its keys.
func ipcChecks() []check {
	return []check{
		{"ipc-shm-key", outside, sysv("shared memory", func(b *bait) unix.Errno { return call(unix.SYS_SHMGET, uintptr(b.ShmKey), 0, 0) })},
		{"ipc-sem-key", outside, sysv("semaphores", func(b *bait) unix.Errno { return call(unix.SYS_SEMGET, uintptr(b.ShmKey), 0, 0) })},
		{"ipc-msg-key", outside, sysv("message queue", func(b *bait) unix.Errno { return call(unix.SYS_MSGGET, uintptr(b.ShmKey), 0) })},
		{"ipc-shm-id", outside, func(b *bait) (string, string) {
			var ds [256]byte
			addr, _, errno := unix.Syscall(unix.SYS_SHMAT, uintptr(b.ShmID), 0, unix.SHM_RDONLY)
			if errno == 0 {
				// The segment with that number might be the sandbox's own; the key tells.
				stat, errno := unix.SysvShmCtl(b.ShmID, unix.IPC_STAT, (*unix.SysvShmDesc)(unsafe.Pointer(&ds)))
				if errno == nil && stat == 0 && (*unix.SysvShmDesc)(unsafe.Pointer(&ds)).Perm.Key == int32(b.ShmKey) {
					return open("attached the host's segment %d at %#x", b.ShmID, addr)
				}
			}
			return held("no such segment")
		}},
		{"ipc-sysv-list", outside, func(b *bait) (string, string) {
			for _, name := range []string{"shm", "sem", "msg"} {
				text, _ := os.ReadFile("/proc/sysvipc/" + name)
				if strings.Contains(string(text), fmt.Sprintf(" %d ", b.ShmKey)) {
					return open("/proc/sysvipc/%s lists the host's", name)
				}
			}
			return held("the host's are not listed")
		}},
		{"ipc-mqueue", outside, func(b *bait) (string, string) {
			name, _ := unix.BytePtrFromString(b.Queue)
			fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), unix.O_RDONLY, 0, 0, 0, 0)
			if errno == 0 {
				unix.Close(int(fd))
				return open("opened the host's queue")
			}
			if entries, _ := os.ReadDir("/dev/mqueue"); len(entries) > 0 {
				return open("/dev/mqueue shows %s", entries[0].Name())
			}
			return held("%v", errno)
		}},
		{"ipc-abstract", outside, func(b *bait) (string, string) {
			for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
				fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
				if err != nil {
					continue
				}
				if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + b.Abstract + map[int]string{unix.SOCK_DGRAM: "-dgram"}[kind]}); err == nil {
					return open("connected to the host's abstract socket")
				}
			}
			return held("the host's cannot be reached")
		}},
		{"ipc-abstract-list", outside, func(b *bait) (string, string) {
			text, err := os.ReadFile("/proc/net/unix")
			switch {
			case err != nil:
				return held("%v", err)
			case strings.Contains(string(text), b.Marker) && b.grants("network=host"):
				return granted("network host: their names are told, they cannot be reached")
			case strings.Contains(string(text), b.Marker):
				return open("/proc/net/unix names the host's sockets")
			}
			return held("/proc/net/unix names none of the host's")
		}},
		{"ipc-sockets", outside, func(b *bait) (string, string) {
			for _, name := range b.Sockets {
				if err := connectTo(name); err == nil {
					return open("connected to %s", name)
				}
			}
			return held("none of %d: D-Bus, Wayland, X11, agents", len(b.Sockets))
		}},
		{"ipc-any-socket", outside, func(b *bait) (string, string) {
			var found string
			deadline := time.Now().Add(8 * time.Second)
			for _, top := range []string{"/run", "/tmp", "/var", "/home", "/root", "/dev", "/etc", "/opt", "/srv", "/mnt"} {
				_ = filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
					if time.Now().After(deadline) {
						return fs.SkipAll
					}
					if err == nil && d.Type()&fs.ModeSocket != 0 && !strings.HasPrefix(name, b.Work+"/") && connectTo(name) == nil {
						found = name
						return fs.SkipAll
					}
					return nil
				})
			}
			if found != "" {
				return open("connected to %s", found)
			}
			return held("no socket lies about that somebody listens at")
		}},
		{"ipc-locks", outside, func(b *bait) (string, string) {
			text, _ := os.ReadFile("/proc/locks")
			if strings.Contains(string(text), fmt.Sprintf(":%d ", b.LockInode)) {
				return open("/proc/locks shows the host's locks")
			}
			return held("/proc/locks shows none of the host's")
		}},
		{"ipc-shm-folder", outside, func(b *bait) (string, string) {
			entries, _ := os.ReadDir("/dev/shm")
			for _, e := range entries {
				if strings.Contains(e.Name(), b.Marker) {
					return open("/dev/shm has the host's %s", e.Name())
				}
			}
			return held("/dev/shm has none of the host's")
		}},
		{"ipc-futex-owner", outside, func(b *bait) (string, string) {
			var head, length uintptr
			errno := call(unix.SYS_GET_ROBUST_LIST, uintptr(b.PID), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&length)))
			if errno == 0 || errno == unix.EPERM && len(pids()) > 0 && exists(fmt.Sprintf("/proc/%d", b.PID)) && b.NS["pid"] == readlink("/proc/self/ns/pid") {
				return open("get_robust_list of the host's process: %v", errno)
			}
			return held("%v", errno)
		}},
		{"key-session", outside, func(b *bait) (string, string) { return searchKey(unix.KEY_SPEC_SESSION_KEYRING) }},
		{"key-user", outside, func(b *bait) (string, string) { return searchKey(unix.KEY_SPEC_USER_KEYRING) }},
		{"key-user-session", outside, func(b *bait) (string, string) { return searchKey(unix.KEY_SPEC_USER_SESSION_KEYRING) }},
		{"key-persistent", outside, func(b *bait) (string, string) {
			id, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, -1, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0)
			if err != nil {
				return held("%v", err)
			}
			if found, err := unix.KeyctlSearch(id, "user", keyName, 0); err == nil {
				return open("the persistent keyring has the host's key %d", found)
			}
			return held("it is empty")
		}},
		{"key-by-serial", outside, func(b *bait) (string, string) { return readKey(b.Key) }},
		{"key-session-by-serial", outside, func(b *bait) (string, string) { return readKey(b.SessionKey) }},
		{"key-request", outside, func(b *bait) (string, string) {
			id, err := unix.RequestKey("user", keyName, "", 0)
			if err == nil {
				return open("request_key found the host's key %d", id)
			}
			return held("%v", err)
		}},
		{"key-link", outside, func(b *bait) (string, string) {
			_, err := unix.KeyctlInt(unix.KEYCTL_LINK, b.Key, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0)
			if err == nil {
				return open("linked the host's key by its number")
			}
			return held("%v", err)
		}},
		{"key-listed", outside, func(b *bait) (string, string) {
			text, err := os.ReadFile("/proc/keys")
			if strings.Contains(string(text), keyName) {
				return open("/proc/keys lists the host's")
			}
			if err != nil {
				return held("%v", err)
			}
			return held("/proc/keys lists none of the host's")
		}},
	}
}

func sysv(what string, get func(*bait) unix.Errno) func(*bait) (string, string) {
	return func(b *bait) (string, string) {
		if errno := get(b); errno == 0 {
			return open("the host's %s was found", what)
		} else {
			return held("%v", errno)
		}
	}
}

func connectTo(name string) error {
	err := errors.New("no socket")
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
		fd, serr := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK, 0)
		if serr != nil {
			return serr
		}
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: name})
		unix.Close(fd)
		if err == nil || err == unix.EAGAIN {
			return nil
		}
	}
	return err
}

func searchKey(ring int) (string, string) {
	id, err := unix.KeyctlSearch(ring, "user", keyName, 0)
	if err == nil {
		return open("found the host's key %d", id)
	}
	return held("%v", err)
}

func readKey(serial int) (string, string) {
	buf := make([]byte, 100)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, serial, buf, 0)
	if err == nil && strings.Contains(string(buf[:min(n, len(buf))]), secret) {
		return open("read the host's key %d", serial)
	}
	if what, derr := unix.KeyctlString(unix.KEYCTL_DESCRIBE, serial); derr == nil && strings.Contains(what, keyName) {
		return open("described the host's key %d", serial)
	}
	return held("%v", err)
}

func call(trap uintptr, args ...uintptr) unix.Errno {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5])
	return errno
}

func exists(name string) bool { return unix.Access(name, unix.F_OK) == nil }

func readlink(name string) string {
	text, _ := os.Readlink(name)
	return text
}

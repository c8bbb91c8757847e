package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deepFailed is what is known without a user namespace.
func deepFailed() *Deep {
	no := Fact{Why: "needs a user namespace"}
	return &Deep{FuseOverlayfs: no, Exec: no, Owners: no}
}

// tryDeep works in the current folder, on the store's file system, as the root of a user namespace.
func tryDeep(fuse string) *Deep {
	d := deepFailed()
	d.Exec = fact(tryExec())
	d.Owners = fact(tryOwners())
	d.FuseOverlayfs = Fact{Why: "not on PATH"}
	if fuse != "" {
		d.FuseOverlayfs = fact(tryFuseOverlayfs(fuse))
	}
	return d
}

// tryExec starts a script: a mount with noexec, or a security module, keeps it from starting.
func tryExec() error {
	const shell = "/bin/sh"
	if unix.Access(shell, unix.X_OK) != nil {
		return nil // nothing to try it with
	}
	if err := os.WriteFile("script", []byte("#!"+shell+"\nexit 0\n"), 0o700); err != nil {
		return err
	}
	cmd := exec.Command("./script")
	cmd.Env = []string{}
	return cmd.Run()
}

// tryOwners gives a file to another id, as unpacking an image does. A server of NFS knows nothing of
// the capabilities of a user namespace and refuses. With a single id there is nobody to give it to.
func tryOwners() error {
	if err := os.WriteFile("owned", nil, 0o600); err != nil {
		return err
	}
	if b, err := os.ReadFile("/proc/self/uid_map"); err == nil && bytes.Count(b, []byte("\n")) == 1 && bytes.HasSuffix(bytes.TrimSpace(b), []byte(" 1")) {
		return nil
	}
	return os.Chown("owned", 1, 1)
}

// fuseTime is far more than fuse-overlayfs takes to answer.
const fuseTime = 10 * time.Second

// tryFuseOverlayfs starts the program on a mount as a sandbox does, and deletes and writes through it.
func tryFuseOverlayfs(program string) error {
	if err := stand(); err != nil {
		return err
	}
	for _, d := range []string{"flower", "fupper", "fwork", "fmerged"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile("flower/gone", nil, 0o600); err != nil {
		return err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	dev := os.NewFile(uintptr(fd), "/dev/fuse")
	defer dev.Close()
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fd)
	if err := unix.Mount("cove", "fmerged", "fuse", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("mount fuse: %w", err)
	}
	defer unix.Unmount("fmerged", unix.MNT_DETACH)
	cmd := exec.Command(program, "-f", "-o", "lowerdir=flower,upperdir=fupper,workdir=fwork", "/dev/fd/3")
	var said bytes.Buffer
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = []string{}, &said, []*os.File{dev}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	used := make(chan error, 1)
	go func() {
		used <- errors.Join(os.Remove("fmerged/gone"), os.WriteFile("fmerged/new", []byte("x"), 0o600))
	}()
	dev.Close() // the program's alone now: when it goes, who still waits for the mount is told so
	select {
	case err = <-used:
		if err != nil { // the mount's, when the program went; its own end says more
			select {
			case end := <-ended:
				err = fmt.Errorf("it ended: %v", end)
				ended <- end
			case <-time.After(time.Second):
			}
		}
		_ = cmd.Process.Kill()
		<-ended
	case err = <-ended:
		err = fmt.Errorf("it ended: %v", err)
	case <-time.After(fuseTime):
		_ = cmd.Process.Kill()
		<-ended
		err = fmt.Errorf("it did not answer within %s", fuseTime)
	}
	if text := strings.TrimSpace(said.String()); err != nil && text != "" {
		err = fmt.Errorf("%w: it said %q", err, text)
	}
	return err
}

// stand shows the current folder where /sys is and goes there: fuse-overlayfs resolves its paths from the root on, by way
// of folders that may be closed to the ids of this namespace.
func stand() error {
	if err := unix.Mount(".", "/sys", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	return os.Chdir("/sys")
}

// confinement tries what needs no namespace: each on a thread of its own that ends with it, as none can be undone.
func (d *Deep) confinement() {
	d.Landlock = fact(onThread(tryLandlock))
	d.Scope = fact(tryScope())
	d.Seccomp = fact(onThread(trySeccomp))
}

func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// landlock_create_ruleset(2) and its kin, of which x/sys has the numbers alone.
const (
	landlockReadFile = 1 << 2 // LANDLOCK_ACCESS_FS_READ_FILE
	landlockAbstract = 1 << 0 // LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
)

type landlockRuleset struct{ fs, net, scoped uint64 }

func landlockRestrict(attr *landlockRuleset, size uintptr) error {
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), size, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_create_ruleset", errno)
	}
	defer unix.Close(int(fd))
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}

// tryLandlock enters a domain that grants nothing, and reads.
func tryLandlock() error {
	if err := landlockRestrict(&landlockRuleset{fs: landlockReadFile}, 8); err != nil {
		return err
	}
	fd, err := unix.Open("/etc/passwd", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
		return errors.New("a file was read that nothing granted")
	}
	if err != unix.EACCES && err != unix.ENOENT {
		return &os.PathError{Op: "open", Path: "/etc/passwd", Err: err}
	}
	return nil
}

// tryScope listens on an abstract socket and connects to it from a domain that is to keep it away.
func tryScope() error {
	server, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(server)
	// An address of two bytes alone: the kernel chooses a free abstract name (unix(7), autobind).
	if err := unix.Bind(server, &unix.SockaddrUnix{}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(server, 2); err != nil {
		return os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(server)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	connect := func() error {
		client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(client)
		return unix.Connect(client, name)
	}
	if err := connect(); err != nil { // without a domain it has to work, or the trial shows nothing
		return fmt.Errorf("connect to an abstract socket: %w", err)
	}
	return onThread(func() error {
		if err := landlockRestrict(&landlockRuleset{scoped: landlockAbstract}, unsafe.Sizeof(landlockRuleset{})); err != nil {
			return err
		}
		switch err := connect(); err {
		case unix.EPERM:
			return nil
		case nil:
			return errors.New("an abstract socket was reached")
		default:
			return fmt.Errorf("connect to an abstract socket: %w", err)
		}
	})
}

// trySeccomp denies one harmless system call, and makes it.
func trySeccomp() error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETPRIORITY, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EXFULL)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	if _, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != unix.EXFULL {
		return errors.New("the filter had no effect")
	}
	return nil
}

package host

import (
	"errors"
	"fmt"
	"io"
	"os"

	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// StageName is the argv[0] that makes this binary the stage which tries things.
const StageName = "cove-probe"

// StageMain runs the stage: it waits for the request, which comes once the ids are mapped, tries
// everything in the namespaces that it was started in, answers and ends. It returns the exit code.
func StageMain() int {
	conn, err := fdpass.FromFD(userns.ConnFD)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cove: "+StageName+" is a part of cove that it starts itself")
		return 2
	}
	var req request
	if _, err := conn.Recv(&req); err != nil {
		return 1
	}
	if err := conn.Send(tryHere(req)); err != nil {
		return 1
	}
	return 0
}

func tryHere(req request) answer {
	if req.Lower != "" {
		return answer{Tried: Tried{NativeOverlay: fact(tryLower(req))}}
	}
	t := answer{Tried: Tried{UserNS: fact(enter(req.Dir))}}
	if !t.UserNS.OK {
		return answer{Tried: allFailed(errors.New(t.UserNS.Why)).with(t.UserNS)}
	}
	if req.Dir != "" {
		t.NativeOverlay = fact(tryOverlay())
		if req.Deep {
			t.Deep = tryDeep(req.Fuse)
		}
	}
	t.Hostname = fact(os.NewSyscallError("sethostname", unix.Sethostname([]byte("cove"))))
	// What follows mounts over a tmpfs of our own: nothing here touches the store any more.
	if err := ownTmp(); err != nil {
		return answer{Tried: allFailed(err).with(fact(err))}
	}
	t.FuseMount = fact(tryFuse())
	t.DevNetTun = fact(tryTun())
	t.MountSetattr = fact(tryMountSetattr())
	t.ProcMount = fact(unix.Mount("proc", "proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
	return t
}

func (t Tried) with(userNS Fact) Tried { t.UserNS = userNS; return t }

// enter goes to the folder, becomes the namespace's root and proves that it has power here. As
// root on the host the folder is reached with the id that we came with, before it is given up.
func enter(dir string) error {
	if dir != "" {
		if err := unix.Chdir(dir); err != nil {
			return &os.PathError{Op: "chdir", Path: dir, Err: err}
		}
	}
	if err := unix.Setresgid(0, 0, 0); err != nil {
		return os.NewSyscallError("setresgid", err)
	}
	if err := unix.Setresuid(0, 0, 0); err != nil {
		return os.NewSyscallError("setresuid", err)
	}
	// AppArmor's restriction (Ubuntu 23.10 and later) lets the namespace be made and then
	// denies every capability in it, so that the first mount tells.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount in a user namespace: %w", err)
	}
	return nil
}

// tryOverlay mounts an overlay below the current folder, and deletes and writes through it: a
// file system may be mounted as upper and yet not take the whiteouts and attributes.
func tryOverlay() error {
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile("lower/gone", nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work,userxattr"); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	defer unix.Unmount("merged", unix.MNT_DETACH)
	if err := os.Remove("merged/gone"); err != nil {
		return err
	}
	if err := os.Mkdir("merged/gone", 0o700); err != nil { // opaque: needs user.* attributes
		return err
	}
	return os.WriteFile("merged/new", []byte("x"), 0o600)
}

// tryLower mounts an overlay on a folder that is opened with the caller's ids: nobody else may get there.
func tryLower(req request) error {
	lower, err := unix.Open(req.Lower, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: req.Lower, Err: err}
	}
	defer unix.Close(lower)
	if err := enter(req.Dir); err != nil {
		return err
	}
	for _, d := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	data := fmt.Sprintf("lowerdir=/proc/self/fd/%d,upperdir=upper,workdir=work,userxattr", lower)
	if err := unix.Mount("overlay", "merged", "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	// A folder that can be mounted and not be read is of no use either.
	d, err := os.Open("merged")
	if err == nil {
		_, err = d.Readdirnames(1)
		d.Close()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, os.NewSyscallError("umount", unix.Unmount("merged", unix.MNT_DETACH)))
}

func ownTmp() error {
	if err := unix.Mount("tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64k"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := os.Chdir("/tmp"); err != nil {
		return err
	}
	for _, d := range []string{"fuse", "proc", "bind"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// tryFuse opens /dev/fuse in here, which the kernel demands of who mounts it, and mounts it
// (Linux 4.18). Nobody serves it; nothing looks into it.
func tryFuse() error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	defer unix.Close(fd)
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("cove", "fuse", "fuse", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("mount fuse: %w", err)
	}
	return os.NewSyscallError("umount", unix.Unmount("fuse", unix.MNT_DETACH))
}

func tryTun() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("tap0")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	return os.NewSyscallError("TUNSETIFF", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
}

func tryMountSetattr() error {
	if err := unix.Mount("bind", "bind", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(unix.AT_FDCWD, "bind", unix.AT_RECURSIVE, &attr)
	return os.NewSyscallError("mount_setattr", err)
}

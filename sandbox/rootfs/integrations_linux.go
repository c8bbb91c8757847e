package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// integrations makes the file system that holds the sockets of what the parent serves inside. It comes before the mounts, as the
// files do: a link in an image must not lead it into what is mounted later.
func (r *Root) integrations() error {
	names := r.spec.Integrations.Sockets()
	if r.spec.Integrations == nil {
		return nil
	}
	mount, err := tmpfs(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, 0o755, 1<<20)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if err := r.mountDir(mount, spec.IntegrationsDir); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.listenAt(mount, name); err != nil {
			return fmt.Errorf("listen on %s: %w", name, err)
		}
	}
	if err := r.integrationPrograms(mount); err != nil {
		return err
	}
	for name, socket := range r.src.sockets {
		if err := (tree{fd: mount}).writeNew(name, nil); err != nil {
			return fmt.Errorf("place %s: %w", name, err)
		}
		if err := bindAt(socket, mount, name); err != nil {
			return fmt.Errorf("place %s: %w", name, err)
		}
	}
	for _, f := range r.spec.Integrations.Files {
		name := path.Base(string(f.Target))
		if err := (tree{fd: mount}).writeNew(name, []byte(f.Content)); err != nil {
			return fmt.Errorf("place %s: %w", f.Target, err)
		}
	}
	// Read-only it can be connected to as well as before, and nobody puts another socket in its place.
	return restrict(mount, unix.MOUNT_ATTR_RDONLY, false)
}

// integrationPrograms puts cove itself there under each of the names by which it is a client of the parent: it is the one program that
// runs in every image. It is read-only as the file system is, and nobody gets at it by /proc/PID/exe either.
func (r *Root) integrationPrograms(dir int) error {
	names := r.spec.Integrations.Programs()
	if len(names) == 0 {
		return nil
	}
	if err := unix.Mkdirat(dir, spec.ProgramsDir, 0o755); err != nil {
		return err
	}
	for i, name := range names {
		at := spec.ProgramsDir + "/" + name
		if err := (tree{fd: dir}).writeNew(at, nil); err != nil {
			return fmt.Errorf("place %s: %w", name, err)
		}
		if err := bindAt(r.src.programs[i], dir, at); err != nil {
			return fmt.Errorf("place %s: %w", name, err)
		}
	}
	return nil
}

// bindAt puts the mount of a file, read-only, over one that is there. It takes the mount over. Who may write to a socket may connect to it on a
// read-only file system too.
func bindAt(mount, dir int, at string) error {
	defer unix.Close(mount)
	if err := restrict(mount, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, false); err != nil {
		return err
	}
	target, err := unix.Openat(dir, at, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return attach(mount, target)
}

// backlog is how many connections wait for the parent, which takes so many at a time; others are refused.
const backlog = 16

// listenAt makes a socket in the directory and listens on it. It is everybody's inside: who is root there and who is not is no
// matter of what was granted.
func (r *Root) listenAt(dir int, name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	r.listening = append(r.listening, os.NewFile(uintptr(fd), name))
	// By way of the descriptor: the root file system is nowhere that a path of bind(2) leads to without its links.
	at := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: at}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Fchmodat(dir, name, 0o666, 0); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// Listening are the sockets that were made for spec.Integrations.Sockets, in that order. Whoever takes them closes them.
func (r *Root) Listening() []*os.File { return r.listening }

// cloneDevice makes a detached mount of a device node, and of nothing else.
func cloneDevice(name string) (int, error) {
	fd, err := clone(unix.AT_FDCWD, name)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		_ = unix.Close(fd)
		return -1, errors.New("not a character device")
	}
	return fd, nil
}

// grantedDevices puts the device nodes that were granted into /dev, on which nothing else was put yet but the sandbox's own nodes.
func (r *Root) grantedDevices(dev tree) error {
	for i, mount := range r.src.granted {
		name := strings.TrimPrefix(string(r.spec.Integrations.Devices[i].Target), "/dev/")
		target, err := dev.file("/" + name)
		if err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
		// Read-only: what a device does is not the file system's to say, but its owner and mode are, and it may be the caller's own.
		err = errors.Join(restrict(mount, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, false), attach(mount, target))
		_ = unix.Close(target)
		_ = unix.Close(mount)
		if err != nil {
			return fmt.Errorf("mount /dev/%s: %w", name, err)
		}
	}
	return nil
}

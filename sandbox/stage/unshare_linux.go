package stage

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"cove/sandbox/rootfs"
	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// UnshareName is the stage that becomes the command of `cove unshare`.
const UnshareName = "cove-unshare"

// UnshareStart tells it what to mount and what to become.
type UnshareStart struct {
	IDMap  userns.IDMap
	Argv   []spec.Arg
	Mounts []UnshareMount
}

// UnshareMount is an image's layers, lowest first, and where to mount them read-only.
type UnshareMount struct {
	Layers []spec.Path
	Target spec.Path
}

func unshareMain(conn *fdpass.Conn) int {
	var start UnshareStart
	if _, err := conn.Recv(&start); err != nil {
		return 1
	}
	exited := exitedBecause(becomeUnshared(&start))
	_ = conn.Send(exited)
	return exited.Code
}

// becomeUnshared only returns when it fails.
func becomeUnshared(start *UnshareStart) error {
	// Mounted with the caller's ids: both the layers and the targets may lie where only the caller gets.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, m := range start.Mounts {
		if err := mountLayers(m); err != nil {
			return fmt.Errorf("mount image on %q: %w", m.Target, err)
		}
	}
	uid, gid := 0, 0
	if start.IDMap.Single() {
		uid, gid = int(start.IDMap.UIDs[0].ContainerID), int(start.IDMap.GIDs[0].ContainerID)
	} else if err := unix.Setgroups(nil); err != nil {
		return fmt.Errorf("drop groups: %w", err)
	}
	if err := errors.Join(unix.Setresgid(gid, gid, gid), unix.Setresuid(uid, uid, uid)); err != nil {
		return fmt.Errorf("become uid %d: %w", uid, err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the parent: %w", err)
	}
	var argv []string
	for _, a := range start.Argv {
		argv = append(argv, string(a))
	}
	file, err := userns.LookPath(argv[0])
	if err != nil {
		return &execError{codeNotFound, err}
	}
	return &execError{codeNotRunnable, &os.PathError{Op: "exec", Path: file, Err: syscall.Exec(file, argv, os.Environ())}}
}

func mountLayers(m UnshareMount) error {
	target, err := unix.Open(string(m.Target), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if len(m.Layers) == 1 {
		// overlayfs wants two layers or an upper one.
		return rootfs.BindReadOnly(string(m.Layers[0]), target)
	}
	var lower []string
	for i := len(m.Layers) - 1; i >= 0; i-- {
		fd, err := unix.Open(string(m.Layers[i]), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %q: %w", m.Layers[i], err)
		}
		defer unix.Close(fd)
		lower = append(lower, "/proc/self/fd/"+strconv.Itoa(fd))
	}
	return unix.Mount("overlay", "/proc/self/fd/"+strconv.Itoa(target), "overlay", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID,
		"lowerdir="+strings.Join(lower, ":")+",userxattr")
}

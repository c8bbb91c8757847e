package stage

import (
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// leaveHost makes a root of the stage's own in which there are its directories and nothing else: what decompresses, copies
// and removes, on threads that are not confined to one of them, can name nothing of the host either.
func (st *stage) leaveHost(submounts bool) error {
	const root = "/tmp" // a directory that every system has
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", root, err)
	}
	for i, dir := range st.dirs {
		at := root + "/" + strconv.Itoa(i)
		if err := unix.Mkdir(at, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", at, err)
		}
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
		if submounts {
			flags |= unix.AT_RECURSIVE // without them the kernel refuses: what lies below a mount is not to be uncovered
		}
		tree, err := unix.OpenTree(dir, "", flags)
		if err != nil {
			return fmt.Errorf("open_tree: %w", err)
		}
		_ = unix.Close(dir)
		if st.dirs[i], err = openRetry(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			err = unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		_ = unix.Close(tree)
		if err != nil {
			return fmt.Errorf("move_mount: %w", err)
		}
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	return pivot()
}

// pivot makes the working directory, a mount's root, the root. The old one ends up stacked on it and is taken off
// (pivot_root(2), "." twice).
func pivot() error {
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	return nil
}

// confined runs f on a thread of its own that is confined to the directory that at is open on. The thread ends with it:
// it would be of no use to anything else.
func (st *stage) confined(at int, f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := confine(at, st.filters)
		if err == nil {
			err = f()
		}
		errc <- err
	}()
	return <-errc
}

// confine makes the directory dir the calling thread's root, in a mount namespace in which there
// is nothing else, and drops the capabilities and system calls that unpacking does not need. Linux keeps the root,
// the working directory and the mount namespace per thread once CLONE_FS is unshared (unshare(2)),
// so each layer's thread has its own. The caller has locked the thread and never unlocks it.
func confine(dir int, f *filters) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare fs: %w", err)
	}
	if err := unix.Fchdir(dir); err != nil {
		return fmt.Errorf("fchdir: %w", err)
	}
	// The working directory moves into the new namespace's copy of its mount, so that "."
	// is a place this namespace may clone.
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, ".", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, ".", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return fmt.Errorf("fchdir: %w", err)
	}
	if err := pivot(); err != nil {
		return err
	}
	if err := dropCaps(); err != nil {
		return err
	}
	return f.loadThread()
}

// kept are the capabilities that unpacking needs: to give files to their owners, to write into
// directories of mode 0000, to set modes, setuid bits and times, and security.capability.
// A whiteout, the character device 0:0, needs none (Linux 5.8).
var kept = []uint{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETFCAP}

func dropCaps() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl NO_NEW_PRIVS: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl CAP_AMBIENT: %w", err)
	}
	hdr, data := capabilities()
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

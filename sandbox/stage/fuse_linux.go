package stage

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// FuseName is the stage that becomes fuse-overlayfs.
const FuseName = "cove-fuse"

// FuseStart tells it what to serve; /dev/fuse is the descriptor after the socket's.
type FuseStart struct {
	Program string
	Root    spec.Root
	IDMap   userns.IDMap
}

// fuseFD is where the stage finds /dev/fuse, mounted by init.
const fuseFD = userns.ConnFD + 1

func fuseMain() int {
	conn, err := fdpass.FromFD(userns.ConnFD)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: a part of cove that only cove starts\n", FuseName)
		return 2
	}
	var start FuseStart
	if _, err := conn.Recv(&start); err != nil {
		return 1
	}
	if err := execFuse(&start, conn); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", FuseName, err)
	}
	return 1
}

// execFuse opens the directories with the caller's ids, and names them to the program by their
// descriptors, as the overlay mount does and for the same reasons.
func execFuse(start *FuseStart, conn *fdpass.Conn) error {
	var lower []string
	for i := len(start.Root.Layers) - 1; i >= 0; i-- {
		name, err := openForExec(string(start.Root.Layers[i]))
		if err != nil {
			return err
		}
		lower = append(lower, name)
	}
	upper, err := openForExec(string(start.Root.RunDir) + "/upper")
	if err != nil {
		return err
	}
	work, err := openForExec(string(start.Root.RunDir) + "/work")
	if err != nil {
		return err
	}
	resetSignals()
	unix.Umask(0)
	if err := becomeRoot(start.IDMap, conn); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lower, ":"), upper, work)
	argv := []string{"fuse-overlayfs", "-f", "-o", options, fmt.Sprintf("/dev/fd/%d", fuseFD)}
	return syscall.Exec(start.Program, argv, []string{"PATH=" + defaultPath})
}

func openForExec(name string) (string, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", fmt.Errorf("open %q: %w", name, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}

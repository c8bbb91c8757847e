package stage

import (
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

// FuseName is the stage that becomes fuse-overlayfs.
const FuseName = "cove-fuse"

// FuseStart tells it what to serve; /dev/fuse is the descriptor after the socket's.
type FuseStart struct {
	Program string
	Root    spec.Root
	View    bool // Root's one layer is the project
	IDMap   userns.IDMap
}

// fuseFD is where the stage finds /dev/fuse, mounted by init.
const fuseFD = userns.ConnFD + 1

func fuseMain(conn *fdpass.Conn) int {
	var start FuseStart
	if _, err := conn.Recv(&start); err != nil {
		return 1
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", FuseName, execFuse(&start, conn)) // it returns only where it failed
	return 1
}

// execFuse opens the directories with the caller's ids and mounts them where the program, which
// resolves paths by itself and with other ids, gets at them.
func execFuse(start *FuseStart, conn *fdpass.Conn) error {
	var stand rootfs.Stand
	var lower []string
	for i := len(start.Root.Layers) - 1; i >= 0; i-- {
		name := strconv.Itoa(i)
		add := stand.AddReadOnly // a layer is the image's
		if start.View {
			add = stand.AddProject
		}
		if err := add(string(start.Root.Layers[i]), name); err != nil {
			return err
		}
		lower = append(lower, name)
	}
	// One mount for both: the program renames between them.
	if err := stand.Add(string(start.Root.RunDir), "run"); err != nil {
		return err
	}
	resetSignals()
	unix.Umask(0)
	if err := becomeRoot(start.IDMap, conn); err != nil {
		return err
	}
	dir, err := stand.Mount()
	if err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=run/upper,workdir=run/work", strings.Join(lower, ":"))
	argv := []string{"fuse-overlayfs", "-f", "-o", options, fmt.Sprintf("/dev/fd/%d", fuseFD)}
	return &os.PathError{Op: "exec", Path: start.Program, Err: syscall.Exec(start.Program, argv, []string{"PATH=" + defaultPath})}
}

package userns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoHelper says that newuidmap or newgidmap is not there, so that only one id can be mapped.
var ErrNoHelper = errors.New("newuidmap and newgidmap are not installed")

// Helpers finds newuidmap and newgidmap on PATH.
func Helpers() (newuidmap, newgidmap string, err error) {
	newuidmap, err = findHelper("newuidmap")
	if err == nil {
		newgidmap, err = findHelper("newgidmap")
	}
	if err != nil {
		return "", "", ErrNoHelper
	}
	return newuidmap, newgidmap, nil
}

// findHelper passes over what has no power that its caller lacks: where PATH has a folder of the project, as direnv and npm have it, a
// sandbox may have put something there under a helper's name, to be run outside at the next start.
func findHelper(name string) (string, error) {
	for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
		if file := path.Join(dir, name); strings.HasPrefix(dir, "/") && executableFile(file) == nil && empowered(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("%q: %w", name, ErrNotFound)
}

// empowered reports whether root, and nobody inside, has made a program what it is: it is root's own, and so is a link to it, or it has file
// capabilities that count everywhere. Those set in a user namespace are of another revision (capabilities(7)).
func empowered(file string) bool {
	var link, target unix.Stat_t
	if unix.Lstat(file, &link) != nil || unix.Stat(file, &target) != nil {
		return false
	}
	if link.Uid == 0 && target.Uid == 0 {
		return true
	}
	var caps [64]byte
	n, err := unix.Lgetxattr(file, "security.capability", caps[:])
	return err == nil && n >= 4 && caps[3] == 2 // the highest byte of VFS_CAP_REVISION_2, in little endian
}

// LookPath finds a program as execvp(3) does, but for what PATH has of the current folder: ErrNotFound, or what is wrong
// with the file where name has a slash. It is what package os/exec has too, which is initialised so late that every stage
// that waited for it would wait for half of what is linked into cove.
func LookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executableFile(name)
	}
	for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
		if !strings.HasPrefix(dir, "/") {
			continue
		}
		if file := path.Join(dir, name); executableFile(file) == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%q: %w", name, ErrNotFound)
}

// ErrNotFound says that PATH has no such program.
var ErrNotFound = errors.New("not found in PATH")

func executableFile(name string) error {
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = unix.EISDIR
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, name, unix.X_OK, unix.AT_EACCESS)
	}
	if err != nil {
		return &os.PathError{Op: "exec", Path: name, Err: err}
	}
	return nil
}

// MayMap reports whether this process may write maps of any ids that its own user namespace has:
// it holds CAP_SETUID and CAP_SETGID there, as root has them (user_namespaces(7)).
func MayMap() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		return false
	}
	const both = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return data[0].Effective&both == both
}

// startMaps begins to map ids into the user namespace of pid: directly where the caller may, otherwise
// by the setuid helpers, both at once. The maps are there when wait returns nil.
func startMaps(ctx context.Context, pid int, m IDMap) (wait func() error, err error) {
	if m.Single() || MayMap() {
		return func() error { return nil }, writeDirectly(pid, m)
	}
	newuidmap, newgidmap, err := Helpers()
	if err != nil {
		return nil, err
	}
	uids, err := startHelper(newuidmap, pid, m.UIDs)
	if err != nil {
		return nil, err
	}
	gids, err := startHelper(newgidmap, pid, m.GIDs)
	if err != nil {
		return nil, errors.Join(err, uids.wait(ctx))
	}
	return func() error { return errors.Join(uids.wait(ctx), gids.wait(ctx)) }, nil
}

// helperTime is far more than a helper takes on the slowest machine: one that looks users up over a network may hang.
const helperTime = 30 * time.Second

// helper is newuidmap or newgidmap at work.
type helper struct {
	path string
	pid  int
	said *os.File // what it says on stderr
}

func startHelper(path string, pid int, ranges []Range) (*helper, error) {
	argv := []string{path, strconv.Itoa(pid)}
	for _, r := range ranges {
		argv = append(argv, utoa(r.ContainerID), utoa(r.HostID), utoa(r.Size))
	}
	said, stderr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		said.Close()
		return nil, err
	}
	defer null.Close()
	child, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: []uintptr{null.Fd(), null.Fd(), stderr.Fd()},
	})
	if err != nil {
		said.Close()
		return nil, &HelperError{Helper: path, Err: &os.PathError{Op: "exec", Path: path, Err: err}}
	}
	return &helper{path, child, said}, nil
}

// wait waits for the helper's end.
func (h *helper) wait(ctx context.Context) error {
	defer h.said.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, helperTime, fmt.Errorf("it did not end within %s", helperTime))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(h.pid, unix.SIGKILL) })
	text, _ := io.ReadAll(io.LimitReader(h.said, maxHelperText))
	var status syscall.WaitStatus
	var err error
	for {
		if _, err = syscall.Wait4(h.pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if !stop() && ctx.Err() != nil {
		return &HelperError{Helper: h.path, Err: context.Cause(ctx)}
	}
	if err == nil && status != 0 {
		err = fmt.Errorf("it ended with status %d", status.ExitStatus())
	}
	if err != nil {
		return &HelperError{Helper: h.path, Text: strings.TrimSpace(string(text)), Err: err}
	}
	return nil
}

// maxHelperText bounds what is read of a helper's complaint.
const maxHelperText = 4096

// A HelperError says that newuidmap or newgidmap refused the mapping, and what it said.
type HelperError struct {
	Helper, Text string
	Err          error
}

func (e *HelperError) Error() string {
	text := e.Text
	if text == "" {
		text = e.Err.Error()
	}
	return fmt.Sprintf("map ids with %s: %s", e.Helper, text)
}
func (e *HelperError) Unwrap() error { return e.Err }

// writeDirectly writes the map files itself: who MayMap any ranges; otherwise one id, the caller's own.
func writeDirectly(pid int, m IDMap) error {
	dir := fmt.Sprintf("/proc/%d/", pid)
	if !MayMap() {
		// The kernel refuses an unprivileged gid_map until setgroups is denied: leaving a
		// group could open a file that the group was forbidden. See user_namespaces(7).
		if err := writeOnce(dir+"setgroups", "deny"); err != nil {
			return err
		}
	}
	if err := writeOnce(dir+"gid_map", lines(m.GIDs)); err != nil {
		return err
	}
	return writeOnce(dir+"uid_map", lines(m.UIDs))
}

func lines(ranges []Range) string {
	var b strings.Builder
	for _, r := range ranges {
		fmt.Fprintf(&b, "%d %d %d\n", r.ContainerID, r.HostID, r.Size)
	}
	return b.String()
}

// writeOnce writes in a single write(2), which the map files demand.
func writeOnce(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}

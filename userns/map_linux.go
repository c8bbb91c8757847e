package userns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoHelper says that newuidmap or newgidmap is not there, so that only one id can be mapped.
var ErrNoHelper = errors.New("newuidmap and newgidmap are not installed")

// Helpers finds newuidmap and newgidmap on PATH, then where Debian and Fedora put them.
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

func findHelper(name string) (string, error) { return exec.LookPath(name) }

// writeMaps maps ids into the user namespace of pid: directly where the caller may, otherwise
// by the setuid helpers, both at once.
func writeMaps(ctx context.Context, pid int, m IDMap) error {
	if os.Geteuid() == 0 || m.Single() {
		return writeDirectly(pid, m)
	}
	newuidmap, newgidmap, err := Helpers()
	if err != nil {
		return err
	}
	gids := make(chan error, 1)
	go func() { gids <- runHelper(ctx, newgidmap, pid, m.GIDs) }()
	return errors.Join(runHelper(ctx, newuidmap, pid, m.UIDs), <-gids)
}

func runHelper(ctx context.Context, helper string, pid int, ranges []Range) error {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ranges {
		args = append(args, utoa(r.ContainerID), utoa(r.HostID), utoa(r.Size))
	}
	cmd := exec.CommandContext(ctx, helper, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return &HelperError{Helper: helper, Text: strings.TrimSpace(stderr.String()), Err: err}
	}
	return nil
}

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

// writeDirectly writes the map files itself: as root, any ranges; otherwise one id, the caller's own.
func writeDirectly(pid int, m IDMap) error {
	dir := fmt.Sprintf("/proc/%d/", pid)
	if os.Geteuid() != 0 {
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

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

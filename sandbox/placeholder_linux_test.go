package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// A start neither waits for nor writes the journals of workspaces that others use, however many these are. Those of sandboxes
// that were killed are cleaned up.
func TestSweepBesideMany(t *testing.T) {
	runtimeDir, project := t.TempDir(), t.TempDir()
	root, err := unix.Open(project, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	base := workspaceFile(runtimeDir, project)
	use, err := openUse(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := flock(use.inUse, unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	err = use.change(func(j *journal) error {
		j.Workspace = spec.Path(project)
		return makePlaceholder(root, "cove.toml", false, j)
	})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, base, unix.IN_OPEN|unix.IN_CLOSE|unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	sweepPlaceholders(runtimeDir)
	if n := events(t, fd); n != 0 {
		t.Errorf("the journal of a workspace in use was opened or written %d times", n)
	}
	placeholder := filepath.Join(project, "cove.toml")
	if _, err := os.Lstat(placeholder); err != nil {
		t.Errorf("in use: %v", err)
	}
	use.inUse.Close() // as a kill does
	sweepPlaceholders(runtimeDir)
	if _, err := os.Lstat(placeholder); !os.IsNotExist(err) {
		t.Errorf("after a kill: %v", err)
	}
	if info, err := os.Stat(base); err != nil || info.Size() != 0 {
		t.Errorf("the journal: %v, %v", info, err)
	}
}

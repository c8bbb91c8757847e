package stage

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The file of a window leaves nothing behind, where there are files without names and where not.
func TestNameless(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		f, err := nameless(fd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, whiteoutMeta+"*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		f.Close()
	}
}

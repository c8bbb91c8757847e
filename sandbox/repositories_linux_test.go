package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNewRepositories(t *testing.T) {
	top, aside := t.TempDir(), t.TempDir()
	root, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	mkdir := func(names ...string) {
		for _, name := range names {
			if err := os.MkdirAll(name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	look := func(since, deadline time.Time) ([]string, bool) {
		found, whole := newRepositories(root, since, deadline)
		slices.Sort(found)
		return found, whole
	}
	later := time.Now().Add(time.Hour)

	mkdir(filepath.Join(top, "old", ".git"), filepath.Join(aside, "elsewhere", ".git"))
	if err := os.Symlink(aside, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the clock's tick
	since := fileTime()
	mkdir(filepath.Join(top, "a", "b c", ".git", "modules", "x", ".git"), filepath.Join(top, ".git"), filepath.Join(top, "x.git"))
	if err := os.WriteFile(filepath.Join(top, "old", "\n.git"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "a", ".git"), []byte("gitdir: .."), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{".git", "a/.git", "a/b c/.git"}
	if found, whole := look(since, later); !slices.Equal(found, want) || !whole {
		t.Errorf("found %q, %v", found, whole)
	}
	if found, whole := look(later, later); len(found) != 0 || !whole {
		t.Errorf("since later: %q, %v", found, whole)
	}
	if found, whole := look(since, time.Now().Add(-1)); len(found) != 0 || whole {
		t.Errorf("without time: %q, %v", found, whole)
	}

	// Deeper than a path's length reaches: there is no saying what is there.
	deep := strings.Repeat("d", 200)
	at, err := unix.Dup(root)
	if err != nil {
		t.Fatal(err)
	}
	for range 25 {
		if err := unix.Mkdirat(at, deep, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, deep, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	if _, whole := look(since, later); whole {
		t.Error("nothing is said of what is too deep")
	}
}

package sandbox

import (
	"encoding/binary"
	"fmt"
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

// Folders that hold files only, and in which nothing was made, are not opened: they are most of a large project. One in which
// something was made is, and so is every folder where the file system does not count the folders in it.
func TestNewRepositoriesOpens(t *testing.T) {
	top := t.TempDir()
	root, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const leaves = 30
	leaf := func(i int) string { return filepath.Join(top, "a", fmt.Sprint("b", i%3), fmt.Sprint("leaf", i)) }
	for i := range leaves {
		if err := os.MkdirAll(leaf(i), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(leaf(i), "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.InotifyAddWatch(fd, leaf(i), unix.IN_OPEN|unix.IN_CLOSE); err != nil {
			t.Fatal(err)
		}
	}
	opened := func() int { return events(t, fd) }
	time.Sleep(20 * time.Millisecond) // the clock's tick
	since, later := fileTime(), time.Now().Add(time.Hour)
	// A file, in two of them: a folder would show in st_nlink.
	for _, i := range []int{7, 8} {
		if err := os.WriteFile(filepath.Join(leaf(i), ".git"), []byte("gitdir: .."), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opened()
	found, whole := newRepositories(root, since, later)
	slices.Sort(found)
	if want := []string{"a/b1/leaf7/.git", "a/b2/leaf8/.git"}; !slices.Equal(found, want) || !whole {
		t.Errorf("found %q, %v", found, whole)
	}
	w := &repositoryWalk{root: root}
	w.countsFolders()
	want := leaves
	if w.counts {
		want = 2
	}
	if n := opened(); n != want {
		t.Errorf("%d of %d folders were opened, want %d", n, leaves, want)
	}
}

// events counts what an inotify descriptor tells but what is closed, which keeps the same from being told once for twice.
func events(t *testing.T, fd int) (n int) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for {
		got, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		for rest := buf[:got]; len(rest) > 0; {
			if binary.NativeEndian.Uint32(rest[4:])&unix.IN_CLOSE == 0 {
				n++
			}
			rest = rest[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(rest[12:])):]
		}
	}
}

func TestWalkTime(t *testing.T) {
	for run, want := range map[time.Duration]time.Duration{
		0: 200 * time.Millisecond, -time.Hour: 200 * time.Millisecond, 4 * time.Second: 200 * time.Millisecond, 20 * time.Second: time.Second, 24 * time.Hour: 5 * time.Second,
	} {
		if got := walkTime(run); got != want {
			t.Errorf("after %s: %s, want %s", run, got, want)
		}
	}
}

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A parent that is killed between making its directory and its lock, or between removing them,
// leaves an empty directory.
func TestLeftoverWithoutLockIsSwept(t *testing.T) {
	runtimeDir := t.TempDir()
	running, err := newState(runtimeDir, "0000000000000001")
	if err != nil {
		t.Fatal(err)
	}
	if err := running.publish(&record{Info: Info{ID: "0000000000000001", Name: "runs"}}); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(sandboxesDir(runtimeDir), "0000000000000002")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	list, err := List(runtimeDir)
	if err != nil || len(list) != 1 || list[0].Name != "runs" {
		t.Errorf("List = %v, %v; want the one that runs", list, err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the leftover is still there: %v", err)
	}
	if _, err := os.Stat(running.dir); err != nil {
		t.Errorf("the running one was swept: %v", err)
	}
	if err := running.close(); err != nil {
		t.Fatal(err)
	}
}

// A sweep that was late with its lock, after another sweep and the directory's maker, leaves the new one alone.
func TestLateSweep(t *testing.T) {
	runtimeDir := t.TempDir()
	dir := filepath.Join(sandboxesDir(runtimeDir), "0000000000000001")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	late, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	if is, err := alive(dir); is || err != nil {
		t.Fatal(is, err)
	}
	made, err := newState(runtimeDir, "0000000000000001")
	if err != nil {
		t.Fatal(err)
	}
	defer made.close()
	if _, err := removeUnlocked(late, dir); err != errReplaced {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	if is, err := alive(dir); !is || err != nil {
		t.Error(is, err)
	}
}

// Making a sandbox's directory and sweeping at the same time never loses the directory.
func TestNewStateAgainstSweep(t *testing.T) {
	runtimeDir := t.TempDir()
	done := make(chan bool)
	go func() {
		for {
			select {
			case <-done:
				done <- true
				return
			default:
				_, _ = List(runtimeDir)
			}
		}
	}()
	for range 500 {
		s, err := newState(runtimeDir, NewID())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.dir); err != nil {
			t.Fatalf("swept while held: %v", err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	done <- true
	<-done
}

// A sandbox is found by its ID without a look at the others.
func TestFindByID(t *testing.T) {
	runtimeDir := t.TempDir()
	id := func(i int) string { return fmt.Sprintf("%016x", i) }
	for i := range 30 {
		s, err := newState(runtimeDir, id(i))
		if err == nil {
			err = s.publish(&record{Info: Info{ID: id(i), Name: fmt.Sprint("name-", i)}})
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, sandboxesDir(runtimeDir), unix.IN_OPEN|unix.IN_CLOSE); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{id(7), "name-7", "0000000000000007"} {
		dir, r, err := find(runtimeDir, name)
		if err != nil || r.Name != "name-7" || filepath.Base(dir) != id(7) {
			t.Errorf("%s: %s, %v, %v", name, dir, r, err)
		}
		if n := events(t, fd); name == id(7) && n > 2 {
			t.Errorf("%s: %d folders were opened", name, n)
		}
	}
	for _, name := range []string{"", ".", "..", "../sandboxes/" + id(7), id(31), "name"} {
		if dir, _, err := find(runtimeDir, name); !errors.Is(err, ErrNoSandbox) {
			t.Errorf("%q: %s, %v", name, dir, err)
		}
	}
}

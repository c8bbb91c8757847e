package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// A name is found by its link, and where that is missing, wrong, or of a sandbox that was killed, by the records.
func TestFindByName(t *testing.T) {
	runtimeDir := t.TempDir()
	start := func(id, name string) *state {
		s, err := newState(runtimeDir, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.publish(&record{Info: Info{ID: id, Name: name}}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	is := func(name, id string) {
		t.Helper()
		if _, r, err := find(runtimeDir, name); id == "" && !errors.Is(err, ErrNoSandbox) || id != "" && (err != nil || r.ID != id) {
			t.Errorf("find(%q) = %v, %v; want %q", name, r, err, id)
		}
	}
	at := func(name string) string { return filepath.Join(runtimeDir, "names", name) }
	box := start("0000000000000001", "box")
	other := start("0000000000000002", "other")
	if _, r := byName(runtimeDir, "box"); r == nil || r.ID != "0000000000000001" {
		t.Errorf("the link of box leads to %v", r)
	}
	is("box", "0000000000000001")
	is("0000000000000002", "0000000000000002")
	for _, wrong := range []string{"0000000000000002", "0000000000000009", "../../x", "..", ""} {
		if err := os.Remove(at("box")); err != nil {
			t.Fatal(err)
		}
		if wrong == "" {
			break
		}
		if err := os.Symlink(wrong, at("box")); err != nil {
			t.Fatal(err)
		}
		is("box", "0000000000000001")
	}
	is("box", "0000000000000001") // with no link at all

	// A parent that is killed leaves its folder and its link; the lock goes with it.
	if err := other.lock.Close(); err != nil {
		t.Fatal(err)
	}
	is("other", "")
	if _, err := os.Lstat(at("other")); !os.IsNotExist(err) {
		t.Errorf("the link of a sandbox that was killed: %v", err)
	}

	// Of the killed one's name, before anybody has swept.
	if err := os.Symlink("0000000000000002", at("late")); err != nil {
		t.Fatal(err)
	}
	late := start("0000000000000003", "late")
	is("late", "0000000000000003")
	if id := idOf(at("late")); id != "0000000000000003" {
		t.Errorf("its link leads to %q", id)
	}

	// The end of one does not take the link of another away that has its name by now.
	newer := start("0000000000000004", "late")
	for _, s := range []*state{late, box} {
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	is("late", "0000000000000004")
	if err := newer.close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(runtimeDir, "names")); err != nil || len(left) > 0 {
		t.Errorf("names left behind: %v, %v", left, err)
	}
}

// Links that lead nowhere are swept: an older cove that sweeps a sandbox knows nothing of its link.
func TestSweepLinks(t *testing.T) {
	runtimeDir := t.TempDir()
	s, err := newState(runtimeDir, "0000000000000001")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.publish(&record{Info: Info{ID: "0000000000000001", Name: "runs"}}); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"gone": "0000000000000002:x", ".0000000000000003": "0000000000000003:x", "made": "0000000000000001:x"} {
		if err := os.Symlink(to, filepath.Join(byNameDir(runtimeDir), name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(byNameDir(runtimeDir), "a-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sweep(runtimeDir)
	entries, err := os.ReadDir(byNameDir(runtimeDir))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "a-file made runs" {
		t.Errorf("after a sweep there is %q", got)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// Without the folder of names everything works as well.
func TestNoLinks(t *testing.T) {
	runtimeDir := t.TempDir()
	if err := os.WriteFile(byNameDir(runtimeDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := newState(runtimeDir, "0000000000000001")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.publish(&record{Info: Info{ID: "0000000000000001", Name: "box"}}); err != nil {
		t.Fatal(err)
	}
	sweep(runtimeDir)
	if _, r, err := find(runtimeDir, "box"); err != nil || r.ID != "0000000000000001" {
		t.Errorf("find: %v, %v", r, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// A name that no file can have is found all the same.
func TestFindUnlinkable(t *testing.T) {
	runtimeDir := t.TempDir()
	for i, name := range []string{"..", "a/b", strings.Repeat("x", 300)} {
		id := fmt.Sprintf("%016d", i)
		s, err := newState(runtimeDir, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.publish(&record{Info: Info{ID: id, Name: name}}); err != nil {
			t.Fatal(err)
		}
		if _, r, err := find(runtimeDir, name); err != nil || r.ID != id {
			t.Errorf("find(%q) = %v, %v", name, r, err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

package sandbox

import (
	"os"
	"path/filepath"
	"testing"
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

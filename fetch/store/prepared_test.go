package store

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// beginPrepared begins one in a run that ends with end.
func beginPrepared(t *testing.T, s *Store, name string) (p *Prepared, end func()) {
	t.Helper()
	r, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	if p, err = s.BeginPrepared(ctx, r, name); err != nil {
		t.Fatal(err)
	}
	return p, func() {
		t.Helper()
		if err := r.Remove(ctx, testMap(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// prepare makes a prepared layer with a file in it, and returns its folder.
func prepare(t *testing.T, s *Store, name string) string {
	t.Helper()
	p, end := beginPrepared(t, s, name)
	defer end()
	if s.UsePrepared(name) != nil {
		t.Fatalf("%s is there before it is published", name)
	}
	if err := os.WriteFile(p.Layer()+"/made", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(p, name); err != nil {
		t.Fatal(err)
	}
	return s.path(preparedDir, name)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// A prepared layer is found by its name, until the machine is booted again, and what uses it keeps it.
func TestPrepared(t *testing.T) {
	s := open(t)
	name := PreparedName("boot1", "a")
	if s.UsePrepared(name) != nil {
		t.Fatal("there is one in an empty store")
	}
	dir := prepare(t, s, name)
	used := s.UsePrepared(name)
	if used == nil || !exists(used.Layer()+"/made") {
		t.Fatal("what was published is not found")
	}
	// The second of two that were made at once is nobody's.
	late, end := beginPrepared(t, s, name)
	if s.Publish(late, name) == nil {
		t.Error("one was put in the place of another")
	}
	end()
	if exists(late.Dir) {
		t.Error("what was not published is left")
	}
	if _, err := s.Collect(ctx, false); err != nil || !exists(dir) {
		t.Errorf("a collection took what is in use, or %v", err)
	}
	other := prepare(t, s, PreparedName("boot2", "a"))
	if !exists(dir) {
		t.Error("what is in use went with the boot")
	}
	if err := used.Close(); err != nil {
		t.Fatal(err)
	}
	last := prepare(t, s, PreparedName("boot2", "b"))
	if exists(dir) || !exists(other) || !exists(last) {
		t.Errorf("of the boot before there is %v; of this one %v and %v", exists(dir), exists(other), exists(last))
	}
	if _, err := s.Collect(ctx, true); err != nil || !exists(other) {
		t.Errorf("a dry collection took something, or %v", err)
	}
	if _, err := s.Collect(ctx, false); err != nil || exists(other) || exists(last) {
		t.Errorf("a collection left something, or %v", err)
	}
}

// One that a sandbox could not be set up with is not found again, unless somebody uses it.
func TestPreparedForget(t *testing.T) {
	s := open(t)
	name := PreparedName("boot", "a")
	dir := prepare(t, s, name)
	user, failed := s.UsePrepared(name), s.UsePrepared(name)
	if err := errors.Join(s.Forget(failed), failed.Close()); err != nil || !exists(dir) {
		t.Errorf("what somebody uses is gone, or %v", err)
	}
	if err := user.Close(); err != nil {
		t.Fatal(err)
	}
	used := s.UsePrepared(name)
	if err := s.Forget(used); err != nil {
		t.Fatal(err)
	}
	if s.UsePrepared(name) != nil {
		t.Error("it is found")
	}
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if left, err := listDir(s.path("run")); err != nil || len(left) != 1 {
		t.Errorf("swept while it is in use: %v, %v", left, err)
	}
	if err := errors.Join(used.Close(), s.Sweep(ctx)); err != nil {
		t.Fatal(err)
	}
	if left, err := listDir(s.path("run")); err != nil || len(left) != 0 || exists(dir) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Where every start wants another the oldest go.
func TestPreparedMost(t *testing.T) {
	s := open(t)
	old := time.Now().Add(-time.Hour)
	for n := range preparedMost + 1 {
		dir := prepare(t, s, PreparedName("boot", fmt.Sprint(n)))
		if err := os.Chtimes(dir, old, old.Add(time.Duration(n)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	names, err := listDir(s.path(preparedDir))
	if err != nil || len(names) != preparedMost/2+1 {
		t.Fatalf("%d are left, %v", len(names), err)
	}
	for n, want := range map[int]bool{0: false, preparedMost/2 - 1: false, preparedMost / 2: true, preparedMost: true} {
		if got := s.UsePrepared(PreparedName("boot", fmt.Sprint(n))); (got != nil) != want {
			t.Errorf("the one made as number %d is there: %v", n, got != nil)
		}
	}
}

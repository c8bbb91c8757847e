package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A run's directory is the next one's when nothing is in it, and nobody else's.
func TestSpareRun(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("as root the directories are the sandbox's, and none is kept")
	}
	s := open(t)
	begin := func() *Run {
		t.Helper()
		r, err := s.NewRun()
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{r.Upper, r.Work} {
			if left, err := listDir(dir); err != nil || len(left) > 0 {
				t.Fatalf("%s: %v, %v", dir, left, err)
			}
		}
		return r
	}
	end := func(r *Run, spare bool) {
		t.Helper()
		if err := r.Remove(ctx, testMap(t)); err != nil || exists(r.Dir) {
			t.Fatalf("remove: %v", err)
		}
		if exists(s.path(spareDir)) != spare {
			t.Fatalf("there is a spare one: %v", !spare)
		}
	}
	one, two := begin(), begin()
	// As overlayfs leaves it.
	if err := os.MkdirAll(filepath.Join(one.Work, "work/incompat/volatile/dirty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(one.Work+"/work", 0); err != nil {
		t.Fatal(err)
	}
	one.Settle()
	end(one, true)
	end(two, true) // one is enough
	three := begin()
	if exists(s.path(spareDir)) {
		t.Fatal("it is taken and there")
	}
	if err := os.WriteFile(three.Upper+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	end(three, false)
	four := begin()
	if err := os.Mkdir(four.Dir+"/home", 0o700); err != nil {
		t.Fatal(err)
	}
	end(four, false)
	end(begin(), true)
	if _, err := s.Collect(ctx, false); err != nil || exists(s.path(spareDir)) {
		t.Errorf("a collection left it, or %v", err)
	}
}

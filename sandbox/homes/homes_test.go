package homes

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func made(t *testing.T, data, project string) string {
	t.Helper()
	dir, err := Make(data, project)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := Find(data, project); err != nil || found != dir {
		t.Fatalf("found %q, %v; made %q", found, err, dir)
	}
	if info, err := os.Lstat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info, err)
	}
	return dir
}

// TestOwnHome: no project gets another's home, not even one that later lies where the other did.
func TestOwnHome(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two\xff\n")
	for _, p := range []string{one, two} {
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	first := made(t, data, one)
	if made(t, data, one) != first {
		t.Error("another home for the same project")
	}
	if made(t, data, two) == first {
		t.Error("two projects have one home")
	}
	if b, _ := Born(one); b == "" {
		t.Skip("this file system has no times of birth")
	}
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the clock of file systems ticks
	if err := os.Mkdir(one, 0o755); err != nil {
		t.Fatal(err)
	}
	if made(t, data, one) == first {
		t.Error("a project has the home of one that was there before")
	}
}

// TestGone: what is listed as gone is that, and nothing else is.
func TestGone(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	if all, err := List(data); err != nil || all != nil {
		t.Errorf("%v, %v", all, err)
	}
	want := map[string]bool{} // gone, by home
	for name, gone := range map[string]bool{"stays": false, "goes": true, "a file now": true, "odd\xff\n": false} {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		want[made(t, data, p)] = gone
	}
	for _, name := range []string{"goes", "a file now"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a file now"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nobodys := filepath.Join(data, "homes", "0123")
	if err := os.Mkdir(nobodys, 0o700); err != nil {
		t.Fatal(err)
	}
	want[nobodys] = true
	all, err := List(data)
	if err != nil || len(all) != len(want) {
		t.Fatalf("%v, %v", all, err)
	}
	for _, h := range all {
		if h.Gone != want[h.Dir] {
			t.Errorf("%+v", h)
		}
		if gone := h.Gone; gone {
			if err := os.Remove(h.Dir); err != nil {
				t.Fatal(err)
			}
			if err := h.Forget(); err != nil {
				t.Error(err)
			}
		}
	}
	if all, _ = List(data); len(all) != 2 {
		t.Errorf("left: %v", all)
	}
	if left, _ := filepath.Glob(filepath.Join(data, "homes", "*")); len(left) != 4 {
		t.Errorf("left: %v", left)
	}
}

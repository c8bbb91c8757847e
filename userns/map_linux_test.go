package userns

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"first/data": 0o644, "first/twice": 0o755, "second/twice": 0o755, "second/data": 0o755, "here": 0o755} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "first/folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("PATH", "first::.:"+dir+"/none:"+dir+"/first:"+dir+"/second")
	for name, want := range map[string]string{
		"twice":  dir + "/first/twice", // the first one
		"data":   dir + "/second/data", // that can be run
		"here":   "",                   // the current folder is nobody's choice
		"folder": "", "none": "", "": "",
		"./here":             "./here", // but by name
		dir + "/first/twice": dir + "/first/twice",
	} {
		got, err := LookPath(name)
		if want == "" {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %q, %v", name, got, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]error{"./none": unix.ENOENT, "first/folder": unix.EISDIR, "first/data": unix.EACCES} {
		if _, err := LookPath(name); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
}

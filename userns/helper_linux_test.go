package userns

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A helper has its power of root: what somebody else has put into PATH, as a file or a link, is none, whatever capabilities a user namespace
// has given it.
func TestFindHelper(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	const name = "newuidmap"
	planted := filepath.Join(first, name)
	t.Setenv("PATH", "."+":"+first+":"+second+":/bin")
	find := func(what, want string) {
		t.Helper()
		got, err := findHelper(name)
		if want == "" && errors.Is(err, ErrNotFound) {
			return
		}
		if got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
	real, err := findHelper(name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if err := os.WriteFile(planted, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	root := os.Getuid() == 0
	if root {
		find("root's own", planted)
		if err := os.Lchown(planted, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	find("somebody's", real)
	if root {
		caps := []byte{0, 0, 0, 3, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 233, 3, 0, 0} // CAP_SETUID, for whom 1001 is root
		if err := unix.Setxattr(planted, "security.capability", caps, 0); err != nil {
			t.Fatal(err)
		}
		find("with capabilities of a user namespace", real)
		caps[3] = 2
		if err := unix.Setxattr(planted, "security.capability", caps[:20], 0); err != nil {
			t.Fatal(err)
		}
		find("with capabilities", planted)
	}
	if err := errors.Join(os.Remove(planted), os.Symlink("/bin/sh", planted)); err != nil {
		t.Fatal(err)
	}
	if root {
		if err := os.Lchown(planted, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	find("somebody's link", real)
}

package rootfs

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// copied copies a directory as prepareNext does.
func copied(t *testing.T, from string) (to string, err error) {
	t.Helper()
	to = t.TempDir()
	a, err := readable(unix.AT_FDCWD, from)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	b, err := readable(unix.AT_FDCWD, to)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(b)
	return to, copyPlain(a, b)
}

// What is prepared is what Build put there, with all that belongs to it but overlayfs's notes on an upper directory.
func TestCopyPlain(t *testing.T) {
	from := t.TempDir()
	for _, err := range []error{
		os.Mkdir(from+"/etc", 0o755), os.WriteFile(from+"/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o640), os.Mkdir(from+"/empty", 0o700),
		os.Chmod(from+"/etc", 0o1775), unix.Setxattr(from+"/etc", "user.own", []byte("value"), 0),
		unix.Setxattr(from+"/empty", "user.overlay.opaque", []byte("y"), 0), unix.Setxattr(from+"/etc", "user.overlay.impure", []byte("y"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	to, err := copied(t, from)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc", "/etc/hosts", "/empty"} {
		var a, b unix.Stat_t
		if err := errors.Join(unix.Lstat(from+name, &a), unix.Lstat(to+name, &b)); err != nil {
			t.Fatal(err)
		}
		if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Size != b.Size && a.Mode&unix.S_IFMT == unix.S_IFREG || a.Mtim != b.Mtim {
			t.Errorf("%s: %+v is now %+v", name, a, b)
		}
	}
	if text, err := os.ReadFile(to + "/etc/hosts"); string(text) != "127.0.0.1 localhost\n" {
		t.Errorf("%q, %v", text, err)
	}
	var b [16]byte
	for name, want := range map[string]string{"/etc user.own": "value", "/empty user.overlay.opaque": "y", "/etc user.overlay.impure": ""} {
		file, attr, _ := strings.Cut(name, " ")
		n, err := unix.Getxattr(to+file, attr, b[:])
		if got := string(b[:max(n, 0)]); got != want || want == "" && err != unix.ENODATA {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

// What Build puts nowhere is not taken for something else.
func TestCopyPlainRefuses(t *testing.T) {
	for name, put := range map[string]func(dir string) error{
		"link":     func(dir string) error { return os.Symlink("x", dir+"/link") },
		"fifo":     func(dir string) error { return unix.Mkfifo(dir+"/fifo", 0o600) },
		"redirect": func(dir string) error { return unix.Setxattr(dir+"/deep", "user.overlay.redirect", []byte("x"), 0) },
		"large":    func(dir string) error { return os.WriteFile(dir+"/deep/large", make([]byte, maxFile+1), 0o600) },
	} {
		from := t.TempDir()
		if err := errors.Join(os.Mkdir(from+"/deep", 0o700), put(from)); err != nil {
			t.Fatal(err)
		}
		if _, err := copied(t, from); err == nil {
			t.Errorf("%s was copied", name)
		}
	}
}

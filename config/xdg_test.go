package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestXDG(t *testing.T) {
	env := map[string]string{"HOME": "/h"}
	getenv := func(name string) string { return env[name] }
	expect := func(want string) func(string, error) {
		return func(got string, err error) {
			t.Helper()
			if err != nil || got != want {
				t.Errorf("got %q (%v), want %q", got, err, want)
			}
		}
	}
	expect("/h/.local/share")(DataHome(getenv))
	expect("/h/.config")(ConfigHome(getenv))
	expect("/h/.local/share/cove")(StoreDir("", getenv))
	expect("/h/.local/share/cove/trust")(TrustDir(getenv))
	env["XDG_DATA_HOME"], env["XDG_CONFIG_HOME"] = "data", "./config"
	expect("/h/.local/share")(DataHome(getenv))
	expect("/h/.config")(ConfigHome(getenv))
	env["XDG_DATA_HOME"], env["XDG_CONFIG_HOME"] = "/d/", "/c"
	expect("/d")(DataHome(getenv))
	expect("/c")(ConfigHome(getenv))
	env["COVE_STORE"] = "/s"
	expect("/s")(StoreDir("", getenv))
	expect("/t")(StoreDir("/t", getenv))
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	expect(filepath.Join(cwd, "t"))(StoreDir("t", getenv))
	env = map[string]string{}
	for _, find := range []func(func(string) string) (string, error){DataHome, ConfigHome, TrustDir} {
		if got, err := find(getenv); err == nil {
			t.Errorf("without HOME: %q", got)
		}
	}
}

func TestRuntimeDir(t *testing.T) {
	uid := os.Geteuid()
	for _, c := range []struct {
		name  string
		set   bool
		make  func(dir string) error // dir is the runtime folder when it is set, else /tmp/cove-UID
		uid   int
		wrong string // "" when it is fine
	}{
		{"set", true, func(dir string) error { return os.Mkdir(dir, 0o700) }, uid, ""},
		{"set, readable", true, func(dir string) error { return os.Mkdir(dir, 0o755) }, uid, ""},
		{"set, absent", true, func(string) error { return nil }, uid, "there is no such folder; unset it"},
		{"set, a file", true, func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, uid, "not a folder"},
		{"set, group may write", true, func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o770)) }, uid, "others may write it (mode 0770); chmod 700 it"},
		{"set, another's", true, func(dir string) error { return os.Mkdir(dir, 0o700) }, uid + 1, "we are user"},
		{"set, ours in it spoiled", true, func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Symlink("/tmp", dir+"/cove"))
		}, uid, "something else is there"},
		{"unset", false, func(string) error { return nil }, uid, ""},
		{"unset, there", false, func(dir string) error { return os.Mkdir(dir, 0o700) }, uid, ""},
		{"unset, a link", false, func(dir string) error { return os.Symlink(t.TempDir(), dir) }, uid, "something else is there"},
		{"unset, open", false, func(dir string) error { return os.Mkdir(dir, 0o755) }, uid, "chmod 700"},
		{"unset, another's", false, func(dir string) error { return os.Mkdir(dir, 0o700) }, uid + 1, "it belongs to user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			dir := filepath.Join(tmp, fmt.Sprintf("cove-%d", c.uid))
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			want := dir
			getenv := func(string) string { return "" }
			if c.set {
				want = filepath.Join(dir, "cove")
				getenv = func(string) string { return dir }
			}
			got, err := runtimeDir(getenv, tmp, c.uid)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("got %q, error %v, want %q", got, err, c.wrong)
				}
				return
			}
			info, statErr := os.Lstat(want)
			if err != nil || got != want || statErr != nil || info.Mode() != os.ModeDir|0o700 {
				t.Errorf("got %q (%v), want %q: %v %v", got, err, want, info, statErr)
			}
		})
	}
	if got, err := RuntimeDir(func(string) string { return "run" }); err == nil {
		t.Errorf("relative: %q", got)
	}
}

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DataHome is $XDG_DATA_HOME, or ~/.local/share. As the specification wants, a relative value is ignored.
func DataHome(getenv func(string) string) (string, error) {
	return xdg(getenv, "XDG_DATA_HOME", ".local/share")
}

// ConfigHome is $XDG_CONFIG_HOME, or ~/.config.
func ConfigHome(getenv func(string) string) (string, error) {
	return xdg(getenv, "XDG_CONFIG_HOME", ".config")
}

func xdg(getenv func(string) string, name, below string) (string, error) {
	if dir := getenv(name); filepath.IsAbs(dir) {
		return filepath.Clean(dir), nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("find %s: neither it nor HOME is set to an absolute path", name)
	}
	return filepath.Join(home, below), nil
}

// StoreDir is where images are kept: the flag, $COVE_STORE, or cove's folder in the user's data. The first two may be
// relative to the current folder.
func StoreDir(flag string, getenv func(string) string) (string, error) {
	for _, dir := range []string{flag, getenv("COVE_STORE")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	return below(DataHome(getenv))
}

// TrustDir is where it is kept what the user agreed to.
func TrustDir(getenv func(string) string) (string, error) {
	dir, err := below(DataHome(getenv))
	return filepath.Join(dir, "trust"), err
}

func below(dir string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "cove"), nil
}

// RuntimeDir is cove's own folder for sockets and what lasts as long as the session: $XDG_RUNTIME_DIR/cove, or
// /tmp/cove-UID without one. It is made when it is not there. Who can write it could take over every sandbox, so it is
// an error when somebody else might.
func RuntimeDir(getenv func(string) string) (string, error) {
	return runtimeDir(getenv, "/tmp", os.Geteuid())
}

func runtimeDir(getenv func(string) string, tmp string, uid int) (string, error) {
	dir := getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return private(filepath.Join(tmp, fmt.Sprintf("cove-%d", uid)), uid)
	}
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("use XDG_RUNTIME_DIR=%q: not an absolute path; unset it, or set it to /run/user/%d", dir, uid)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("use XDG_RUNTIME_DIR=%q: there is no such folder; unset it, or log in so that it is made (loginctl enable-linger)", dir)
	case err != nil:
		return "", fmt.Errorf("use XDG_RUNTIME_DIR=%q: %w", dir, bare(err))
	case !info.IsDir():
		return "", fmt.Errorf("use XDG_RUNTIME_DIR=%q: not a folder; unset it", dir)
	case uidOf(info) != uid:
		return "", fmt.Errorf("use XDG_RUNTIME_DIR=%q: it belongs to user %d and we are user %d (su and sudo keep the variable); unset it", dir, uidOf(info), uid)
	case info.Mode().Perm()&0o022 != 0:
		return "", fmt.Errorf("use XDG_RUNTIME_DIR=%q: others may write it (mode %04o); chmod 700 it, or unset it", dir, info.Mode().Perm())
	}
	return private(filepath.Join(dir, "cove"), uid)
}

// private makes a folder that is ours alone, or finds that it is. In /tmp anybody could have made it first: a link, or a
// folder of theirs, is refused and not repaired.
func private(dir string, uid int) (string, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make runtime folder %q: %w", dir, bare(err))
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return "", fmt.Errorf("make runtime folder %q: %w", dir, bare(err))
	case !info.IsDir():
		return "", fmt.Errorf("make runtime folder %q: something else is there; remove it, or set XDG_RUNTIME_DIR", dir)
	case uidOf(info) != uid:
		return "", fmt.Errorf("make runtime folder %q: it belongs to user %d; remove it, or set XDG_RUNTIME_DIR", dir, uidOf(info))
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("make runtime folder %q: others may enter it (mode %04o); chmod 700 it", dir, info.Mode().Perm())
	}
	return dir, nil
}

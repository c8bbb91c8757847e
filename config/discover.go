package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// FileName is what a project's profile is called.
const FileName = "cove.toml"

// Warning is something that the user should know, and that stops nothing.
type Warning struct{ Text string }

func (w Warning) String() string { return w.Text }

func warn(format string, args ...any) Warning { return Warning{fmt.Sprintf(format, args...)} }

// found is where the profile was found, and its bytes: the file is read once.
type found struct {
	file string // "" when there is none
	dir  string // the folder it lies in, or the current one
	data []byte
}

// finder looks for the profile as one user.
type finder struct {
	uid         int
	home        string // $HOME
	accountHome string // as the account has it, "" when unknown
	warnings    []Warning
}

func (f *finder) warn(format string, args ...any) {
	f.warnings = append(f.warnings, warn(format, args...))
}

// named reads the profile that was asked for. The name was typed, so links are followed; root may own it.
func (f *finder) named(path string) (found, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return found{}, fmt.Errorf("read profile %s: %w", showName(path), bare(err))
	}
	dir := filepath.Dir(real)
	info, err := os.Stat(dir)
	if err != nil {
		return found{}, fmt.Errorf("read profile %s: %w", showName(path), err)
	}
	if err := owned(info, f.uid, 0); err != nil {
		return found{}, fmt.Errorf("read profile %s: %w", showName(path), err)
	}
	data, err := readOwned(real, false, f.uid, 0)
	if err != nil {
		return found{}, fmt.Errorf("read profile %s: %w", showName(path), bare(err))
	}
	return found{file: real, dir: dir, data: data}, nil
}

// walk looks for the profile in the current folder and those above, not past the home folder or onto another
// filesystem.
func (f *finder) walk(cwd string) (found, error) {
	start, err := os.Stat(cwd)
	if err != nil {
		return found{}, fmt.Errorf("look for a profile: %w", err)
	}
	for dir := cwd; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || deviceOf(info) != deviceOf(start) {
			break
		}
		file := filepath.Join(dir, FileName)
		if why := f.never(dir); why != "" {
			if !isAbsent(file) {
				f.warn("%s is not used: %s is %s, which is never a workspace (--profile names it all the same)", showName(file), showName(dir), why)
			}
			if f.isHome(dir) || dir == "/" {
				break
			}
			continue
		}
		data, err := f.candidate(file, info)
		if err == nil {
			return found{file: file, dir: dir, data: data}, nil
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.As(err, new(*refused)):
			f.warn("%s is ignored: %v", showName(file), err)
		default:
			return found{}, fmt.Errorf("read profile %s: %w", showName(file), bare(err))
		}
		if dir == "/" {
			break
		}
	}
	return found{dir: cwd}, nil
}

func (f *finder) candidate(file string, dir os.FileInfo) ([]byte, error) {
	if isAbsent(file) || isPlaceholder(file) {
		return nil, fs.ErrNotExist
	}
	if err := owned(dir, f.uid); err != nil {
		return nil, err
	}
	return readOwned(file, false, f.uid)
}

// isPlaceholder tells an empty file that nobody may write: a running sandbox keeps the name by it from being made inside.
func isPlaceholder(file string) bool {
	info, err := os.Lstat(file)
	return err == nil && info.Mode().IsRegular() && info.Size() == 0 && info.Mode().Perm()&0o222 == 0
}

// bare is an error without the path that the os package puts into it: ours is there already, and is quoted.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// never says why a folder cannot be a workspace: everything the user has lies in it. "" means that it can.
func (f *finder) never(dir string) string {
	switch {
	case dir == "/":
		return "the root folder"
	case f.isHome(dir):
		return "your home folder"
	case inside("/proc", dir), inside("/sys", dir), dir == "/dev":
		return "the kernel's"
	}
	// A folder above home would hand over home as well. Only the account's home counts here: a HOME that was set for
	// this one command often lies in the very folder that is meant.
	if real, err := filepath.EvalSymlinks(f.accountHome); err == nil && strings.HasPrefix(real, dir+"/") {
		return "above your home folder"
	}
	return ""
}

func (f *finder) isHome(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	for _, home := range []string{f.home, f.accountHome} {
		if !filepath.IsAbs(home) {
			continue
		}
		if other, err := os.Stat(home); err == nil && os.SameFile(info, other) {
			return true
		}
	}
	return false
}

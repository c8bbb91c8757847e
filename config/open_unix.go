//go:build unix

package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// maxSize bounds a profile: what is larger was not written by a person.
const maxSize = 1 << 20

// refused says why a file that is there is not believed: somebody else decides what it holds, or it is no file.
type refused struct{ why string }

func (r *refused) Error() string { return r.why }

func refuse(format string, args ...any) error { return &refused{fmt.Sprintf(format, args...)} }

// owned refuses a file or folder that a user who is none of us could change at will. A sticky folder lets everybody add
// files but nobody else replace ours.
func owned(info os.FileInfo, us ...int) error {
	what := "the file"
	if info.IsDir() {
		what = "its folder"
	}
	st := info.Sys().(*syscall.Stat_t)
	ours := false
	for _, uid := range us {
		ours = ours || int(st.Uid) == uid
	}
	if !ours {
		return refuse("%s belongs to user %d", what, st.Uid)
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		return refuse("%s may be written by everybody (mode %04o)", what, info.Mode().Perm())
	}
	return nil
}

func deviceOf(info os.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Dev) }

func uidOf(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

func isAbsent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// readOwned reads a small regular file that belongs to one of us. It looks at what it has opened, not at the name, so
// that nothing can be put in between; O_NONBLOCK keeps a fifo from holding it up. With follow the last part of the path
// may be a link.
func readOwned(path string, follow bool, us ...int) ([]byte, error) {
	flags := os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY
	if !follow {
		flags |= syscall.O_NOFOLLOW
	}
	// Opening alone acts where the name is that of a fifo or a device, which a profile that nobody has agreed to may name.
	if info, err := os.Lstat(path); err == nil && follow && info.Mode()&os.ModeSymlink != 0 {
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
			return nil, refuse("it is not a regular file")
		}
	} else if err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeSymlink == 0 {
		return nil, refuse("it is not a regular file")
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, syscall.ELOOP) && !follow {
		return nil, refuse("it is a symbolic link")
	}
	if errors.Is(err, syscall.ENXIO) { // a socket
		return nil, refuse("it is not a regular file")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, refuse("it is not a regular file")
	}
	if us != nil {
		if err := owned(info, us...); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("larger than %d bytes", maxSize)
	}
	return data, err
}

// ReadHint reads a small regular file that is only looked at for hints; a link to one is good enough.
func ReadHint(path string) ([]byte, error) { return readOwned(path, true) }

// createBeside makes an empty file next to the one whose place it will take. It is the user's umask that gives it its
// mode, as every file of a project.
func createBeside(file string) (*os.File, error) {
	dir, base := filepath.Split(file)
	for n := 0; ; n++ {
		f, err := os.OpenFile(fmt.Sprintf("%s.%s.%d.%d", dir, base, os.Getpid(), n), os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o666)
		if !errors.Is(err, os.ErrExist) || n == 100 {
			return f, err
		}
	}
}

func inodeOf(info os.FileInfo) string { return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino) }

package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPasswd bounds the account files that an image may have.
const maxPasswd = 1 << 20

// An UnknownUserError says that the image's USER is in none of its account files.
type UnknownUserError struct {
	Name string
	File string // which has no such name
}

func (e *UnknownUserError) Error() string {
	return fmt.Sprintf("the image's user %q is not in its /%s", e.Name, e.File)
}

// User resolves the image's USER: "", "uid", "uid:gid", "name", "name:group", by the image's own
// etc/passwd and etc/group. An unknown name is an error, never root.
func (i *Image) User() (uid, gid uint32, err error) {
	return i.Lookup(i.Config.User)
}

// Lookup resolves a user as USER would be.
func (i *Image) Lookup(spec string) (uid, gid uint32, err error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" && !hasGroup {
		return 0, 0, nil
	}
	if name == "" || hasGroup && group == "" {
		return 0, 0, fmt.Errorf("user %q: neither user nor group may be empty", spec)
	}
	uid, gid, err = i.findUser(name)
	if err == nil && hasGroup {
		gid, err = i.findGroup(group)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("user %q: %w", spec, err)
	}
	return uid, gid, nil
}

// findUser finds a user by name, or, when it looks like one, by number. A number that is in no
// file is that number, with group 0, as docker and podman have it.
func (i *Image) findUser(name string) (uid, gid uint32, err error) {
	data, err := i.readFile("etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	number, isNumber := parseID(name)
	for _, f := range accounts(data, 7) {
		u, ok1 := parseID(f[2])
		g, ok2 := parseID(f[3])
		if ok1 && ok2 && (f[0] == name || isNumber && u == number) {
			return u, g, nil
		}
	}
	if isNumber {
		return number, 0, nil
	}
	return 0, 0, &UnknownUserError{name, "etc/passwd"}
}

func (i *Image) findGroup(name string) (uint32, error) {
	if n, ok := parseID(name); ok {
		return n, nil
	}
	data, err := i.readFile("etc/group")
	if err != nil {
		return 0, err
	}
	for _, f := range accounts(data, 3) {
		if g, ok := parseID(f[2]); ok && f[0] == name {
			return g, nil
		}
	}
	return 0, &UnknownUserError{name, "etc/group"}
}

// parseID reads a decimal id; the last, (uid_t) -1, means "no id" to the kernel.
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 1<<32-1 && s[0] != '+'
}

// accounts splits the lines that have at least that many fields.
func accounts(data []byte, fields int) [][]string {
	var out [][]string
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, maxPasswd+1)
	for s.Scan() {
		if f := strings.Split(s.Text(), ":"); len(f) >= fields && f[0] != "" {
			out = append(out, f)
		}
	}
	return out
}

// readFile reads a small file of the image as its stacked layers show it: nil when it is not
// there. An image is a stranger's: no link is followed, no fifo waited for, no device opened.
func (i *Image) readFile(path string) ([]byte, error) {
	layers := i.Layers
	if i.Kind == Host {
		layers = []string{"/"}
	}
	for n := len(layers) - 1; n >= 0; n-- {
		data, more, err := readIn(layers[n], path)
		if err != nil {
			return nil, fmt.Errorf("read the image's /%s: %w", path, err)
		}
		if !more {
			return data, nil
		}
	}
	return nil, nil
}

// readIn reads path in one layer. more: this layer says nothing of it, the next one may.
func readIn(layer, path string) (data []byte, more bool, err error) {
	dir, err := unix.Open(layer, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, &os.PathError{Op: "open", Path: layer, Err: err}
	}
	defer func() { unix.Close(dir) }()
	for {
		name, rest, deeper := strings.Cut(path, "/")
		var st unix.Stat_t
		err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			// An opaque directory hides what the layers below have in it.
			return nil, !isOpaque(dir), nil
		}
		if err != nil {
			return nil, false, err
		}
		switch kind := st.Mode & unix.S_IFMT; {
		case kind == unix.S_IFCHR && st.Rdev == 0:
			return nil, false, nil // a whiteout
		case deeper && kind != unix.S_IFDIR || !deeper && kind != unix.S_IFREG:
			return nil, false, fmt.Errorf("%q is a link or something else that is not followed", name)
		case !deeper:
			data, err := readRegular(dir, name)
			return data, false, err
		}
		next, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, false, err
		}
		unix.Close(dir)
		dir, path = next, rest
	}
}

func isOpaque(dir int) bool {
	var v [1]byte
	n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", dir), "user.overlay.opaque", v[:])
	return err == nil && n == 1 && v[0] == 'y'
}

func readRegular(dir int, name string) ([]byte, error) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(dir, name, how)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPasswd+1))
	if err == nil && len(data) > maxPasswd {
		err = errors.New("larger than 1 MiB")
	}
	return data, err
}

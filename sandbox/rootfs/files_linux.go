package rootfs

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// files places the generated files of the Spec: into the root file system itself where it can be
// written, since a bind over /etc/passwd would break every program that replaces it by a rename;
// as binds over a host root file system, which is read-only, and of what is to be bound.
func (r *Root) files() error {
	dir := base + "/files"
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return err
	}
	host := r.spec.Root.Kind == spec.RootHost
	for n, f := range r.spec.Files {
		if r.spec.Root.Prepared != "" && f.Kind != spec.FileBound {
			continue // there already
		}
		put := r.write
		if host || f.Kind == spec.FileBound {
			put = func(name string, content []byte) error { return r.bindFile(dir+"/"+strconv.Itoa(n), name, content) }
		}
		content, err := r.content(f)
		if err == nil && content != nil {
			err = put(string(f.Target), content)
		}
		if err == nil && content != nil && f.Kind != spec.FileBound {
			r.noteFile(f)
		}
		if err != nil {
			return fmt.Errorf("place %s: %w", f.Target, err)
		}
	}
	return nil
}

// noteFile remembers a file that was written, by the path that it really has: its name may be a link's.
func (r *Root) noteFile(f spec.File) {
	fd, err := r.open(string(f.Target), unix.O_PATH, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	at, err := readlinkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	if err != nil || !strings.HasPrefix(at, base+"/root/") {
		return
	}
	one := spec.Placed{Path: spec.Path(strings.TrimPrefix(at, base+"/root/")), Kind: spec.PlacedText}
	if f.Kind == spec.FileEntry {
		one.Kind, one.Line = spec.PlacedLine, f.Content
	}
	*r.placed = append(*r.placed, one)
}

// content is what the file is to hold; nil when it is right as it is.
func (r *Root) content(f spec.File) ([]byte, error) {
	if f.Kind != spec.FileEntry {
		return []byte(f.Content), nil
	}
	old, err := r.read(string(f.Target))
	if err != nil {
		return nil, err
	}
	return AddEntry(old, []byte(f.Content)), nil
}

// AddEntry puts the line entry of passwd(5) or group(5) before those of file: the first one that
// fits is what getpwnam(3) and getpwuid(3) return, so both find it. It returns nil when the same
// line is there already.
func AddEntry(file, entry []byte) []byte {
	for line := range bytes.Lines(file) {
		if bytes.Equal(bytes.TrimSuffix(line, []byte("\n")), entry) {
			return nil
		}
	}
	out := append(bytes.Clone(entry), '\n')
	return append(out, file...)
}

func (r *Root) bindFile(source, name string, content []byte) error {
	if err := (tree{fd: unix.AT_FDCWD}).writeNew(source, content); err != nil {
		return err
	}
	mount, err := clone(unix.AT_FDCWD, source)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if err := restrict(mount, unix.MOUNT_ATTR_RDONLY|safe, false); err != nil {
		return err
	}
	target, err := r.file(name)
	if err == unix.EROFS {
		// The host's file system has no such file and none can be made there: programs find none either.
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(target)
	return attach(mount, target)
}

// writeNew makes a file that is not there yet, on a file system of our own.
func (t tree) writeNew(name string, content []byte) error {
	fd, err := unix.Openat(t.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeAll(fd, content)
}

func writeAll(fd int, content []byte) error {
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		content = content[n:]
	}
	return nil
}

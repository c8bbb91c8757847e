package rootfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// prepareNext copies what Build has put into the upper directory, before anybody else could write there, to where it becomes a layer
// of the next start's: the generated files, and what mounts needed to be mounted on.
func (src *Sources) prepareNext() error {
	from, err := readable(src.upper, ".")
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := readable(src.prepare, ".")
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return copyPlain(from, to)
}

func readable(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// errNotPlain is of what Build puts nowhere: a layer with it would not be what it is taken for.
var errNotPlain = errors.New("neither a directory nor a regular file")

// copyPlain copies the directories and small files in one directory into another, with all that belongs to them.
func copyPlain(from, to int) error {
	names, err := namesIn(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = copyDir(from, to, name)
		case unix.S_IFREG:
			err = copyFile(from, to, name)
		default:
			err = errNotPlain
		}
		if err == nil {
			err = unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

func namesIn(dir int) ([]string, error) {
	fd, err := readable(dir, ".")
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "upper")
	defer f.Close()
	return f.Readdirnames(-1)
}

func copyDir(from, to int, name string) error {
	a, err := readable(from, name)
	if err != nil {
		return err
	}
	defer unix.Close(a)
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	b, err := readable(to, name)
	if err != nil {
		return err
	}
	defer unix.Close(b)
	if err := copyPlain(a, b); err != nil {
		return err
	}
	return copyAttrs(a, b)
}

func copyFile(from, to int, name string) error {
	a, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(a)
	content, err := readRegular(a, name)
	if err != nil {
		return err
	}
	b, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	err = writeAll(b, content)
	if err == nil {
		err = copyAttrs(a, b)
	}
	return errors.Join(err, unix.Close(b))
}

// ofUpper are overlayfs's notes on what is in an upper directory that mean nothing in a lower one (overlayfs.rst of the
// kernel's documentation); others, but for that of an opaque directory, mean that what is here is not all. A new file's
// label is its policy's affair (selinux(8)).
var ofUpper = []string{"user.overlay.origin", "user.overlay.impure", "user.overlay.nlink", "user.overlay.uuid", "security.selinux"}

// copyAttrs gives b the owner, the mode and the extended attributes of a.
func copyAttrs(a, b int) error {
	var st unix.Stat_t
	if err := unix.Fstat(a, &st); err != nil {
		return err
	}
	if err := unix.Fchown(b, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	// After the owner: chown(2) clears the set-id bits.
	if err := unix.Fchmod(b, st.Mode&0o7777); err != nil {
		return err
	}
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(a, names)
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" || slices.Contains(ofUpper, name) {
			continue
		}
		if strings.HasPrefix(name, "user.overlay.") && name != "user.overlay.opaque" {
			return errNotPlain
		}
		n, err := unix.Fgetxattr(a, name, value)
		if err == nil {
			err = unix.Fsetxattr(b, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

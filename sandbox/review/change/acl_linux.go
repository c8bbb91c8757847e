package change

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The attributes in which access control lists are kept (acl(5)). The second is a folder's, for what is made in it.
const (
	aclXattr        = "system.posix_acl_access"
	aclDefaultXattr = "system.posix_acl_default"
)

// lists are access control lists by the names of their attributes. Who may use what is outside is not for the program inside
// to say, and without its list a file's mode says something else: the group's bits are a mask beside one.
type lists map[string][]byte

func listsOf(get func(name string, b []byte) (int, error)) (lists, error) {
	l := lists{}
	for _, name := range []string{aclXattr, aclDefaultXattr} {
		n, err := get(name, nil)
		var b []byte
		if err == nil && n > 0 {
			b = make([]byte, n)
			n, err = get(name, b)
		}
		switch {
		case err == unix.ENODATA || err == unix.ENOTSUP:
		case err != nil:
			return nil, fmt.Errorf("read the access control list: %w", err)
		case n > 0:
			l[name] = b[:n]
		}
	}
	return l, nil
}

func listsOfFD(fd int) (lists, error) {
	return listsOf(func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// lists reads those of what is at a path, which need not be open to the caller.
func (o *outside) lists(path string) (lists, error) {
	fd, err := openIn(o.fd, path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	at := fmt.Sprintf("/proc/self/fd/%d", fd)
	return listsOf(func(name string, b []byte) (int, error) { return unix.Getxattr(at, name, b) })
}

// give gives these lists and no others to what fd is open on; nil leaves it those that its folder gave.
func (l lists) give(fd int) error {
	if l == nil {
		return nil
	}
	have, err := listsOfFD(fd)
	if err != nil {
		return err
	}
	for _, name := range []string{aclXattr, aclDefaultXattr} {
		switch want, ok := l[name]; {
		case ok && string(want) != string(have[name]):
			err = unix.Fsetxattr(fd, name, want, 0)
		case !ok && have[name] != nil:
			err = unix.Fremovexattr(fd, name)
		}
		if err != nil {
			return fmt.Errorf("access control list: %w", err)
		}
	}
	return nil
}

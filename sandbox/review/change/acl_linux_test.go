package change

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// acl4343 is a list that lets the user 4343 do everything, and the file's group nothing (acl(5), linux/posix_acl_xattr.h).
func acl4343() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 7, ^uint32(0)}, {2, 7, 4343}, {4, 0, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// setACL sets one of them, where the file system has any.
func (v *view) setACL(path, name string) {
	v.t.Helper()
	err := unix.Setxattr(v.project+"/"+path, name, acl4343(), 0)
	if err == unix.ENOTSUP {
		skip(v.t, "this file system has no access control lists")
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// acls tells who may use paths outside.
func (v *view) acls(paths ...string) string {
	v.t.Helper()
	var b strings.Builder
	for _, p := range paths {
		info, err := os.Lstat(v.project + "/" + p)
		if err != nil {
			v.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %v", p, info.Mode())
		for _, name := range []string{aclXattr, aclDefaultXattr} {
			if n, err := unix.Getxattr(v.project+"/"+p, name, nil); err == nil && n > 0 {
				b.WriteString(" " + name)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Who may use what is outside stays who may, when it is replaced and when it comes back: without its list a file would be
// open to its group, whose bits are the list's mask, and with its folder's to others than before.
func TestAccessControlLists(t *testing.T) {
	for where, dir := range map[string]string{"one file system": "", "another file system": "/dev/shm"} {
		t.Run(where, func(t *testing.T) {
			elsewhere = dir
			defer func() { elsewhere = "" }()
			v := newView(t, spec.RootCopy, "mkdir d gone shared; echo one > d/listed; echo one > d/unread; echo one > shared/plain; echo one > gone/x; echo one > shared/deleted")
			v.setACL("d/listed", aclXattr)
			v.setACL("d/unread", aclXattr)
			v.setACL("gone", aclXattr)
			v.setACL("gone", aclDefaultXattr)
			v.setACL("gone/x", aclXattr)
			v.setACL("shared", aclDefaultXattr)
			paths := []string{"d/listed", "shared/plain", "shared/deleted", "gone", "gone/x"}
			if dir == "" { // there it would have to be read to be kept
				paths = append(paths, "d/unread")
				v.outside("chmod u-r d/unread")
			}
			before := v.acls(paths...)
			v.write("chmod 770 d/listed d/unread; echo two > d/listed; echo two > shared/plain; rm -r gone shared/deleted")
			if dir == "" {
				v.write("echo two and more > d/unread")
			}
			v.apply(Options{Force: true})
			kept := v.acls("d/listed", "shared/plain")
			if !strings.HasPrefix(before, kept) {
				t.Errorf("applied:\n%swant of\n%s", kept, before)
			}
			if dir == "" && !strings.Contains(v.acls("d/unread"), aclXattr) {
				t.Errorf("what could not be read has lost its list: %s", v.acls("d/unread"))
			}
			v.undo()
			if got := v.acls(paths...); got != before {
				t.Errorf("taken back:\n%swant\n%s", got, before)
			}
		})
	}
}

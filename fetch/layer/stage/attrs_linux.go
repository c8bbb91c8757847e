package stage

import (
	"archive/tar"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"cove/fetch/layer"
	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// owner returns the entry's owner, as an id inside, when it is mapped.
func (u *unpacker) owner(h *tar.Header) (uid, gid uint32, err error) {
	if id := int64(h.Uid); id < 0 || id > math.MaxUint32 {
		return 0, 0, &layer.UnmappedIDError{Entry: h.Name, ID: id}
	}
	if id := int64(h.Gid); id < 0 || id > math.MaxUint32 {
		return 0, 0, &layer.UnmappedIDError{Entry: h.Name, ID: id, GID: true}
	}
	uid, gid = uint32(h.Uid), uint32(h.Gid)
	if _, ok := u.idmap.HostUID(uid); !ok {
		return 0, 0, &layer.UnmappedIDError{Entry: h.Name, ID: int64(uid)}
	}
	if _, ok := u.idmap.HostGID(gid); !ok {
		return 0, 0, &layer.UnmappedIDError{Entry: h.Name, ID: int64(gid), GID: true}
	}
	return uid, gid, nil
}

// setOwner is for what the layer does not name an owner for, too: then the ids are root's, or
// the one there is.
func (u *unpacker) setOwner(path string, uid, gid uint32) error {
	if _, ok := u.idmap.HostUID(uid); !ok {
		uid, _ = u.idmap.Root()
	}
	if _, ok := u.idmap.HostGID(gid); !ok {
		_, gid = u.idmap.Root()
	}
	return unix.Lchown(path, int(uid), int(gid))
}

// permissions are the twelve low bits of the mode: tar's numbers are those of stat(2).
func permissions(h *tar.Header) uint32 { return uint32(h.Mode) & 0o7777 }

func accessed(h *tar.Header) time.Time {
	if h.AccessTime.IsZero() {
		return h.ModTime
	}
	return h.AccessTime
}

func setTimes(dirfd int, name string, t times) error {
	ts := []unix.Timespec{timespec(t.atime), timespec(t.mtime)}
	return unix.UtimesNanoAt(dirfd, name, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// timespec avoids UnixNano, which wraps around for times that tars can name.
func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// setDirTimes comes last: whatever is made in a directory changes its times.
func (u *unpacker) setDirTimes() error {
	return u.marks.takeTimes(func(path string, ts []unix.Timespec) error {
		return entryError(path, unix.UtimesNanoAt(unix.AT_FDCWD, orDot(path), ts, unix.AT_SYMLINK_NOFOLLOW))
	})
}

const (
	paxXattr    = "SCHILY.xattr."
	xattrOpaque = "user.overlay.opaque"
	xattrCaps   = "security.capability"
)

// keepXattr tells the attributes that mean something inside. An image's own overlay attributes
// would make overlayfs show what no layer holds (redirect, metacopy); trusted.*, security.ima
// and the rest are the host's business.
func keepXattr(name string) bool {
	if name == xattrCaps {
		return true
	}
	return strings.HasPrefix(name, "user.") &&
		!strings.HasPrefix(name, "user.overlay.") && !strings.HasPrefix(name, "user.fuseoverlayfs.") &&
		!strings.HasPrefix(name, "user.containers.") // fuse-overlayfs and storage keep owners and modes there
}

// xattrs sets the entry's extended attributes on path, which is no link.
func (u *unpacker) xattrs(h *tar.Header, path string) error {
	if len(h.PAXRecords) == 0 {
		return nil
	}
	u.xattrsSet = true
	var names []string
	for k := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, paxXattr); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that which one an error names is the same each time
	for _, name := range names {
		if !keepXattr(name) || strings.IndexByte(name, 0) >= 0 {
			u.res.Xattrs++
			continue
		}
		err := unix.Lsetxattr(path, name, []byte(h.PAXRecords[paxXattr+name]), 0)
		if err == unix.ENOTSUP && name != xattrCaps {
			u.res.Xattrs++ // the store's file system has no user attributes (tmpfs before Linux 6.6)
			continue
		}
		if err != nil {
			return xattrError(name, h.PAXRecords[paxXattr+name], err)
		}
	}
	return nil
}

// xattrError says of an attribute that it does not fit in words of its own: the disk is not full.
func xattrError(name, value string, err error) error {
	if (err == unix.ENOSPC || err == unix.E2BIG || err == unix.ERANGE) && len(name)+len(value) > 1000 {
		return fmt.Errorf("extended attribute %s of %d bytes: too large for the store's file system", oci.Short(name), len(value))
	}
	return fmt.Errorf("extended attribute %s: %w", oci.Short(name), err)
}

// clearXattrs takes off what an earlier entry, or the directory below that this one was made
// like, gave the directory: the last entry counts, all of it.
func clearXattrs(path string) error {
	fd, err := openRetry(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := listXattrs(fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !keepXattr(name) {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA {
			return fmt.Errorf("extended attribute %s: %w", oci.Short(name), err)
		}
	}
	return nil
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

func orDot(path string) string {
	if path == "" {
		return "."
	}
	return path
}

package sandbox

import (
	"bytes"
	"encoding/binary"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// walkTime bounds the look for new repositories at the end of a run: what a few hundred thousand files take.
const walkTime = 200 * time.Millisecond

// newRepositories finds every .git below the directory root that was made since; whole is false when the deadline came, or
// when something lies deeper than a path can say. Every run pays for it, in a project of any size: so it reads the folders
// by the system calls that it takes, and asks of a file nothing but its name.
func newRepositories(root int, since, deadline time.Time) (found []string, whole bool) {
	whole = true
	buf := make([]byte, 64<<10)
	for dirs := []string{"."}; len(dirs) > 0; {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		if time.Now().After(deadline) {
			return found, false
		}
		fd, err := unix.Openat2(root, dir, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		if err == unix.ENAMETOOLONG {
			whole = false
		}
		if err != nil {
			continue
		}
		for {
			n, err := unix.ReadDirent(fd, buf)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n <= 0 {
				break
			}
			for rest := buf[:n]; len(rest) > 0; {
				name, kind, size := dirent(rest)
				rest = rest[size:]
				switch {
				case string(name) == ".git":
					if rel := path.Join(dir, ".git"); madeSince(root, rel, since) {
						found = append(found, rel)
					}
				case kind != unix.DT_DIR && kind != unix.DT_UNKNOWN, string(name) == ".", string(name) == "..":
				default:
					dirs = append(dirs, path.Join(dir, string(name)))
				}
			}
		}
		_ = unix.Close(fd)
	}
	return found, whole
}

// dirent reads the first entry of a directory (getdents64(2), struct linux_dirent64).
func dirent(b []byte) (name []byte, kind byte, size int) {
	const reclen, typ, start = 16, 18, 19
	size = int(binary.NativeEndian.Uint16(b[reclen:]))
	name = b[start:size]
	if end := bytes.IndexByte(name, 0); end >= 0 {
		name = name[:end]
	}
	return name, b[typ], size
}

// madeSince asks for the birth time (statx(2)); where a file system has none, the change time has to do.
func madeSince(root int, name string, since time.Time) bool {
	var st unix.Statx_t
	if err := unix.Statx(root, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_CTIME, &st); err != nil {
		return !os.IsNotExist(err)
	}
	at := st.Ctime
	if st.Mask&unix.STATX_BTIME != 0 {
		at = st.Btime
	}
	// Of what was made in the tick that it began in, it is not known on which side: that is told.
	return !time.Unix(at.Sec, int64(at.Nsec)).Before(since)
}

// fileTime is the time that a file made now gets at least: the clock's last tick (clock_gettime(2), CLOCK_REALTIME_COARSE).
func fileTime() time.Time {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &at); err != nil {
		return time.Now().Add(-10 * time.Millisecond) // the longest tick that there is
	}
	return time.Unix(at.Unix())
}

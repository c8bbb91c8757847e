package sandbox

import (
	"bytes"
	"encoding/binary"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// The look for new repositories at the end of a run takes no longer than shortWalk, what a few hundred thousand files take, or
// than its part of the time that the run took: who has waited for minutes waits for seconds more.
const (
	shortWalk = 200 * time.Millisecond
	longWalk  = 5 * time.Second
	walkPart  = 20
)

func walkTime(run time.Duration) time.Duration { return max(shortWalk, min(run/walkPart, longWalk)) }

// newRepositories finds every .git below the directory root that was made since; whole is false when the deadline came, or
// when something lies deeper than a path can say. Every run pays for it, in a project of any size: so it reads the folders
// by the system calls that it takes, asks of a file nothing but its name, and leaves out the folders that hold files only, which
// are most, and in which nothing was made. What is near the top comes first: that is where it acts, and the time may be up.
func newRepositories(root int, since, deadline time.Time) (found []string, whole bool) {
	whole = true
	w := &repositoryWalk{root: root, since: since, buf: make([]byte, smallFolder)}
	w.countsFolders()
	for dirs := []string{"."}; len(dirs) > 0; {
		dir := dirs[0]
		dirs = dirs[1:]
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
		repository, below := w.folder(fd, dir)
		_ = unix.Close(fd)
		if repository {
			found = append(found, path.Join(dir, ".git"))
		}
		dirs = append(dirs, below...)
	}
	return found, whole
}

// Of most folders all names fit smallFolder bytes; largeFolder is taken once there is one of which they do not, for its pages have to be
// got from the kernel one by one, at the end of each run.
const (
	smallFolder = 4 << 10
	largeFolder = 64 << 10
)

type repositoryWalk struct {
	root         int
	since        time.Time
	buf          []byte
	counts       bool // on the device below, a folder with no other in it has two links
	major, minor uint32
}

// countsFolders finds out whether the file system counts the folders in a folder in st_nlink, as it always was; some have 1
// there instead, and of others nothing is known (find(1), -noleaf).
func (w *repositoryWalk) countsFolders() {
	var fs unix.Statfs_t
	var st unix.Statx_t
	if unix.Fstatfs(w.root, &fs) != nil || unix.Statx(w.root, "", unix.AT_EMPTY_PATH, unix.STATX_INO, &st) != nil {
		return
	}
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		w.counts, w.major, w.minor = true, st.Dev_major, st.Dev_minor
	}
}

// folder tells of one folder whether it is a new repository, and which folders in it to look at.
func (w *repositoryWalk) folder(fd int, dir string) (repository bool, below []string) {
	for {
		n, err := unix.ReadDirent(fd, w.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return repository, below
		}
		names := w.buf[:n]
		if n > smallFolder/2 && len(w.buf) == smallFolder {
			w.buf = make([]byte, largeFolder)
		}
		for rest := names; len(rest) > 0; {
			name, kind, size := dirent(rest)
			rest = rest[size:]
			switch {
			case string(name) == ".git":
				repository = madeSince(fd, ".git", w.since)
			case kind != unix.DT_DIR && kind != unix.DT_UNKNOWN, string(name) == ".", string(name) == "..":
			case w.counts && w.onlyOldFiles(fd, string(name)):
			default:
				below = append(below, path.Join(dir, string(name)))
			}
		}
	}
}

// onlyOldFiles tells a folder that has no other in it, and in which nothing was made since: that changes its ctime (inode(7)).
func (w *repositoryWalk) onlyOldFiles(fd int, name string) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE|unix.STATX_NLINK|unix.STATX_CTIME, &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Nlink == 2 && st.Dev_major == w.major && st.Dev_minor == w.minor &&
		time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)).Before(w.since)
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
func madeSince(dir int, name string, since time.Time) bool {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_CTIME, &st); err != nil {
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

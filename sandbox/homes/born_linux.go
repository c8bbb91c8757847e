package homes

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Born is when a folder was made (statx(2)), "" where the file system does not know.
func Born(dir string) (string, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE|unix.STATX_BTIME, &st)
	switch {
	case err != nil:
		return "", &os.PathError{Op: "statx", Path: dir, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return "", &os.PathError{Op: "statx", Path: dir, Err: unix.ENOTDIR}
	case st.Mask&unix.STATX_BTIME == 0:
		return "", nil
	}
	return fmt.Sprintf("%d.%09d", st.Btime.Sec, st.Btime.Nsec), nil
}

func isNotDir(err error) bool { return errors.Is(err, unix.ENOTDIR) }

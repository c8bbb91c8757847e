package config

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// folderID tells a folder from another one that is made at the same path later: by its number, and by when it was made
// where the file system knows, for numbers are used again. "" when nobody can say. The device is left out: its number may be
// another one after a boot.
func folderID(dir string) string {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_NO_AUTOMOUNT, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		info, err := os.Stat(dir)
		if err != nil {
			return ""
		}
		return inodeOf(info)
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return fmt.Sprint(st.Ino)
	}
	return fmt.Sprintf("%d %d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec)
}

package host

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// readCgroup finds out who would make a control group for a sandbox.
func readCgroup() Cgroup {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return Cgroup{Mounted: mountedAt(fs.Type, err)}
	}
	c := Cgroup{V2: true}
	c.Systemd = Systemd()
	c.Path, _ = ownCgroup()
	top, err := DelegatedGroup()
	if err != nil {
		return c
	}
	c.Delegated = true
	if b, err := os.ReadFile(top + "/cgroup.controllers"); err == nil {
		c.Controllers = strings.Fields(string(b))
	}
	return c
}

func mountedAt(fsType int64, err error) string {
	switch {
	case err != nil:
		return "nothing"
	case fsType == unix.TMPFS_MAGIC || fsType == unix.CGROUP_SUPER_MAGIC:
		return "cgroup version 1" // or the hybrid of both, in which version 2 has no controllers
	}
	return "no control groups"
}

// Systemd is the socket of a systemd that makes control groups for us: the user's own, for root the machine's. "" is none.
func Systemd() string {
	if !booted() {
		return ""
	}
	if os.Geteuid() == 0 {
		return socket("/run/systemd/private")
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		if path := socket(dir + "/systemd/private"); path != "" {
			return path
		}
	}
	// After su(1) or sudo(8) the variable is missing, or another user's.
	return socket("/run/user/" + strconv.Itoa(os.Geteuid()) + "/systemd/private")
}

// booted reports whether systemd runs this machine (sd_booted(3)).
func booted() bool {
	var st unix.Stat_t
	return unix.Lstat("/run/systemd/system", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// socket is path, when we may connect there and nobody else listens.
func socket(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK || int(st.Uid) != os.Geteuid() || unix.Access(path, unix.W_OK) != nil {
		return ""
	}
	return path
}

// OutsideGroup is the group below a delegated one into which what was there before has moved.
const OutsideGroup = "cove-outside"

// DelegatedGroup is the folder of a control group below which we may make groups: our own, or the one above when
// cove has moved us down before.
func DelegatedGroup() (string, error) {
	own, err := ownCgroup()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cgroupRoot, own)
	if filepath.Base(dir) == OutsideGroup {
		dir = filepath.Dir(dir)
	}
	// The kernel's three marks of a delegated group: cgroups(7), "Delegation". Those of a user's systemd have them all, be
	// they delegated or not; it is asked first, and where it cannot be asked there is nobody else to disturb.
	for _, path := range []string{dir, dir + "/cgroup.procs", dir + "/cgroup.subtree_control"} {
		if err := unix.Access(path, unix.W_OK); err != nil {
			return "", &os.PathError{Op: "write", Path: path, Err: err}
		}
	}
	return dir, nil
}

// ownCgroup is our group of version 2, as a path below /sys/fs/cgroup.
func ownCgroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("no control group of version 2")
}

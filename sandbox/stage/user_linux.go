package stage

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"cove/sandbox/rootfs"
)

// user is an account inside.
type user struct {
	name     string // "" for a number that /etc/passwd does not have
	uid, gid uint32
	groups   []uint32
	home     string
}

// lookUpUser resolves "name", "uid", "name:group" or "uid:gid" in /etc/passwd and /etc/group
// inside, as the OCI image specification has Config.User. A name that is not there is an error.
func lookUpUser(what string) (*user, error) {
	passwd, err := rootfs.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := rootfs.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	return findUser(what, passwd, group)
}

func findUser(what string, passwd, group []byte) (*user, error) {
	name, groupName, hasGroup := strings.Cut(what, ":")
	u := &user{home: "/"}
	if name == "" {
		name = "0"
	}
	uid, err := strconv.ParseUint(name, 10, 32)
	numeric := err == nil && uid < 1<<32-1
	entry := findEntry(passwd, func(f []string) bool {
		return len(f) >= 6 && ((numeric && f[2] == strconv.FormatUint(uid, 10)) || (!numeric && f[0] == name))
	})
	switch {
	case entry != nil:
		id, err1 := strconv.ParseUint(entry[2], 10, 32)
		gid, err2 := strconv.ParseUint(entry[3], 10, 32)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("user %q: /etc/passwd inside has no numbers for it", what)
		}
		u.name, u.uid, u.gid = entry[0], uint32(id), uint32(gid)
		if strings.HasPrefix(entry[5], "/") {
			u.home = entry[5]
		}
	case numeric:
		u.uid = uint32(uid)
	default:
		return nil, fmt.Errorf("user %q is not in /etc/passwd inside", name)
	}
	if hasGroup {
		if u.gid, err = findGroup(groupName, group); err != nil {
			return nil, err
		}
		return u, nil
	}
	if u.name != "" {
		u.groups = memberOf(u.name, group)
	}
	return u, nil
}

func findGroup(name string, group []byte) (uint32, error) {
	if gid, err := strconv.ParseUint(name, 10, 32); err == nil && gid < 1<<32-1 {
		return uint32(gid), nil
	}
	entry := findEntry(group, func(f []string) bool { return len(f) >= 3 && f[0] == name })
	if entry == nil {
		return 0, fmt.Errorf("group %q is not in /etc/group inside", name)
	}
	gid, err := strconv.ParseUint(entry[2], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("group %q: /etc/group inside has no number for it", name)
	}
	return uint32(gid), nil
}

// maxGroups bounds the groups taken from an image; the kernel takes 65536.
const maxGroups = 256

func memberOf(name string, group []byte) []uint32 {
	var out []uint32
	findEntry(group, func(f []string) bool {
		if len(f) < 4 || len(out) >= maxGroups {
			return false
		}
		for _, member := range strings.Split(f[3], ",") {
			if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && member == name {
				out = append(out, uint32(gid))
				break
			}
		}
		return false
	})
	return out
}

// findEntry returns the fields of the first line that fits.
func findEntry(file []byte, fits func(fields []string) bool) []string {
	for line := range bytes.Lines(file) {
		fields := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if fits(fields) {
			return fields
		}
	}
	return nil
}

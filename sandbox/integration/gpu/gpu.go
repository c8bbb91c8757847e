// Package gpu finds the device nodes, files and variables by which programs use a GPU: those of the kernel's own drivers in /dev, and those
// that a CDI file names (Container Device Interface, github.com/cncf-tags/container-device-interface, SPEC.md), as nvidia-ctk writes it.
//
// Of a CDI file only what can be taken back is applied: nodes, read-only mounts of files and folders, variables. Its hooks are programs of
// the host that would run with the caller's rights on what the image holds; they are not run.
package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cove/sandbox/integration"

	"golang.org/x/sys/unix"
)

// Options says where to look, and for whom.
type Options struct {
	Dev  string   // /dev
	Dirs []string // of CDI files; a later one wins
	UID  uint32   // the caller's
}

// key is what the profile calls it.
const key = "host.gpu"

// The names that are no CDI device's.
const (
	DRI    = "dri"    // the render nodes of the kernel's drivers
	Nvidia = "nvidia" // the nodes of NVIDIA's driver
)

// Find returns what is to be inside for the devices of these names.
func Find(names []string, o Options) (*integration.Devices, error) {
	all := &integration.Devices{}
	for _, name := range names {
		var one *integration.Devices
		var err error
		switch name {
		case DRI:
			one, err = o.nodes(name, "there is no GPU here that the kernel has a driver for", "dri/renderD[0-9]*")
		case Nvidia:
			one, err = o.nodes(name, "NVIDIA's driver is not loaded here", "nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
		default:
			one, err = o.cdi(name)
		}
		if err != nil {
			return nil, err
		}
		add(all, one)
	}
	for _, n := range all.Nodes {
		if err := o.usable(n.Source); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// add takes each thing once.
func add(all, one *integration.Devices) {
	for _, n := range one.Nodes {
		if !slices.Contains(all.Nodes, n) {
			all.Nodes = append(all.Nodes, n)
		}
	}
	for _, m := range one.Mounts {
		if !slices.Contains(all.Mounts, m) {
			all.Mounts = append(all.Mounts, m)
		}
	}
	all.Env = append(all.Env, one.Env...)
}

func missing(do, format string, args ...any) error {
	return &integration.MissingError{Name: key, Why: fmt.Sprintf(format, args...), Do: do}
}

func (o Options) nodes(name, none string, patterns ...string) (*integration.Devices, error) {
	found := &integration.Devices{}
	for _, p := range patterns {
		paths, err := filepath.Glob(filepath.Join(o.Dev, p))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			rel, err := filepath.Rel(o.Dev, path)
			if err != nil {
				return nil, err
			}
			found.Nodes = append(found.Nodes, integration.Bound{Source: path, Target: "/dev/" + rel})
		}
	}
	if len(found.Nodes) == 0 {
		return nil, missing("`ls /dev/dri /dev/nvidia*` shows what there is", "%q: %s (%s in %s)", name, none, strings.Join(patterns, ", "), o.Dev)
	}
	return found, nil
}

// usable makes sure that who is the caller inside can use a node. Groups of the caller's are not inside: a node that is only a group's could be
// opened outside, and not there.
func (o Options) usable(node string) error {
	var st unix.Stat_t
	err := unix.Stat(node, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing("where a CDI file names it, it is to be made anew: `nvidia-ctk cdi generate`", "there is no %q", node)
	case err != nil:
		return fmt.Errorf("%s: look at %q: %w", key, node, err)
	case st.Mode&unix.S_IFMT != unix.S_IFCHR:
		return missing("`ls -l` shows what it is", "%q is no character device", node)
	case st.Mode&0o006 == 0o006 || o.UID != 0 && st.Uid == o.UID && st.Mode&0o600 == 0o600:
		return nil
	}
	acl := make([]byte, 4096)
	if n, err := unix.Getxattr(node, "system.posix_acl_access", acl); err == nil && o.UID != 0 && grants(acl[:n], o.UID) {
		return nil
	}
	if o.UID == 0 {
		return missing("start cove as the user whose desktop it is", "%q is root's, and nobody inside is root outside", node)
	}
	return missing(fmt.Sprintf("`sudo setfacl -m u:$(id -un):rw %s` opens it for you until the next boot", node),
		"%q is not open to you but by a group, and groups are not inside", node)
}

// grants tells whether an ACL (acl(5), as the kernel keeps it) lets a user read and write.
func grants(acl []byte, uid uint32) bool {
	const header, entry, userTag, maskTag = 4, 8, 0x02, 0x10
	var user, mask uint16 = 0, 7
	for at := header; at+entry <= len(acl); at += entry {
		e := acl[at : at+entry]
		tag, perm := uint16(e[0])|uint16(e[1])<<8, uint16(e[2])|uint16(e[3])<<8
		id := uint32(e[4]) | uint32(e[5])<<8 | uint32(e[6])<<16 | uint32(e[7])<<24
		switch {
		case tag == userTag && id == uid:
			user = perm
		case tag == maskTag:
			mask = perm
		}
	}
	return user&mask&6 == 6
}

// Dirs are the folders of CDI files: the system's, and the user's own.
func Dirs() []string {
	dirs := []string{"/etc/cdi", "/var/run/cdi"}
	own := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(own) { // as the XDG base directories have it: one in the current folder would be the project's
		own = filepath.Join(os.Getenv("HOME"), ".config")
	}
	if filepath.IsAbs(own) {
		dirs = append(dirs, filepath.Join(own, "cdi"))
	}
	return dirs
}

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"cove/sandbox/rootfs"
	"cove/sandbox/stage"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// idmapMounts makes the binds of a sandbox that root started. No id inside is host 0 then, so
// that root's own files would be nobody's; an id-mapped mount (mount_setattr(2), Linux 5.12) shows
// the files of whom the folder belongs to as those of the sandbox's root, and what is made through it
// belongs to them. Where a file system cannot, the bind becomes read-only, and that is said.
func (b *box) idmapMounts() ([]*os.File, error) {
	namespaces := map[owner]*os.File{}
	defer func() {
		for _, ns := range namespaces {
			ns.Close()
		}
	}()
	var files []*os.File
	for i := range b.spec.Mounts {
		m := &b.spec.Mounts[i]
		if !m.Idmapped {
			continue
		}
		fd, err := rootfs.OpenSource(*m)
		if errors.Is(err, unix.EPERM) {
			// Root of a container that keeps CAP_SYS_ADMIN from it, as cove's own do: no mount is made out here, but
			// in the stage, of which this root is a stranger.
			b.warn("%q is read-only inside: root may not make mounts here, so its ids cannot be mapped", m.Source)
			m.Idmapped, m.ReadOnly = false, true
			continue
		}
		if err != nil {
			closeFiles(files)
			return nil, fmt.Errorf("mount %q: open %q: %w", m.Target, m.Source, err)
		}
		ns, err := b.namespaceFor(fd, namespaces)
		if err != nil {
			_ = unix.Close(fd)
			closeFiles(files)
			return nil, fmt.Errorf("mount %q: make a user namespace for its ids: %w", m.Target, err)
		}
		// The copy is a peer of the host's mount where that is shared, as under systemd: what the stage
		// mounts below it would be mounted on the host, too, and stay.
		attr := &unix.MountAttr{Propagation: unix.MS_PRIVATE}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			_ = unix.Close(fd)
			b.warn("%q is read-only inside: this kernel cannot map its ids (%v)", m.Source, err)
			m.Idmapped, m.ReadOnly = false, true
			continue
		}
		attr = &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attr); err != nil {
			// It still goes in as it is: the stage could not open what lies below the 0700 folder of another.
			b.warn("%q is read-only inside: its file system cannot map ids (%v)", m.Source, err)
			m.ReadOnly = true
		}
		files = append(files, os.NewFile(uintptr(fd), string(m.Source)))
	}
	return files, nil
}

// owner is whom a folder or file belongs to outside.
type owner struct{ uid, gid uint32 }

// namespaceFor returns the user namespace that maps the ids of what fd is open on, of those that are there or a new one.
func (b *box) namespaceFor(fd int, have map[owner]*os.File) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	o := owner{st.Uid, st.Gid}
	// What a sandbox's other users own outside are ids of its own already.
	if _, own := b.spec.IDMap.ContainerUID(o.uid); own {
		o.uid = 0
	}
	if _, own := b.spec.IDMap.ContainerGID(o.gid); own {
		o.gid = 0
	}
	if ns := have[o]; ns != nil {
		return ns, nil
	}
	ns, err := mappedNamespace(b.spec.IDMap, o)
	if err == nil {
		have[o] = ns
	}
	return ns, err
}

// mappedNamespace returns a user namespace in which the owner is the id that the sandbox's root
// is outside, and every other id of the sandbox is itself.
func mappedNamespace(m userns.IDMap, o owner) (*os.File, error) {
	child, err := userns.Start(context.Background(), userns.Config{Stage: stage.HoldName, IDMap: userns.IDMap{
		UIDs: onto(m.UIDs, o.uid), GIDs: onto(m.GIDs, o.gid),
	}})
	if err != nil {
		return nil, err
	}
	defer func() {
		child.Kill()
		_, _ = child.Wait()
		child.Conn.Close()
	}()
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", child.Pid()))
}

// onto maps the owner's id on disk to what the sandbox's root is outside, and the sandbox's other ids
// to themselves: files that it made as other users are theirs on disk.
func onto(ranges []userns.Range, owner uint32) []userns.Range {
	var out []userns.Range
	for _, r := range ranges {
		if r.ContainerID == 0 {
			out = append(out, userns.Range{ContainerID: owner, HostID: r.HostID, Size: 1})
			r.HostID, r.Size = r.HostID+1, r.Size-1
		}
		if r.Size > 0 {
			out = append(out, userns.Range{ContainerID: r.HostID, HostID: r.HostID, Size: r.Size})
		}
	}
	return out
}

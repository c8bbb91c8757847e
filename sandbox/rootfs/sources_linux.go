package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Sources holds open whatever the sandbox takes from the host. It is opened by the stage while
// it still has the caller's ids: afterwards the caller's own 0700 folders may be out of reach.
type Sources struct {
	layers  []int       // O_PATH directories, lowest first; with Root.Prepared that last
	upper   int         // of an overlay; -1 without
	work    int         //
	stack   int         // an overlay that has the layers already, instead of descriptors of theirs; -1 without
	stacked int         // how many
	prepare int         // a directory for what is put into upper; -1 without
	copied  int         // a detached mount of the flattened copy
	binds   map[int]int // index in Spec.Mounts -> detached mount
	views   map[int]view
	devices map[string]int
	host    []hostEntry
	fuse    int          // /dev/fuse
	top     *unix.Stat_t // of the topmost layer's own directory
	// programs are detached mounts of cove's own file, one for each of Integrations.Programs.
	programs []int
	granted  []int          // detached mounts of Integrations.Devices
	sockets  map[string]int // of Integrations.Bound
}

// hostEntry is one entry of the root directory of a host root file system.
type hostEntry struct {
	name  string // without the slash
	link  string // what it links to, when it is a link
	mount int    // otherwise a detached mount
}

// deviceNodes is what /dev holds besides links: every one harmless, as in any container.
var deviceNodes = []string{"null", "zero", "full", "random", "urandom", "tty"}

// Open opens everything that s takes from the host. idmapped are the detached mounts that the
// parent made, in the order of the mounts of s that ask for one; Open takes them over.
func Open(s *spec.Spec, idmapped []*os.File) (*Sources, error) {
	src := &Sources{upper: -1, work: -1, stack: -1, prepare: -1, copied: -1, fuse: -1, binds: map[int]int{}, views: map[int]view{}, devices: map[string]int{}}
	if err := src.openRoot(&s.Root); err != nil {
		return nil, fmt.Errorf("open root file system: %w", err)
	}
	for i, m := range s.Mounts {
		if m.Kind == spec.MountView {
			v, err := openView(m)
			if err != nil {
				return nil, fmt.Errorf("mount %q: %w", m.Target, err)
			}
			src.views[i] = v
			continue
		}
		if m.Kind != spec.MountBind {
			continue
		}
		if m.Idmapped {
			if len(idmapped) == 0 {
				return nil, fmt.Errorf("mount %q: its id-mapped mount did not come", m.Target)
			}
			// A descriptor of our own: that of an os.File goes when nothing refers to the File any more.
			fd, err := unix.FcntlInt(idmapped[0].Fd(), unix.F_DUPFD_CLOEXEC, 3)
			idmapped[0].Close()
			if err != nil {
				return nil, fmt.Errorf("mount %q: %w", m.Target, err)
			}
			src.binds[i] = fd
			idmapped = idmapped[1:]
			continue
		}
		fd, err := OpenSource(m)
		if err != nil {
			return nil, fmt.Errorf("mount %q: open %q: %w", m.Target, m.Source, err)
		}
		src.binds[i] = fd
	}
	src.sockets = map[string]int{}
	for name, socket := range s.Integrations.Bound() {
		fd, err := clone(unix.AT_FDCWD, string(socket))
		if err != nil {
			return nil, fmt.Errorf("open %q: %w", socket, err)
		}
		src.sockets[name] = fd
	}
	for range s.Integrations.Programs() {
		fd, err := clone(unix.AT_FDCWD, string(s.Integrations.Program))
		if err != nil {
			return nil, fmt.Errorf("open %q: %w", s.Integrations.Program, err)
		}
		src.programs = append(src.programs, fd)
	}
	if s.Integrations != nil {
		for _, d := range s.Integrations.Devices {
			fd, err := cloneDevice(string(d.Source))
			if err != nil {
				return nil, fmt.Errorf("device %q: %w", d.Source, err)
			}
			src.granted = append(src.granted, fd)
		}
	}
	for _, name := range deviceNodes {
		fd, err := clone(unix.AT_FDCWD, "/dev/"+name)
		if err != nil {
			return nil, fmt.Errorf("open /dev/%s: %w", name, err)
		}
		src.devices[name] = fd
	}
	return src, nil
}

// OpenSource makes a detached copy of the mounts at a bind's source. One that was granted because
// it lies beneath a folder must not be led out of it by a link that something put there since.
func OpenSource(m spec.Mount) (int, error) {
	switch {
	case m.Beneath == "" && m.Agreed:
		return cloneLinkless(string(m.Source))
	case m.Beneath == "":
		return clone(unix.AT_FDCWD, string(m.Source))
	}
	dir, err := openLinkless(string(m.Beneath), unix.O_DIRECTORY)
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", m.Beneath, err)
	}
	defer unix.Close(dir)
	rel := strings.TrimPrefix(strings.TrimPrefix(string(m.Source), string(m.Beneath)), "/")
	if rel == "" {
		return clone(dir, "")
	}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	if m.Below != "" {
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS // of a path that had none when it was agreed to
	}
	fd, err := unix.Openat2(dir, rel, how)
	if err != nil {
		return -1, fmt.Errorf("stay beneath %q: %w", m.Beneath, err)
	}
	defer unix.Close(fd)
	return clone(fd, "")
}

// cloneLinkless is clone for a path that was agreed to.
func cloneLinkless(path string) (int, error) {
	fd, err := openLinkless(path, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return clone(fd, "")
}

// openLinkless opens a path whose links were followed when it was shown and agreed to: one that somebody put there since, in
// another sandbox that may write there, say, is not what was agreed to.
func openLinkless(path string, flags uint64) (int, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ELOOP) {
		err = errors.New("a link was put on its way since it was looked at")
	}
	return fd, err
}

func (src *Sources) openRoot(root *spec.Root) error {
	if n := len(root.Layers); n > 0 {
		src.top = new(unix.Stat_t)
		if err := unix.Stat(string(root.Layers[n-1]), src.top); err != nil {
			return fmt.Errorf("stat %q: %w", root.Layers[n-1], err)
		}
	}
	switch root.Kind {
	case spec.RootHost:
		return src.openHost()
	case spec.RootCopy:
		fd, err := clone(unix.AT_FDCWD, string(root.RunDir)+"/rootfs")
		if err != nil {
			return fmt.Errorf("open %q: %w", root.RunDir+"/rootfs", err)
		}
		src.copied = fd
		return nil
	case spec.RootFuse:
		// fuse-overlayfs runs outside and opens the layers itself; here is only the mount.
		fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open /dev/fuse: %w", err)
		}
		src.fuse = fd
		return nil
	case spec.RootOverlay:
		return src.openLayers(root)
	}
	return fmt.Errorf("unknown kind of root file system %q", root.Kind)
}

func openDir(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", name, err)
	}
	return fd, nil
}

// hostTop is what a host root file system takes from the host besides the links into /usr.
var hostTop = []string{"usr", "etc", "opt", "nix"}

// hostUsr are the root's entries that are links into /usr wherever /usr is merged, and folders elsewhere.
var hostUsr = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

func (src *Sources) openHost() error {
	for _, name := range append(append([]string{}, hostTop...), hostUsr...) {
		var st unix.Stat_t
		if err := unix.Lstat("/"+name, &st); err == unix.ENOENT {
			continue
		} else if err != nil {
			return fmt.Errorf("stat /%s: %w", name, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			link, err := readlinkat(unix.AT_FDCWD, "/"+name)
			if err != nil {
				return fmt.Errorf("read link /%s: %w", name, err)
			}
			if strings.HasPrefix(strings.TrimPrefix(link, "/"), "usr/") {
				src.host = append(src.host, hostEntry{name: name, link: link})
				continue
			}
		}
		fd, err := clone(unix.AT_FDCWD, "/"+name)
		if err != nil {
			return fmt.Errorf("open /%s: %w", name, err)
		}
		src.host = append(src.host, hostEntry{name: name, mount: fd})
	}
	return nil
}

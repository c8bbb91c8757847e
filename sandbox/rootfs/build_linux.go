package rootfs

import (
	"errors"
	"fmt"
	"os"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// base is where the new root is put together: a tmpfs of the new mount namespace's own, over a
// directory that every system has. It goes away with the old root.
const base = "/tmp"

// Detach keeps what is mounted from here on from where this mount namespace was copied from, and the other way round.
func Detach() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// Build assembles the root file system of s below base. It runs with the ids of the sandbox, after
// Detach and Open. serveFuse hands /dev/fuse, mounted, to whoever starts the server of a fuse-overlayfs: 0 is the root, N the N-th of
// the mounts, from 1.
func (src *Sources) Build(s *spec.Spec, serveFuse func(fuse *os.File, of int) error) (*Root, error) {
	if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=8m"); err != nil {
		return nil, fmt.Errorf("mount tmpfs on %s: %w", base, err)
	}
	if err := unix.Mkdir(base+"/root", 0o755); err != nil {
		return nil, fmt.Errorf("make %s/root: %w", base, err)
	}
	if err := src.mountRoot(s, serveFuse); err != nil {
		return nil, err
	}
	if err := src.rootLikeTop(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(base+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r := &Root{tree: tree{fd: fd, placed: &[]spec.Placed{}}, spec: s, src: src, empty: -1, serveFuse: serveFuse}
	defer func() {
		if r.empty >= 0 {
			_ = unix.Close(r.empty)
		}
	}()
	if s.Root.Kind == spec.RootHost {
		if err := r.buildHost(); err != nil {
			return nil, err
		}
	}
	// The files come before every mount: a link in an image must not lead their content into
	// what is mounted later, such as the workspace.
	if err := r.files(); err != nil {
		return nil, err
	}
	if err := r.system(); err != nil {
		return nil, err
	}
	if err := r.integrations(); err != nil {
		return nil, fmt.Errorf("integrations: %w", err)
	}
	astray := false
	r.astray = &astray
	if err := r.mounts(); err != nil {
		return nil, err
	}
	if err := r.protect(); err != nil {
		return nil, fmt.Errorf("protect: %w", err)
	}
	if err := r.hide(); err != nil {
		return nil, fmt.Errorf("hide: %w", err)
	}
	if s.Root.ReadOnly || s.Root.Kind == spec.RootHost {
		if err := restrict(fd, unix.MOUNT_ATTR_RDONLY, false); err != nil {
			return nil, fmt.Errorf("make root read-only: %w", err)
		}
	}
	// A link may lie in what was mounted, a home say, where a command that ran before has put it: where such a one led is
	// nothing for other starts.
	switch {
	case src.prepare < 0:
	case astray:
		r.unprepared = errors.New("a link led a mount elsewhere")
	default:
		r.unprepared = src.prepareNext()
		r.prepared = r.unprepared == nil
	}
	return r, nil
}

// Root is an assembled root file system that is not `/` yet.
type Root struct {
	tree
	spec  *spec.Spec
	src   *Sources
	empty int // an empty read-only directory, mounted, to mask others with; -1 before the first
	// listening are the integrations' sockets.
	listening []*os.File
	// prepared says that Root.Prepare has got its layer, unprepared why not.
	prepared   bool
	unprepared error
	serveFuse  func(fuse *os.File, of int) error
}

// Placed is what was put into the root file system that is neither the image's nor anybody's inside.
func (r *Root) Placed() []spec.Placed { return *r.placed }

// Prepared tells whether what was put there was copied to where Root.Prepare says, or why not. That is no error of this start: the
// next has the same work to do.
func (r *Root) Prepared() (ok bool, why error) { return r.prepared, r.unprepared }

func (src *Sources) mountRoot(s *spec.Spec, serveFuse func(*os.File, int) error) error {
	flags := uintptr(unix.MS_NODEV)
	if !s.Security.NewPrivileges {
		flags |= unix.MS_NOSUID
	}
	switch s.Root.Kind {
	case spec.RootOverlay:
		return src.mountOverlay(flags, s.Root.Persist)
	case spec.RootFuse:
		return mountFuse(base+"/root", src.fuse, flags, func(fuse *os.File) error { return serveFuse(fuse, 0) })
	case spec.RootCopy:
		attrs := uint64(unix.MOUNT_ATTR_NODEV)
		if !s.Security.NewPrivileges {
			attrs |= unix.MOUNT_ATTR_NOSUID
		}
		if err := restrict(src.copied, attrs, true); err != nil {
			return err
		}
		target, err := openDir(base + "/root")
		if err != nil {
			return err
		}
		defer unix.Close(target)
		return attach(src.copied, target)
	case spec.RootHost:
		return unix.Mount("tmpfs", base+"/root", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m")
	}
	return fmt.Errorf("unknown kind of root file system %q", s.Root.Kind)
}

// rootLikeTop gives `/` the owner and the mode of the topmost layer's directory. Of an overlay they
// are the upper directory's, which is only its maker's to enter: then apt's _apt could not.
func (src *Sources) rootLikeTop() error {
	if src.top == nil {
		return nil
	}
	if err := unix.Chown(base+"/root", int(src.top.Uid), int(src.top.Gid)); err != nil {
		return fmt.Errorf("chown /: %w", err)
	}
	if err := unix.Chmod(base+"/root", src.top.Mode&0o7777); err != nil {
		return fmt.Errorf("chmod /: %w", err)
	}
	return nil
}

// mountFuse mounts /dev/fuse, which it takes over, and has it served.
func mountFuse(at string, fuse int, flags uintptr, serve func(*os.File) error) error {
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fuse)
	if err := unix.Mount("fuse-overlayfs", at, "fuse", flags, data); err != nil {
		return fmt.Errorf("mount fuse: %w", err)
	}
	f := os.NewFile(uintptr(fuse), "/dev/fuse")
	defer f.Close()
	if err := serve(f); err != nil {
		return fmt.Errorf("start fuse-overlayfs: %w", err)
	}
	return nil
}

// buildHost puts the host's folders onto the root's tmpfs, read-only, and private ones beside them.
func (r *Root) buildHost() error {
	for _, e := range r.src.host {
		if e.link != "" {
			if err := unix.Symlinkat(e.link, r.fd, e.name); err != nil {
				return fmt.Errorf("link /%s: %w", e.name, err)
			}
			continue
		}
		attrs := uint64(unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
		if err := restrict(e.mount, attrs, true); err != nil {
			return fmt.Errorf("make /%s read-only: %w", e.name, err)
		}
		target, err := r.dir("/" + e.name)
		if err != nil {
			return fmt.Errorf("make /%s: %w", e.name, err)
		}
		err = attach(e.mount, target)
		unix.Close(target)
		if err != nil {
			return fmt.Errorf("mount /%s: %w", e.name, err)
		}
	}
	for _, d := range []struct {
		name string
		mode uint32
	}{{"proc", 0o555}, {"sys", 0o555}, {"dev", 0o755}, {"home", 0o755}, {"root", 0o700}, {"var", 0o755},
		{"mnt", 0o755}, {"srv", 0o755}, {"tmp", 0o1777}, {"run", 0o755}} {
		if err := unix.Mkdirat(r.fd, d.name, d.mode); err != nil {
			return fmt.Errorf("make /%s: %w", d.name, err)
		}
	}
	// The root itself becomes read-only; these two are what programs write to.
	for name, mode := range map[string]uint32{"tmp": 0o1777, "run": 0o755} {
		if err := r.tmpfs("/"+name, mode, 0); err != nil {
			return fmt.Errorf("mount /%s: %w", name, err)
		}
	}
	if err := unix.Symlinkat("../tmp", r.fd, "var/tmp"); err != nil {
		return fmt.Errorf("link /var/tmp: %w", err)
	}
	return nil
}

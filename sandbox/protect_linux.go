package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// protect makes every protected path exist and names in the Spec what is to be protected: the
// path itself, or the first folder above it that is missing.
func (b *box) protect() error {
	if err := b.makeLogs(); err != nil {
		return err
	}
	var submodules []string
	if p := b.spec.Repository; p != nil {
		err := b.protectFolder(p, func(root int) map[string]bool { submodules = b.protectRepository(root); return nil })
		if err != nil {
			return err
		}
	}
	if p := b.spec.Protect; p != nil {
		return b.protectFolder(p, func(root int) map[string]bool { return b.protectGit(root, submodules) })
	}
	return nil
}

// protectFolder does it for one folder. more adds what is found there, and says which of it are files even where they
// are missing.
func (b *box) protectFolder(p *spec.Protect, more func(root int) (files map[string]bool)) error {
	root, err := unix.Open(string(p.Source), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", p.Source, err)
	}
	defer unix.Close(root)
	files := more(root)
	use, err := openUse(workspaceFile(b.opts.RuntimeDir, string(p.Source)))
	if err != nil {
		return err
	}
	var made []spec.Path
	err = use.change(func(j *journal) (err error) {
		alone := flock(use.inUse, unix.LOCK_EX|unix.LOCK_NB) == nil
		if alone {
			removePlaceholders(root, j) // those of a sandbox that was killed
		}
		defer func() {
			// Later it may not be known which they were: where the disk is full the journal is cut short.
			if err != nil && alone {
				removePlaceholders(root, j)
			}
		}()
		if err := flock(use.inUse, unix.LOCK_SH); err != nil {
			return err
		}
		j.Workspace = p.Source
		var paths []spec.Path
		for _, name := range p.Paths {
			actual, err := ensureProtected(root, string(name), files[string(name)], j)
			if err != nil && b.nobodyCanMake(root, string(actual), err) {
				continue
			}
			if err != nil {
				return err
			}
			paths = appendNew(paths, actual)
		}
		p.Paths = paths
		if p == b.spec.Protect {
			b.protectElsewhere()
		}
		for _, m := range j.Made {
			made = append(made, m.Path)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, use.close())
	}
	if p != b.spec.Protect {
		tell := watchRepository(p, b.warn)
		b.undo(func() error {
			if !b.opts.shell { // as in report
				tell()
			}
			return use.close()
		})
		return nil
	}
	before := gitState(root)
	b.undo(func() error {
		b.report(before, string(p.Source), made)
		return use.close()
	})
	return nil
}

// protectElsewhere finds the other mounts through which a protected path could be written. One that
// is of a protected path itself was asked for by name, and stays what it is.
func (b *box) protectElsewhere() {
	p := b.spec.Protect
	var paths []string
	for _, name := range p.Paths {
		paths = append(paths, path.Join(string(p.Source), string(name)))
	}
	for _, m := range b.spec.Mounts {
		if m.ReadOnly || m.Target == p.Workspace {
			continue
		}
		if view := shownBy(m, paths); len(view.Paths) > 0 {
			p.Elsewhere = append(p.Elsewhere, view)
		}
	}
}

// shownBy lists those of the real paths that lie below a bind's source.
func shownBy(m spec.Mount, paths []string) spec.Below {
	view := spec.Below{Target: m.Target}
	if m.Kind != spec.MountBind && m.Kind != spec.MountView {
		return view
	}
	source, err := filepath.EvalSymlinks(string(m.Source))
	if err != nil {
		return view // whoever opens it says so
	}
	for _, name := range paths {
		if rel, ok := below(name, source); ok && rel != "" {
			view.Paths = appendNew(view.Paths, spec.Path(strings.TrimPrefix(rel, "/")))
		}
	}
	return view
}

// hide finds the mounts that would show what no sandbox may reach unless it is mounted by name: with
// cove's own folders a command could enter every other sandbox, change their images, and agree to
// profiles. One that is missing is made, or it would be made inside.
func (b *box) hide() error {
	var paths []string
	for _, name := range b.spec.Hide {
		real, err := realPath(string(name))
		if err != nil {
			return fmt.Errorf("hide %q: %w", name, err)
		}
		paths = append(paths, real)
	}
	for _, m := range b.spec.Mounts {
		all := shownBy(m, paths)
		view := spec.Below{Target: all.Target}
		for _, rel := range all.Paths {
			// What we cannot make nobody inside can, who has no more rights to these folders than we.
			if err := os.MkdirAll(path.Join(string(m.Source), string(rel)), 0o700); err == nil {
				view.Paths = append(view.Paths, rel)
			} else if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
				return fmt.Errorf("hide: %w", err)
			}
		}
		if len(view.Paths) > 0 {
			b.spec.Hidden = append(b.spec.Hidden, view)
		}
	}
	return nil
}

// protectProgram finds the mounts through which this very program could be replaced, as where one tries cove in the folder
// that it was built in: what the sandbox puts there would run outside, with all of the caller's rights. /proc/1/exe is
// closed by the stage; this is the plain way.
func (b *box) protectProgram() error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	for _, m := range b.spec.Mounts {
		if m.ReadOnly || m.Kind == spec.MountView { // what is put into a view is not what runs outside
			continue
		}
		if view := shownBy(m, []string{exe}); len(view.Paths) > 0 {
			b.spec.Program = append(b.spec.Program, view)
		}
	}
	return nil
}

// realPath follows the links of a path as far as it exists.
func realPath(name string) (string, error) {
	missing := ""
	for at := path.Clean(name); ; at = path.Dir(at) {
		real, err := filepath.EvalSymlinks(at)
		if err == nil {
			return path.Join(real, missing), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == "/" {
			return "", err
		}
		missing = path.Join(path.Base(at), missing)
	}
}

// appendNew adds p unless it, or a folder above it, is there: what is protected is so with all below it.
func appendNew(paths []spec.Path, p spec.Path) []spec.Path {
	for _, old := range paths {
		if old == p || strings.HasPrefix(string(p), string(old)+"/") {
			return paths
		}
	}
	return append(paths, p)
}

func openBeneath(root int, name string) (int, error) {
	return unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// ensureProtected walks to name below root and returns what is to be protected: name itself, or a
// component on the way that is no folder (a worktree's .git) or that was missing and is a
// placeholder now.
func ensureProtected(root int, name string, file bool, j *journal) (spec.Path, error) {
	parts := strings.Split(path.Clean(name), "/")
	for i := range parts {
		at := strings.Join(parts[:i+1], "/")
		fd, err := openBeneath(root, at)
		if err == unix.ENOENT {
			return spec.Path(at), makePlaceholder(root, at, i < len(parts)-1 || !file && looksLikeDir(parts[i]), j)
		}
		if err == unix.ELOOP || err == unix.EXDEV {
			return "", fmt.Errorf("%q: %q is a link, which could be pointed elsewhere: protect what it points to (workspace.protect)", name, at)
		}
		if err != nil {
			return "", fmt.Errorf("%q: open %q: %w", name, at, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		_ = unix.Close(fd)
		switch {
		case err != nil:
			return "", fmt.Errorf("%q: stat %q: %w", name, at, err)
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return "", fmt.Errorf("%q: %q is a link, which could be pointed elsewhere: protect what it points to (workspace.protect)", name, at)
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return spec.Path(at), nil
		case j.holds(at, &st) && isEmpty(root, at):
			// Another sandbox's placeholder: this one protects the same, or here things could be put into it.
			return spec.Path(at), nil
		}
	}
	return spec.Path(path.Clean(name)), nil
}

// nobodyCanMake reports whether the missing name, of which err says that no placeholder can be made,
// cannot be made inside either: its folder is on a read-only file system, or only its owner can
// write to it, who is nobody inside, so that no capability there reaches it (user_namespaces(7)).
func (b *box) nobodyCanMake(root int, name string, err error) bool {
	if errors.Is(err, unix.EROFS) {
		return true
	}
	var st unix.Stat_t
	if !errors.Is(err, unix.EACCES) || unix.Fstatat(root, path.Dir(name), &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	_, mapped := b.spec.IDMap.ContainerUID(st.Uid)
	return !mapped && st.Mode&0o022 == 0
}

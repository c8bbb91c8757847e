package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// A protected path that is missing must not be made inside. The kernel needs something to mount
// on, so the parent makes an empty placeholder outside, and takes it away when the last sandbox
// on the workspace ends: taken away earlier, it would take the others' mounts with it. Who uses a
// workspace is told by a shared lock, what was made for it by a journal, both in the runtime
// directory; after a kill -9 the next cove cleans up.

// placeholder is something that was made to be mounted on.
type placeholder struct {
	Path spec.Path `json:"path"` // relative to the workspace
	Dir  bool      `json:"dir,omitempty"`
	Dev  uint64    `json:"dev"`
	Ino  uint64    `json:"ino"` // 0: it was about to be made
}

// workspaceUse is the bookkeeping of one workspace, as one sandbox sees it.
type workspaceUse struct {
	base  string // of the files in the runtime directory
	inUse *os.File
}

type journal struct {
	Workspace spec.Path     `json:"workspace"`
	Made      []placeholder `json:"made"`

	file *os.File
}

// protect makes every protected path exist and names in the Spec what is to be protected: the
// path itself, or the first folder above it that is missing.
func (b *box) protect() error {
	p := b.spec.Protect
	if p == nil {
		return nil
	}
	root, err := unix.Open(string(p.Source), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", p.Source, err)
	}
	defer unix.Close(root)
	use, err := openUse(workspaceFile(b.opts.RuntimeDir, string(p.Source)))
	if err != nil {
		return err
	}
	var made []spec.Path
	err = use.change(func(j *journal) error {
		if err := flock(use.inUse, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			removePlaceholders(root, j) // those of a sandbox that was killed
		}
		if err := flock(use.inUse, unix.LOCK_SH); err != nil {
			return err
		}
		j.Workspace = p.Source
		var paths []spec.Path
		for _, name := range p.Paths {
			actual, err := ensureProtected(root, string(name), j)
			if err != nil && b.nobodyCanMake(root, string(actual), err) {
				continue
			}
			if err != nil {
				return err
			}
			paths = appendNew(paths, actual)
		}
		p.Paths = paths
		b.protectElsewhere()
		for _, m := range j.Made {
			made = append(made, m.Path)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, use.close())
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
	if m.Kind != spec.MountBind {
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

// workspaceFile is the name of a workspace's file in the runtime directory.
func workspaceFile(runtimeDir, workspace string) string {
	sum := sha256.Sum256([]byte(workspace))
	return filepath.Join(runtimeDir, "workspaces", hex.EncodeToString(sum[:12]))
}

func openUse(base string) (*workspaceUse, error) {
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(base+useSuffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return &workspaceUse{base: base, inUse: f}, nil
}

// useSuffix names the file that every sandbox on a workspace holds a shared lock of.
const useSuffix = ".use"

// change runs f with the journal, alone, and writes it back.
func (u *workspaceUse) change(f func(*journal) error) error {
	file, err := lockFile(u.base, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer file.Close()
	j := &journal{file: file}
	// The first value counts: a kill between the write and the truncation leaves older bytes behind it.
	if err := json.NewDecoder(file).Decode(j); err != nil {
		j.Made = nil // empty; or cut short by a full disk, and then what it named stays, empty as it is
	}
	return errors.Join(f(j), j.write())
}

// write replaces the journal, which is one page: a kill leaves the old one or the new one.
func (j *journal) write() error {
	var b []byte
	if len(j.Made) > 0 {
		var err error
		if b, err = json.Marshal(j); err != nil {
			return err
		}
	}
	if _, err := j.file.WriteAt(b, 0); err != nil {
		return err
	}
	return j.file.Truncate(int64(len(b)))
}

// close gives the workspace up, and removes the placeholders when nobody else uses it.
func (u *workspaceUse) close() error {
	defer u.inUse.Close()
	return u.change(func(j *journal) error {
		if len(j.Made) == 0 || flock(u.inUse, unix.LOCK_EX|unix.LOCK_NB) != nil {
			return nil
		}
		root, err := unix.Open(string(j.Workspace), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(root)
		removePlaceholders(root, j)
		return nil
	})
}

// sweepPlaceholders removes those of sandboxes that were killed, on any workspace.
func sweepPlaceholders(runtimeDir string) {
	entries, err := os.ReadDir(filepath.Join(runtimeDir, "workspaces"))
	if err != nil {
		return // there are none
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Size() == 0 || filepath.Ext(e.Name()) != "" {
			continue
		}
		if use, err := openUse(filepath.Join(runtimeDir, "workspaces", e.Name())); err == nil {
			_ = use.close()
		}
	}
}

// lockWorkspace takes one of a workspace's further locks.
func lockWorkspace(runtimeDir, workspace, suffix string) (*os.File, error) {
	base := workspaceFile(runtimeDir, workspace)
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return nil, err
	}
	return lockFile(base+suffix, unix.LOCK_EX)
}

// removePlaceholders removes what is still as it was made: the same file, and empty.
func removePlaceholders(root int, j *journal) {
	for i := len(j.Made) - 1; i >= 0; i-- {
		m := j.Made[i]
		parent, err := openBeneath(root, path.Dir(string(m.Path)))
		if err != nil {
			continue
		}
		var st unix.Stat_t
		name := path.Base(string(m.Path))
		if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && (m.Ino == 0 || st.Ino == m.Ino && st.Dev == m.Dev) {
			switch {
			case m.Dir:
				_ = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
			case st.Size == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG:
				_ = unix.Unlinkat(parent, name, 0)
			}
		}
		_ = unix.Close(parent)
	}
	j.Made = nil
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
func ensureProtected(root int, name string, j *journal) (spec.Path, error) {
	parts := strings.Split(path.Clean(name), "/")
	for i := range parts {
		at := strings.Join(parts[:i+1], "/")
		fd, err := openBeneath(root, at)
		if err == unix.ENOENT {
			return spec.Path(at), makePlaceholder(root, at, i < len(parts)-1 || looksLikeDir(parts[i]), j)
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

// holds reports whether the directory at name is a placeholder.
func (j *journal) holds(name string, st *unix.Stat_t) bool {
	return slices.ContainsFunc(j.Made, func(m placeholder) bool {
		return m.Dir && string(m.Path) == name && m.Ino == st.Ino && m.Dev == st.Dev
	})
}

func isEmpty(root int, name string) bool {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return false
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	return err == io.EOF
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

// looksLikeDir guesses what kind a missing path would be; either kind keeps the name from being made.
func looksLikeDir(base string) bool {
	return base != "config" && !strings.Contains(strings.TrimPrefix(base, "."), ".")
}

func makePlaceholder(root int, name string, dir bool, j *journal) error {
	parent, err := openBeneath(root, path.Dir(name))
	if err != nil {
		return fmt.Errorf("open the folder of %q: %w", name, err)
	}
	defer unix.Close(parent)
	// Written down before it is made, so that a kill in between leaves nothing unknown.
	j.Made = append(j.Made, placeholder{Path: spec.Path(name), Dir: dir})
	if err := j.write(); err != nil {
		return fmt.Errorf("write down the placeholder for %q: %w", name, err)
	}
	base := path.Base(name)
	if dir {
		err = unix.Mkdirat(parent, base, 0o755)
	} else {
		err = unix.Mknodat(parent, base, unix.S_IFREG|0o444, 0)
	}
	if err != nil {
		j.Made = j.Made[:len(j.Made)-1]
		return fmt.Errorf("make a placeholder for the missing %q: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat the placeholder %q: %w", name, err)
	}
	made := &j.Made[len(j.Made)-1]
	made.Dev, made.Ino = st.Dev, st.Ino
	return nil
}

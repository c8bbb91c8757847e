package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
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
	if info, err := file.Stat(); err != nil || info.Size() > 0 { // it is empty where nobody uses the workspace
		// The first value counts: a kill between the write and the truncation leaves older bytes behind it.
		if err := json.NewDecoder(file).Decode(j); err != nil {
			j.Made = nil // cut short by a full disk, and then what it named stays, empty as it is
		}
	}
	err = f(j)
	// Where f failed because nothing can be written, the second attempt says nothing new.
	if werr := j.write(); err == nil {
		err = werr
	}
	return err
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
		if filepath.Ext(e.Name()) != "" {
			continue
		}
		if info, err := e.Info(); err != nil || info.Size() == 0 {
			continue
		}
		base := filepath.Join(runtimeDir, "workspaces", e.Name())
		// Who uses the workspace is to clean up, and every start beside is spared to wait for the journal and to write it anew.
		// If this finds nobody, whoever comes in between waits a moment for the lock, or leaves the rest to this sweep.
		if held(base + useSuffix) {
			continue
		}
		if use, err := openUse(base); err == nil {
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
		j.Made = j.Made[:len(j.Made)-1]
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

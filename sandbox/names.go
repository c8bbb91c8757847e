package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"cove/userns/fork"
)

// The folder RuntimeDir/names has a link for each running sandbox, from its name to ID:PROGRAM: who looks for one need not read the records
// of all, and knows whether it was started by this very program (fork.Program). Without it everything works as well, only slower.

// byNameDir is the folder. Package early reads it, too.
func byNameDir(runtimeDir string) string { return filepath.Join(runtimeDir, "names") }

// linkable reports whether a file can be called so.
func linkable(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

// linkName makes a name's link, where that can be. One that is there is of a sandbox that was killed.
func linkName(runtimeDir, name, id string) {
	if !linkable(name) {
		return
	}
	at, to := filepath.Join(byNameDir(runtimeDir), name), id+":"+fork.Program()
	err := os.Symlink(to, at)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(byNameDir(runtimeDir), 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			err = os.Symlink(to, at)
		}
	}
	if !errors.Is(err, fs.ErrExist) {
		return
	}
	beside := filepath.Join(byNameDir(runtimeDir), "."+id)
	if os.Symlink(to, beside) == nil && os.Rename(beside, at) != nil {
		_ = os.Remove(beside)
	}
}

// sweepLinks removes links that lead to no sandbox, where there are more links than sandboxes: of one that an older cove has swept, or whose parent was killed
// in the middle of linkName. A sandbox has its directory before its link.
func sweepLinks(runtimeDir string, sandboxes int) {
	entries, err := os.ReadDir(byNameDir(runtimeDir))
	if err != nil || len(entries) <= sandboxes {
		return
	}
	for _, e := range entries {
		at := filepath.Join(byNameDir(runtimeDir), e.Name())
		id := idOf(at)
		if id == "" {
			continue // no link
		}
		if _, err := os.Lstat(filepath.Join(sandboxesDir(runtimeDir), id)); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(at)
		}
	}
}

// idOf reads a link; "" where there is none.
func idOf(link string) string {
	to, _ := os.Readlink(link)
	id, _, _ := strings.Cut(to, ":")
	return id
}

// unlinkName removes a name's link, when it is still this sandbox's.
func unlinkName(runtimeDir, name, id string) {
	if !linkable(name) {
		return
	}
	at := filepath.Join(byNameDir(runtimeDir), name)
	if idOf(at) == id {
		_ = os.Remove(at)
	}
}

// byName is find by the link of a name. nil where there is none, or where it is wrong.
func byName(runtimeDir, name string) (string, *record) {
	if !linkable(name) {
		return "", nil
	}
	dir, r := byID(runtimeDir, idOf(filepath.Join(byNameDir(runtimeDir), name)))
	if r == nil || r.Name != name {
		return "", nil
	}
	return dir, r
}

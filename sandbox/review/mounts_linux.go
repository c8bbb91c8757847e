package review

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of /proc/self/mountinfo, as far as it says what lies where (proc_pid_mountinfo(5)).
type Mount struct {
	ID    uint64
	Dev   string // of the file system: major:minor
	Root  string // the folder of the file system that is mounted
	Point string // where
}

// ReadMounts returns the mounts of this process's namespace, those made later after those before.
func ReadMounts() ([]Mount, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(b)
}

func parseMounts(b []byte) ([]Mount, error) {
	var out []Mount
	for line := range bytes.Lines(b) {
		fields := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
		if len(fields) < 5 {
			return nil, fmt.Errorf("read mounts: %q is no line of mountinfo", line)
		}
		id, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read mounts: %q is no line of mountinfo", line)
		}
		out = append(out, Mount{ID: id, Dev: fields[2], Root: unescape(fields[3]), Point: unescape(fields[4])})
	}
	return out, nil
}

// unescape undoes what the kernel does to blanks, newlines and backslashes: \040.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// below is name's path relative to dir, when it lies in it.
func below(name, dir string) (string, bool) {
	if name == dir {
		return "", true
	}
	return strings.CutPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// Inside returns what is mounted inside a folder, relative to it: folders, those above before those below, and files.
// What another mount covers is not among it.
func Inside(mounts []Mount, dir string) (dirs, files []string, err error) {
	for _, m := range mounts {
		rel, ok := below(m.Point, dir)
		if !ok || rel == "" {
			continue
		}
		var st unix.Statx_t
		err := unix.Statx(unix.AT_FDCWD, m.Point, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID|unix.STATX_TYPE, &st)
		if err == unix.ENOENT || err == unix.ENOTDIR || err == nil && st.Mnt_id != m.ID {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look at what is mounted on %q: %w", m.Point, err)
		}
		if uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR {
			dirs = append(dirs, rel)
		} else {
			files = append(files, rel)
		}
	}
	sortByDepth(dirs)
	return dirs, files, nil
}

// A region is a part of a file system that can be reached below some folder.
type region struct {
	dev, root string // the file system, and where in it
	at        string // relative to the folder
}

// regions are all that a folder shows: its own file system's part, and what is mounted below it.
func regions(mounts []Mount, dir string) []region {
	var out []region
	own := -1
	for i, m := range mounts {
		if rel, ok := below(dir, m.Point); ok && (own < 0 || len(m.Point) >= len(mounts[own].Point)) {
			own = i
			out = []region{{dev: m.Dev, root: path.Join(m.Root, rel)}}
		}
	}
	for _, m := range mounts {
		if rel, ok := below(m.Point, dir); ok && rel != "" {
			out = append(out, region{dev: m.Dev, root: m.Root, at: rel})
		}
	}
	return out
}

// Shown returns the places below source where something of the project can be reached, relative to source: "" where all of
// source is of the project. It compares places in file systems: the same folder may be mounted under another name.
func Shown(mounts []Mount, source, project string) []string {
	var out []string
	add := func(at string) {
		for _, have := range out {
			if _, ok := below(at, have); ok || have == "" {
				return
			}
		}
		out = append(out, at)
	}
	for _, r := range regions(mounts, source) {
		for _, p := range regions(mounts, project) {
			if r.dev != p.dev {
				continue
			}
			if _, ok := below(r.root, p.root); ok {
				add(r.at)
			} else if rel, ok := below(p.root, r.root); ok && sameFile(path.Join(source, r.at, rel), path.Join(project, p.at)) {
				add(path.Join(r.at, rel))
			}
		}
	}
	for _, at := range out {
		if at == "" {
			return []string{""}
		}
	}
	return out
}

// sameFile reports whether two names are of one file; they are not where a further mount covers one. In doubt they are.
func sameFile(one, other string) bool {
	var a, b unix.Stat_t
	err1, err2 := unix.Lstat(one, &a), unix.Lstat(other, &b)
	if err1 == unix.ENOENT || err1 == unix.ENOTDIR {
		return false
	}
	return err1 != nil || err2 != nil || a.Dev == b.Dev && a.Ino == b.Ino
}

// sortByDepth puts folders before what lies in them.
func sortByDepth(dirs []string) {
	sort.SliceStable(dirs, func(i, j int) bool {
		if a, b := strings.Count(dirs[i], "/"), strings.Count(dirs[j], "/"); a != b {
			return a < b
		}
		return dirs[i] < dirs[j]
	})
}

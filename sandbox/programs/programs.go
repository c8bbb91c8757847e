package programs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Programs are the caller's, without those that a sandbox can put in their place.
type Programs struct {
	path     string   // PATH, without such folders
	set      bool     // there is a PATH
	writable []string // what is written inside, or was another time, without links
	look     bool     // some of it is where the usual folders are
	// plain is what was found to be no link while PATH was looked through, whose folders have much in common; true: nothing is seen below.
	plain map[string]bool
}

// New makes them of this process's PATH.
func New(writable []string) *Programs {
	p := &Programs{plain: map[string]bool{}}
	for _, dir := range writable {
		if dir == "" {
			continue
		}
		p.writable = append(p.writable, p.resolved(dir))
	}
	var path string
	if path, p.set = os.LookupEnv("PATH"); p.set {
		p.path = p.without(path)
	}
	p.plain = nil
	return p
}

// nowhere is a PATH in which nothing is found: an empty one is the current folder to a shell.
const nowhere = "/dev/null"

// usual are folders that are root's on every machine, which need no look each time.
var usual = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/games", "/usr/games", "/snap/bin"}

func (p *Programs) without(path string) string {
	var out []string
	p.look = slices.ContainsFunc(p.writable, amongUsual)
	for _, dir := range filepath.SplitList(path) {
		if p.trusts(dir) || filepath.IsAbs(dir) && !p.inside("/", dir) {
			out = append(out, dir)
		}
	}
	if len(out) == 0 {
		return nowhere
	}
	return strings.Join(out, string(filepath.ListSeparator))
}

// trusts says that a folder is a usual one, and nothing that is written is near it.
func (p *Programs) trusts(dir string) bool { return !p.look && slices.Contains(usual, dir) }

// amongUsual says that a folder is above, in, or beside one of the usual ones.
func amongUsual(dir string) bool {
	top, _, _ := strings.Cut(strings.TrimPrefix(dir, "/"), "/")
	return slices.Contains([]string{"", "usr", "sbin", "bin", "snap"}, top)
}

// resolved is a path without links, as far as there is something: what is missing may be made later.
func (p *Programs) resolved(path string) string {
	real, _ := p.walk("/", path, func(string) bool { return false })
	return real
}

// inside says whether a sandbox can change what is found by a path from a folder that it cannot change: the file itself, or a folder or
// link on the way. What a link of the project leads to now is nothing to go by.
func (p *Programs) inside(from, path string) bool {
	if len(p.writable) == 0 {
		return false
	}
	_, inside := p.walk(from, path, p.changed)
	return inside
}

// walk follows a path from a folder that is named without links, as the kernel does, and stops where it is told to, or among too many
// links. It is in the way of every start: package filepath's takes an allocation or two more for each name.
func (p *Programs) walk(at, path string, stop func(string) bool) (real string, stopped bool) {
	if at == "/" && stop(at) {
		return at, true
	}
	var buf [unix.PathMax]byte
	end := false // nothing is seen from here on
	for links := 0; path != ""; {
		var name string
		name, path, _ = strings.Cut(path, "/")
		switch name {
		case "", ".":
			continue
		case "..": // at has no links
			at = filepath.Dir(at)
			continue
		}
		next := strings.TrimSuffix(at, "/") + "/" + name
		if stop(next) {
			return next, true
		}
		below, plain := p.plain[next]
		n := 0
		if !end && !plain {
			var err error
			n, err = unix.Readlink(next, buf[:])
			below = err != nil && err != unix.EINVAL
			if n <= 0 && p.plain != nil {
				p.plain[next] = below
			}
		}
		if n <= 0 {
			at, end = next, end || below
			continue
		}
		if links++; links > 40 { // path_resolution(7)
			return next, true
		}
		to := string(buf[:n])
		if to[0] == '/' {
			at = "/"
		}
		path = to + "/" + path
	}
	return at, false
}

// changed says that a file lies in a folder that is written, unless it is root's and root's alone to write: then so is all above it up
// to that folder, as inside has come through it.
func (p *Programs) changed(path string) bool {
	if !slices.ContainsFunc(p.writable, func(dir string) bool { return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") }) {
		return false
	}
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil || st.Uid != 0 {
		return true
	}
	return st.Mode&unix.S_IFMT != unix.S_IFLNK && unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
}

// ErrWritable says why a program is not run.
var ErrWritable = errors.New("a sandbox may write it")

// Find is exec.LookPath in that PATH.
func (p *Programs) Find(name string) (string, error) {
	if strings.Contains(name, "/") {
		file, err := exec.LookPath(name)
		if err != nil {
			return file, err
		}
		abs, err := filepath.Abs(file)
		if err == nil && p.inside("/", abs) {
			err = ErrWritable
		}
		return file, err
	}
	for _, dir := range filepath.SplitList(p.path) {
		path := filepath.Join(dir, name)
		if !executable(path) {
			continue
		}
		from, rest := "/", path
		if p.trusts(dir) {
			from, rest = dir, name
		}
		if !p.inside(from, rest) {
			return path, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// executable is what LookPath finds out, which makes an error for each folder that has no such file.
func executable(path string) bool {
	var st unix.Stat_t
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) == nil && unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR
}

// Environ is this process's environment with that PATH, and without some variables.
func (p *Programs) Environ(without ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return name == "PATH" || slices.Contains(without, name)
	})
	if !p.set {
		return env
	}
	return append(env, "PATH="+p.path)
}

package programs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"cove/sandbox/spec"
)

// Programs are the caller's, without those that the sandbox can put in their place.
type Programs struct {
	path     string   // PATH, without such folders
	writable []string // what is written inside, or was another time
}

// New looks at what a sandbox may write.
func New(s *spec.Spec) *Programs {
	p := &Programs{}
	if s.Integrations != nil && s.Integrations.Project != "" {
		p.writable = append(p.writable, resolved(string(s.Integrations.Project)))
	}
	for _, m := range s.Mounts {
		if m.Kind == spec.MountView || m.Kind == spec.MountBind && !m.ReadOnly {
			p.writable = append(p.writable, resolved(string(m.Source)))
		}
	}
	var path []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) && !p.Inside(dir) {
			path = append(path, dir)
		}
	}
	p.path = strings.Join(path, string(filepath.ListSeparator))
	return p
}

// resolved is a path without links, as far as there is something: what is missing may be made later.
func resolved(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real
	}
	dir, name := filepath.Split(filepath.Clean(path))
	if name == "" {
		return dir
	}
	return filepath.Join(resolved(dir), name)
}

// Inside says whether a file can be changed by a sandbox, or put there: the project is one's whatever this one may do with it.
func (p *Programs) Inside(path string) bool {
	path = resolved(path)
	return slices.ContainsFunc(p.writable, func(dir string) bool { return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") })
}

var errInside = errors.New("a sandbox may write it")

// Find is exec.LookPath in that PATH.
func (p *Programs) Find(name string) (string, error) {
	if strings.Contains(name, "/") {
		file, err := exec.LookPath(name)
		if err == nil && (p.Inside(file) || p.Inside(filepath.Dir(file))) {
			err = errInside
		}
		return file, err
	}
	for _, dir := range filepath.SplitList(p.path) {
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil && !p.Inside(file) {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// Environ is this process's environment with that PATH, and without some variables.
func (p *Programs) Environ(without ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return name == "PATH" || slices.Contains(without, name)
	})
	return append(env, "PATH="+p.path)
}

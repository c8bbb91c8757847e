package outside

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"cove/sandbox/spec"
)

// programs are the caller's, without those that the sandbox can put in their place: PATH may name a folder of the project, as direnv and
// npm have it, and what lies there under the name of git or of something that xdg-open calls would run outside, at the sandbox's own wish.
type programs struct {
	path     string   // PATH, without such folders
	writable []string // what is written inside, or was another time
}

func newPrograms(s *spec.Spec) *programs {
	p := &programs{}
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
		if filepath.IsAbs(dir) && !p.inside(dir) {
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

// inside says whether a file can be changed by a sandbox, or put there: the project is one's whatever this one may do with it.
func (p *programs) inside(path string) bool {
	path = resolved(path)
	return slices.ContainsFunc(p.writable, func(dir string) bool { return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") })
}

var errInside = errors.New("a sandbox may write it")

// find is exec.LookPath in that PATH.
func (p *programs) find(name string) (string, error) {
	if strings.Contains(name, "/") {
		file, err := exec.LookPath(name)
		if err == nil && (p.inside(file) || p.inside(filepath.Dir(file))) {
			err = errInside
		}
		return file, err
	}
	for _, dir := range filepath.SplitList(p.path) {
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil && !p.inside(file) {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// environ is this process's environment with that PATH, and without some variables.
func (p *programs) environ(without ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return name == "PATH" || slices.Contains(without, name)
	})
	return append(env, "PATH="+p.path)
}

package programs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cove/sandbox/spec"
)

// TestPrograms: what the sandbox may write is not run outside, by whatever name it is reached.
func TestPrograms(t *testing.T) {
	dir := resolved(t.TempDir())
	program := func(name string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	program("project/bin/git")
	program("project/ask")
	program("view/git")
	program("projects/git")
	program("read/bin/git")
	program("own/ask")
	for link, to := range map[string]string{"link": "project", "own/xdg-open": dir + "/project/ask", "project/safe": dir + "/own/ask"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	var path []string
	for _, p := range []string{"project/bin", "project", "link/bin", "link/later/bin", "view", "read/bin", "project/../project/bin", "own", "projects", "nowhere"} {
		path = append(path, dir+"/"+p)
	}
	t.Setenv("PATH", strings.Join(append([]string{"", ".", "bin"}, path...), ":"))
	p := New(&spec.Spec{Integrations: &spec.Integrations{Project: spec.Path(dir + "/read")}, Mounts: []spec.Mount{
		{Kind: spec.MountBind, Source: spec.Path(dir + "/link")},
		{Kind: spec.MountBind, Source: spec.Path(dir + "/own"), ReadOnly: true},
		{Kind: spec.MountView, Source: spec.Path(dir + "/view")},
		{Kind: spec.MountTmpfs, Target: "/tmp"},
	}})
	if want := strings.Join([]string{dir + "/own", dir + "/projects", dir + "/nowhere"}, ":"); p.path != want {
		t.Errorf("PATH %q, want %q", p.path, want)
	}
	for name, want := range map[string]string{ // "" is that there is none
		"git": dir + "/projects/git", "ask": dir + "/own/ask", "xdg-open": "", "nothing": "",
		dir + "/own/ask": dir + "/own/ask", dir + "/project/ask": "", dir + "/link/ask": "", dir + "/own/xdg-open": "", dir + "/project/safe": "",
	} {
		if got, err := p.Find(name); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	t.Setenv("GIT_DIR", "/x")
	env := p.Environ("GIT_DIR")
	if !slices.Contains(env, "PATH="+p.path) || slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "GIT_DIR=") || e == "PATH="+os.Getenv("PATH") }) {
		t.Errorf("environment %q", env)
	}
}

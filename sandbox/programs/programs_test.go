package programs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// planted makes a folder with programs in what is written and in what is not.
func planted(t *testing.T) string {
	dir := New(nil).resolved(t.TempDir())
	for _, name := range []string{"project/bin/git", "project/ask", "view/git", "projects/git", "read/bin/git", "own/ask"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"link": "project", "own/xdg-open": dir + "/project/ask", "project/safe": dir + "/own/ask",
		"project/out": dir + "/own", "around": "project/out", "loop": "loop", "fine": "projects",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPrograms: what the sandbox may write is not run outside, by whatever name it is reached.
func TestPrograms(t *testing.T) {
	dir := planted(t)
	path := []string{"", ".", "bin", "./project/bin", ".."}
	for _, p := range []string{"project/bin", "project", "project/", "link/bin", "link/later/bin", "view", "read/bin", "project/../project/bin",
		"./own//../project/bin/.", "/project//bin/", "project/out", "around", "loop", "own", "projects", "fine/", "own", "nowhere", "link/../projects"} {
		path = append(path, dir+"/"+p)
	}
	t.Setenv("PATH", strings.Join(path, ":")+":/usr/bin::")
	p := New([]string{dir + "/read", dir + "/link", dir + "/view/"})
	// The last one leads through the project: a folder there, on the way to "..", may be a link the next time.
	if want := strings.Join([]string{dir + "/own", dir + "/projects", dir + "/fine/", dir + "/own", dir + "/nowhere", "/usr/bin"}, ":"); p.path != want {
		t.Errorf("PATH %q, want %q", p.path, want)
	}
	for name, want := range map[string]string{ // "" is that there is none
		"git": dir + "/projects/git", "ask": dir + "/own/ask", "xdg-open": "", "nothing": "",
		dir + "/own/ask": dir + "/own/ask", dir + "/project/ask": "", dir + "/link/ask": "", dir + "/own/xdg-open": "", dir + "/project/safe": "",
		dir + "/around/ask": "",
	} {
		if got, err := p.Find(name); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	t.Chdir(dir + "/project")
	if _, err := p.Find("./ask"); !errors.Is(err, ErrWritable) {
		t.Errorf("a relative name: %v", err)
	}
	t.Setenv("GIT_DIR", "/x")
	env := p.Environ("GIT_DIR")
	if !slices.Contains(env, "PATH="+p.path) || slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "GIT_DIR=") || e == "PATH="+os.Getenv("PATH") }) {
		t.Errorf("environment %q", env)
	}
}

// TestUsualFolders: those of the system stay where nobody inside can write them, and are looked at only where it may be otherwise.
func TestUsualFolders(t *testing.T) {
	dir := planted(t)
	const system = "/usr/local/bin:/usr/bin"
	rooted := system
	if os.Getuid() == 0 {
		rooted = nowhere // root writes them
	}
	for _, test := range []struct{ path, writable, want string }{
		{system, dir, system},
		{system, "/", rooted},
		{system, "/usr", rooted},
		{dir + "/own:" + system, "/", rooted},
		{system + ":" + dir + "/project/bin", dir + "/project", system},
		{dir + "/project/bin", dir + "/project", nowhere},
		{"", dir, nowhere},
		{":.:bin", dir, nowhere},
		{":" + system + "::", dir, system},
	} {
		t.Setenv("PATH", test.path)
		if got := New([]string{test.writable}).path; got != test.want {
			t.Errorf("PATH %q, written %s: %q, want %q", test.path, test.writable, got, test.want)
		}
	}
}

// TestGuard: PATH of this process loses what it is told of, and the caller's is still known.
func TestGuard(t *testing.T) {
	dir := planted(t)
	caller := dir + "/project/bin:.:" + dir + "/view:/usr/bin"
	t.Setenv("PATH", caller)
	t.Cleanup(func() { process.own, process.given, process.caller = nil, nil, "" })
	guarded := func(want string) {
		t.Helper()
		if got := os.Getenv("PATH"); got != want {
			t.Errorf("PATH %q, want %q", got, want)
		}
		if got, set := LookupEnv("PATH"); got != caller || !set {
			t.Errorf("the caller's PATH: %q, %v", got, set)
		}
	}
	Guard()
	guarded(dir + "/project/bin:" + dir + "/view:/usr/bin")
	Guard(dir+"/project", "")
	guarded(dir + "/view:/usr/bin")
	Guard(dir + "/view")
	guarded("/usr/bin")
	Guard(dir + "/project") // known
	guarded("/usr/bin")
	if file, err := Find("git"); err == nil && filepath.Dir(file) != "/usr/bin" {
		t.Errorf("git is %s", file)
	}
	Restore()
	guarded(caller)
	Guard()
	guarded("/usr/bin")
	caller = dir + "/own:" + dir + "/view"
	t.Setenv("PATH", caller)
	Guard()
	guarded(dir + "/own")
	if file, err := Find("xdg-open"); err == nil {
		t.Errorf("through a link: %s", file)
	}
	os.Unsetenv("PATH")
	Guard(dir + "/own")
	if path, set := os.LookupEnv("PATH"); set {
		t.Errorf("PATH was unset, and is %q", path)
	}
	if path, set := LookupEnv("PATH"); set {
		t.Errorf("the caller's PATH was unset, and is %q", path)
	}
	if slices.ContainsFunc(New(nil).Environ(), func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		t.Error("the environment has a PATH")
	}
}

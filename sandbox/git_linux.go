package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"cove/config"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// What of a git repository makes git outside run something is more than its hooks and its config: the same of the
// repositories of submodules below modules/ and of worktrees below worktrees/, what config includes, the folder that
// core.hooksPath names, and the .git files that lead to any of them.

// gitPaths are such files of the repository at the folder name below root, relative to root; at are those of submodules'
// working trees, absolute. What hooks and config themselves are called is for the caller to say.
type gitPaths struct {
	root  int
	paths []string
	at    []string
	repos int
	looks int // entries that were looked at
}

// maxModules bounds how many repositories are looked at, each of which is several mounts.
const maxModules = 200

// maxLooks bounds how many files and folders are looked at on the way: what worked there before may have made any number.
const maxLooks = 10000

// errManyModules says that there are more.
var errManyModules = fmt.Errorf("more than %d repositories of submodules and worktrees, or too much beside them", maxModules)

// nested adds what is below a repository's modules and worktrees.
func (g *gitPaths) nested(repo string) error {
	for _, name := range g.folders(path.Join(repo, "worktrees")) {
		at := path.Join(repo, "worktrees", name)
		if g.repos++; g.repos > maxModules {
			return errManyModules
		}
		g.add(at, "commondir", "gitdir", "config.worktree")
		if err := g.modules(path.Join(at, "modules"), 0); err != nil {
			return err
		}
	}
	if err := g.modules(path.Join(repo, "modules"), 0); err != nil {
		return err
	}
	if g.looks > maxLooks {
		return errManyModules
	}
	return nil
}

// modules walks to the repositories below: a submodule's name may hold slashes.
func (g *gitPaths) modules(dir string, depth int) error {
	if depth > 16 {
		return errManyModules
	}
	for _, name := range g.folders(dir) {
		if g.looks > maxLooks {
			return errManyModules
		}
		at := path.Join(dir, name)
		if !g.there(path.Join(at, "HEAD")) {
			if err := g.modules(at, depth+1); err != nil {
				return err
			}
			continue
		}
		if g.repos++; g.repos > maxModules {
			return errManyModules
		}
		g.paths = append(g.paths, path.Join(at, "hooks"), path.Join(at, "config"))
		g.add(at, "config.worktree")
		for _, s := range g.settings(path.Join(at, "config")) {
			if s.Key == "core.worktree" && s.Value != "" && !path.IsAbs(s.Value) {
				g.at = append(g.at, path.Join(at, s.Value))
			} else if s.Key == "core.worktree" {
				g.at = append(g.at, s.Value)
			}
		}
		if err := g.nested(at); err != nil {
			return err
		}
	}
	return nil
}

// add takes those of the names that are there.
func (g *gitPaths) add(dir string, names ...string) {
	for _, name := range names {
		if at := path.Join(dir, name); g.there(at) {
			g.paths = append(g.paths, at)
		}
	}
}

func (g *gitPaths) there(name string) bool { return exists(g.root, name) }

// folders are the names of the folders in one, none of them reached through a link.
func (g *gitPaths) folders(dir string) []string {
	f, err := openPlainFile(g.root, dir, unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(maxLooks + 1)
	g.looks += len(entries)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}

// settings reads a config of the repository.
func (g *gitPaths) settings(name string) []config.GitSetting {
	f, err := openPlainFile(g.root, name, unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil
	}
	return config.ParseGitConfig(data)
}

func openPlainFile(root int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat2(root, name, &unix.OpenHow{
		Flags:   uint64(unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// protectRepository adds to what is protected of a repository outside what is nested in it. It returns where the
// submodules' working trees are.
func (b *box) protectRepository(root int) []string {
	p := b.spec.Repository
	g := b.nested(p, root, "")
	for _, name := range g.paths {
		p.Paths = append(p.Paths, spec.Path(name))
	}
	return g.trees(string(p.Source))
}

// protectGit adds to what is protected of the workspace what its repository makes act: what is nested in it, and what
// its config names. submodules are the working trees of those that another repository has. files are to be files where
// they are missing.
func (b *box) protectGit(root int, submodules []string) (files map[string]bool) {
	p := b.spec.Protect
	hooks, conf := slices.Contains(p.Paths, ".git/hooks"), slices.Contains(p.Paths, ".git/config")
	if !hooks && !conf {
		return nil // it was agreed to that they are written
	}
	add := func(name string) { p.Paths = append(p.Paths, spec.Path(name)) }
	g := b.nested(p, root, ".git")
	if conf {
		g.add(".git", "config.worktree")
	}
	for _, name := range g.paths {
		add(name)
	}
	for _, tree := range append(g.trees(string(p.Source)), submodules...) {
		if name := beneath(string(p.Source), tree); name != "" && isRegular(root, name+"/.git") {
			add(name + "/.git")
		}
	}
	files = map[string]bool{}
	for _, s := range gitSettings(string(p.Git)) {
		switch {
		case s.Key == "core.hookspath" && hooks:
			// Hooks run at the top of the working tree: git-config(1).
			if name := beneath(string(p.Source), configPath(string(p.Source), s.Value)); name != "" {
				add(name)
			}
		case conf && (s.Key == "include.path" || strings.HasPrefix(s.Key, "includeif.") && strings.HasSuffix(s.Key, ".path")):
			if name := beneath(string(p.Source), configPath(string(p.Git), s.Value)); name != "" {
				add(name)
				files[name] = true
			}
		}
	}
	return files
}

// nested finds what is below the repository at the folder repo of p's.
func (b *box) nested(p *spec.Protect, root int, repo string) *gitPaths {
	g := &gitPaths{root: root}
	if err := g.nested(repo); err != nil {
		b.warn("%q: %v: they are read-only as a whole", path.Join(string(p.Source), repo), err)
		g.paths = nil
		g.add(repo, "modules", "worktrees")
	}
	return g
}

// trees are the working trees that were found, absolute.
func (g *gitPaths) trees(source string) []string {
	var out []string
	for _, name := range g.at {
		out = append(out, configPath(source, name))
	}
	return out
}

// configPath is a path of a git config, which may be relative to a folder; "" for what is found in the home or by git
// itself.
func configPath(base, value string) string {
	switch {
	case value == "" || value[0] == '~' || strings.HasPrefix(value, "%("):
		return ""
	case path.IsAbs(value):
		return path.Clean(value)
	}
	return path.Join(base, value)
}

// beneath is what a path is called below dir; "" when it lies elsewhere, or is dir itself.
func beneath(dir, name string) string {
	rest, ok := below(name, dir)
	if !ok {
		return ""
	}
	return strings.TrimPrefix(rest, "/")
}

func isRegular(root int, name string) bool {
	fd, err := openBeneath(root, name)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// gitSettings are those of a repository's own config, wherever it lies.
func gitSettings(repo string) []config.GitSetting {
	if info, err := os.Lstat(repo); err != nil || !info.IsDir() {
		return nil
	}
	fd, err := unix.Open(repo, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	g := &gitPaths{root: fd}
	return append(g.settings("config"), g.settings("config.worktree")...)
}

// makeLogs makes the folder that git makes with the first commit of a worktree: inside, what is beside it is read-only.
func (b *box) makeLogs() error {
	for _, m := range b.spec.Mounts {
		if m.ReadOnly || m.Below == "" || string(m.Source) != path.Join(string(m.Beneath), "logs") {
			continue
		}
		if err := os.Mkdir(string(m.Source), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make the repository's logs: %w", err)
		}
	}
	return nil
}

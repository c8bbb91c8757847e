package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Repository is the git repository of a project whose .git is a file: a worktree (git-worktree(1)) or a submodule
// (gitsubmodules(7)). It lies outside of the project.
type Repository struct {
	Git    string // what .git names, absolute and without links: of a worktree, its own folder in Common
	Common string // with objects, refs, config and hooks; of a submodule the same as Git

	GitAt, CommonAt string // where git looks for them inside

	gitText, commonText string // how .git and commondir name them, each as it was read once
}

// Worktree says that other worktrees have the same Common.
func (r *Repository) Worktree() bool { return r.Git != r.Common }

// gitFolders are what of a common folder a worktree writes to. All else in it is other worktrees' or acts outside.
var gitFolders = []string{"objects", "refs", "logs"}

// Written are the folders of a worktree's Common that are to be written, where the repository can be.
func (r *Repository) Written() []string { return gitFolders }

// RepositoryMode is how the repository outside is seen inside: rw, ro or none. Without a profile it is not, unless
// somebody says so: it reaches past the project's folder, and nobody would be asked.
func (p *Profile) RepositoryMode() string {
	ws := p.Workspace
	switch {
	case p.Repository == nil || p.Dir == "" || ws.Mode == "none":
		return "none"
	case ws.Mode == "review" && ws.Repository == "rw":
		return "ro" // there is no view of it: what is written would be written outside
	case ws.Repository != "auto":
		return ws.Repository
	case p.File == "":
		return "none"
	case ws.Mode == "rw":
		return "rw"
	}
	return "ro"
}

// findRepository follows the project's .git where it is a file. A cloned project says whatever its author likes there, and
// so it is believed only where the repository itself names this project, and belongs to its user. why says what speaks
// against it; it is "" where there is none outside.
func (p *Profile) findRepository(uid int) (r *Repository, why string) {
	file := filepath.Join(p.Dir, ".git")
	if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() {
		return nil, ""
	}
	named, text, err := gitLine(file, "gitdir: ", p.Dir, uid)
	if err != nil || inside(p.Dir, named) {
		return nil, ""
	}
	no := func(format string, args ...any) (*Repository, string) {
		return nil, fmt.Sprintf("the git repository %s, which .git names, is not inside: ", showName(named)) + fmt.Sprintf(format, args...)
	}
	if err := plainFolder(named, uid); err != nil {
		return no("%v", bare(err))
	}
	r = &Repository{Git: named, Common: named, gitText: text}
	switch common, text, err := gitLine(filepath.Join(named, "commondir"), "", named, uid); {
	case err == nil:
		r.Common, r.commonText = common, text
	case !errors.Is(err, fs.ErrNotExist):
		return no("commondir: %v", bare(err))
	}
	if err := isRepository(r.Common, uid); err != nil {
		return no("%v", bare(err))
	}
	if p.home != "" && inside(r.Common, p.home) {
		return no("it holds your home")
	}
	if r.Worktree() {
		err = r.namesWorktree(p.Dir, uid)
	} else {
		err = r.namesSubmodule(p.Dir, uid)
	}
	if err != nil {
		return no("%v", err)
	}
	return r, ""
}

// namesWorktree checks the way back, as git-worktree(1) has it: COMMON/worktrees/NAME/gitdir names the .git file.
func (r *Repository) namesWorktree(project string, uid int) error {
	if filepath.Dir(r.Git) != filepath.Join(r.Common, "worktrees") {
		return errors.New("it is not among the worktrees of its repository")
	}
	back, _, err := gitLine(filepath.Join(r.Git, "gitdir"), "", r.Git, uid)
	if err == nil && !samePlace(back, filepath.Join(project, ".git")) {
		err = errors.New("it is of another worktree, not of this folder")
	}
	return err
}

// namesSubmodule checks the way back of a submodule: its core.worktree.
func (r *Repository) namesSubmodule(project string, uid int) error {
	back := ""
	for _, name := range []string{"config", "config.worktree"} {
		data, err := readOwned(filepath.Join(r.Git, name), false, uid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", name, bare(err))
		}
		for _, s := range ParseGitConfig(data) {
			if s.Key == "core.worktree" {
				back = s.Value
			}
		}
	}
	if back != "" && !filepath.IsAbs(back) {
		back = filepath.Join(r.Git, back)
	}
	if back == "" || !samePlace(filepath.Join(back, ".git"), filepath.Join(project, ".git")) {
		return errors.New("it does not name this folder as its own")
	}
	return nil
}

// samePlace compares two files by the real paths of their folders.
func samePlace(a, b string) bool {
	dir, err := filepath.EvalSymlinks(filepath.Dir(a))
	return err == nil && filepath.Join(dir, filepath.Base(a)) == b
}

// isRepository looks for what git looks for (is_git_directory of its setup.c), none of it a link.
func isRepository(dir string, uid int) error {
	if err := plainFolder(dir, uid); err != nil {
		return err
	}
	for _, name := range []string{"objects", "refs"} {
		if err := plainFolder(filepath.Join(dir, name), uid); err != nil {
			return fmt.Errorf("%s: %w", name, bare(err))
		}
	}
	for _, name := range []string{"HEAD", "config"} {
		if _, err := readOwned(filepath.Join(dir, name), false, uid); err != nil {
			return fmt.Errorf("%s: %w", name, bare(err))
		}
	}
	return nil
}

// plainFolder is one that belongs to us, and is what it is called: git finds it by that name inside too.
func plainFolder(dir string, uid int) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	info, err := os.Lstat(real)
	switch {
	case err != nil:
		return err
	case real != dir:
		return errors.New("its path leads through a link")
	case !info.IsDir():
		return errors.New("it is no folder")
	}
	return owned(info, uid)
}

// gitLine reads a file of one line that names a path, relative to base where it is not absolute. text is the path as it stands
// there.
func gitLine(file, prefix, base string, uid int) (path, text string, err error) {
	data, err := readOwned(file, false, uid)
	if err != nil {
		return "", "", err
	}
	text, ok := strings.CutPrefix(strings.TrimRight(string(data), "\r\n"), prefix)
	if !ok || text == "" || strings.ContainsAny(text, "\x00\n") {
		return "", "", errors.New("it names no path")
	}
	if path = text; !filepath.IsAbs(path) {
		path = filepath.Join(base, path)
	}
	return filepath.Clean(path), text, nil
}

// placeRepository says where git will look for the repository inside: where the project lies elsewhere, a relative path
// leads elsewhere too.
func (p *Profile) placeRepository() error {
	r := p.Repository
	if r.GitAt = r.Git; !filepath.IsAbs(r.gitText) {
		r.GitAt = filepath.Join(p.workspaceAt(), r.gitText)
	}
	r.CommonAt = r.Common
	if r.Worktree() {
		if !filepath.IsAbs(r.commonText) {
			r.CommonAt = filepath.Join(r.GitAt, r.commonText)
		}
		if !inside(r.CommonAt, r.GitAt) {
			return fmt.Errorf("inside, with workspace.at, the worktree's folder would be %q and its repository %q", r.GitAt, r.CommonAt)
		}
	} else {
		r.CommonAt = r.GitAt
	}
	return checkTarget(r.CommonAt)
}

// repository looks for one outside, once it is known whether one is wanted.
func (l *loader) repository() {
	p := l.p
	if p.Dir == "" || p.Workspace.Mode == "none" || p.Workspace.Repository == "none" {
		return
	}
	r, why := p.findRepository(l.finder.uid)
	if r != nil {
		p.Repository = r
		if err := p.placeRepository(); err != nil {
			p.Repository = nil
			why = fmt.Sprintf("the git repository %s is not inside: %v", showName(r.Common), err)
		}
	}
	if why != "" && (p.File != "" || p.Workspace.Repository != "auto") {
		l.finder.warn("%s (workspace.repository = \"none\" says that it need not be)", why)
	}
}

// repositoryGrant asks for the repository outside. By itself it is the project's wish where it has a profile.
func (p *Profile) repositoryGrant(from func(Origin) bool) (Grant, bool) {
	mode, r := p.RepositoryMode(), p.Repository
	o := p.OriginOf("workspace.repository")
	if o.Kind == FromDefault && p.File != "" {
		o = Origin{Kind: FromProfile, File: p.File}
	}
	if mode == "none" || !from(o) {
		return Grant{}, false
	}
	// Whoever makes less of it by hand, by --workspace ro or cove try, is not asked anew for a part of what was agreed to.
	if p.OriginOf("workspace.mode").Kind == FromFlag && (p.Workspace.Repository == "auto" || p.Workspace.Repository == "rw") {
		mode = "rw"
	}
	g := Grant{Key: "workspace.repository", Kind: GrantGit, Origin: o, Text: "read the git repository " + quotePlain(r.Common)}
	switch {
	case r.Worktree() && mode == "rw":
		g.Text += ", of which this folder is a worktree, and write its commits and branches"
	case r.Worktree():
		g.Text += ", of which this folder is a worktree"
	case mode == "rw":
		g.Text = "read and write the git repository " + quotePlain(r.Common) + ", which is this folder's as a submodule, but for its hooks and config"
	default:
		g.Text += ", which is this folder's as a submodule"
	}
	return g, true
}

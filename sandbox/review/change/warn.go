package change

import (
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// What a change may do later, outside, when nobody thinks of it any more. A warning is no verdict: it says where to look.

// actors are files by whose names programs find what they are to run, or how. A name in capitals here is found in any case.
var actors = sync.OnceValue(func() map[string]string {
	return map[string]string{
		"makefile": "make runs it", "gnumakefile": "make runs it", "cmakelists.txt": "cmake runs it", "justfile": "just runs it",
		"taskfile.yml": "task runs it", "taskfile.yaml": "task runs it", "rakefile": "rake runs it", "gemfile": "bundler runs it",
		"sconstruct": "scons runs it", "meson.build": "meson runs it", "build.xml": "ant runs it", "pom.xml": "maven acts on it",
		"build.gradle": "gradle runs it", "build.gradle.kts": "gradle runs it", "settings.gradle": "gradle runs it",
		"gradlew": "it is run to build", "mvnw": "it is run to build", "configure": "it is run to build", "mix.exs": "mix runs it",
		"package.json": "npm runs its scripts", "package-lock.json": "npm installs what it names", "yarn.lock": "yarn installs what it names",
		"pnpm-lock.yaml": "pnpm installs what it names", ".npmrc": "npm acts on it", ".yarnrc": "yarn acts on it", ".yarnrc.yml": "yarn acts on it",
		"setup.py": "pip runs it", "setup.cfg": "pip acts on it", "pyproject.toml": "pip and other tools act on it", "conftest.py": "pytest runs it",
		"tox.ini": "tox runs its commands", "noxfile.py": "nox runs it", "sitecustomize.py": "python runs it", "usercustomize.py": "python runs it",
		"requirements.txt": "pip installs what it names", "pipfile": "pipenv acts on it",
		"build.rs": "cargo runs it", "cargo.toml": "cargo acts on it", "rust-toolchain.toml": "cargo acts on it", "go.mod": "go acts on it", "go.work": "go acts on it",
		".envrc": "direnv runs it", ".env": "tools take their environment from it", ".tool-versions": "asdf and mise act on it", "mise.toml": "mise acts on it",
		".pre-commit-config.yaml": "pre-commit runs what it names", "lefthook.yml": "lefthook runs what it names",
		".gitlab-ci.yml": "CI runs it", ".travis.yml": "CI runs it", "jenkinsfile": "CI runs it", "azure-pipelines.yml": "CI runs it", ".drone.yml": "CI runs it",
		"dockerfile": "it is run to build an image", "containerfile": "it is run to build an image", "docker-compose.yml": "compose runs it",
		"compose.yml": "compose runs it", "compose.yaml": "compose runs it", "vagrantfile": "vagrant runs it", "procfile": "its commands are run",
		"cove.toml": "cove acts on it", "cove.lock": "cove acts on it",
		".gitattributes": "git runs filters by it", ".gitmodules": "git fetches what it names", ".gitconfig": "git acts on it",
		".bashrc": "the shell runs it", ".bash_profile": "the shell runs it", ".bash_login": "the shell runs it", ".bash_logout": "the shell runs it", ".profile": "the shell runs it",
		".zshrc": "the shell runs it", ".zshenv": "the shell runs it", ".zprofile": "the shell runs it", ".zlogin": "the shell runs it", ".inputrc": "the shell acts on it",
		".vimrc": "vim runs it", ".exrc": "vi runs it", ".nvim.lua": "nvim runs it", ".nvimrc": "nvim runs it", ".emacs": "emacs runs it", ".dir-locals.el": "emacs acts on it",
		".editorconfig": "editors act on it", ".gdbinit": "gdb runs it", ".lldbinit": "lldb runs it", ".tmux.conf": "tmux runs it", ".screenrc": "screen acts on it",
		".netrc": "it holds credentials", ".pypirc": "it holds credentials", ".mailcap": "programs are started by it", ".xprofile": "the session runs it", ".xinitrc": "the session runs it",
		"authorized_keys": "ssh lets in whom it names",
		".eslintrc.js":    "eslint runs it", "webpack.config.js": "webpack runs it", "vite.config.js": "vite runs it", "vite.config.ts": "vite runs it",
		"jest.config.js": "jest runs it", "babel.config.js": "babel runs it", "gulpfile.js": "gulp runs it", "gruntfile.js": "grunt runs it", ".mocharc.js": "mocha runs it",
	}
})

// folders are those in which programs look for such files.
var folders = sync.OnceValue(func() map[string]string {
	return map[string]string{
		".vscode": "VS Code acts on it", ".idea": "the IDE acts on it", ".fleet": "the IDE acts on it", ".zed": "the editor acts on it",
		".devcontainer": "editors start containers by it", ".github": "CI and GitHub act on it", ".circleci": "CI runs it", ".gitea": "CI runs it", ".forgejo": "CI runs it",
		".woodpecker": "CI runs it", ".buildkite": "CI runs it", ".husky": "git runs it as a hook", ".githooks": "git may run it as a hook", ".cargo": "cargo acts on it",
		".mvn": "maven acts on it", ".bundle": "bundler acts on it", ".yarn": "yarn runs it", ".direnv": "direnv acts on it", ".ssh": "ssh acts on it", ".gnupg": "gpg acts on it",
		".config": "programs act on it", ".claude": "an assistant acts on it", ".cursor": "an assistant acts on it", ".mise": "mise acts on it",
	}
})

// warnings says what to look at in a change; nothing where it takes something away that could act.
func warnings(c *Change) []string {
	if c.New == nil {
		return deletedWarnings(c)
	}
	var out []string
	parts := strings.Split(strings.ToLower(c.name()), "/")
	base := parts[len(parts)-1]
	if i := slices.Index(parts, ".git"); i >= 0 {
		out = append(out, gitWarning(parts[i+1:]))
	} else if isBareGit(parts) {
		out = append(out, "git may take the folder that it is in for a repository")
	}
	if !c.New.IsDir() {
		if why := actors()[base]; why != "" {
			out = append(out, why)
		} else if strings.HasSuffix(base, ".mk") || strings.HasSuffix(base, ".pth") || strings.HasSuffix(base, ".desktop") {
			out = append(out, "programs run what it says")
		}
	}
	for _, p := range parts[:len(parts)-1] {
		if why := folders()[p]; why != "" && !slices.Contains(parts, ".git") {
			out = append(out, why)
			break
		}
	}
	if c.New.IsFile() {
		if c.New.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
			out = append(out, "setuid or setgid: it is taken without that, unless forced")
		}
		if c.New.Mode&0o111 != 0 && (c.Old == nil || c.Old.Mode&0o111 == 0 || c.Kind == Changed || c.Kind == Type) {
			out = append(out, "executable")
		}
	}
	if c.New.Mode&unix.S_IWOTH != 0 && !c.New.IsLink() && (c.Old == nil || c.Old.Mode&unix.S_IWOTH == 0) && c.New.Mode&unix.S_ISVTX == 0 {
		out = append(out, "everybody may write it")
	}
	if c.New.IsLink() && leadsOut(c.name(), string(c.New.Target)) {
		out = append(out, "it leads out of the project")
	}
	if k := c.New.kind(); k == unix.S_IFIFO || k == unix.S_IFSOCK || k == unix.S_IFCHR || k == unix.S_IFBLK {
		out = append(out, "a "+c.New.What()+": programs that read it may wait for ever")
	}
	if len(out) == 0 && strings.HasPrefix(base, ".") && !c.New.IsDir() {
		out = append(out, "a dot file")
	}
	return out
}

// deletedWarnings are for what protects as long as it is there.
func deletedWarnings(c *Change) []string {
	parts := strings.Split(c.name(), "/")
	if slices.Contains(parts, ".git") {
		return []string{"git's own"}
	}
	if base := parts[len(parts)-1]; base == ".gitignore" || base == "cove.toml" || base == "cove.lock" {
		return []string{"it kept something in bounds"}
	}
	return nil
}

// gitWarning is for what is in a folder .git.
func gitWarning(in []string) string {
	switch {
	case len(in) == 0:
		return "git takes the folder that it is in for a repository, and runs what that says"
	case slices.Contains(in, "hooks"):
		return "git runs it"
	case in[len(in)-1] == "config" || in[len(in)-1] == "config.worktree":
		return "git runs what it says"
	case in[len(in)-1] == "commondir" || in[len(in)-1] == "alternates" || in[len(in)-1] == "attributes":
		return "git looks elsewhere by it"
	}
	return "git's own"
}

// isBareGit tells the files by which git takes any folder for a repository (safe.bareRepository of git-config(1)).
func isBareGit(parts []string) bool {
	base := parts[len(parts)-1]
	return base == "head" || base == "commondir" || base == "config" && len(parts) > 1 && strings.HasSuffix(parts[len(parts)-2], ".git") ||
		len(parts) > 1 && parts[len(parts)-2] == "hooks" && gitHooks[base]
}

var gitHooks = map[string]bool{"pre-commit": true, "post-checkout": true, "post-merge": true, "pre-push": true, "commit-msg": true,
	"prepare-commit-msg": true, "post-commit": true, "pre-rebase": true, "post-rewrite": true, "fsmonitor-watchman": true, "reference-transaction": true}

// leadsOut tells a link that leads out of the project by its words. What it leads through may be links too.
func leadsOut(name, target string) bool {
	if path.IsAbs(target) {
		return true
	}
	at := path.Join("/", path.Dir(name))
	depth := 0
	if at != "/" {
		depth = strings.Count(at, "/")
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

package change

import (
	"bytes"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// git takes what is shown, and makes of the project what the view is.
func TestPatchForGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		skip(t, err.Error())
	}
	for seed := int64(1); seed <= 6; seed++ {
		v := newView(t, spec.RootOverlay, "")
		v.inside(insideRequest{Bare: true, At: v.project, Seed: seed})
		v = v.again(spec.RootOverlay)
		v.inside(insideRequest{Seed: seed + 5000})
		s := v.open()
		var patch bytes.Buffer
		binary := map[string]bool{}
		for _, c := range s.Changes {
			f, err := s.Read(c)
			if err != nil {
				t.Fatal(err)
			}
			if f.Binary {
				binary[c.name()] = true
				continue
			}
			if c.New.IsLink() || c.Old.IsLink() || special(c.New) || special(c.Old) {
				continue // git's own index would have to know of them
			}
			if err := (Look{}).Write(&patch, f); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		if !strings.Contains(patch.String(), "diff --git") {
			continue
		}
		cmd := exec.Command("git", "apply", "--numstat", "-")
		cmd.Dir, cmd.Stdin = v.project, strings.NewReader(patch.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("seed %d: git does not take\n%s\n%s", seed, patch.String(), out)
		}
	}
}

func TestGitName(t *testing.T) {
	for name, want := range map[string]string{
		"a b": "a b", "\"": `"\""`, "a\nb\tc": `"a\nb\tc"`, "\x1b[2J": `"\033[2J"`, "\xff": `"\377"`, "ä": `"\303\244"`, `\`: `"\\"`,
	} {
		if got := GitName(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestHarmless(t *testing.T) {
	for text, want := range map[string]string{
		"plain\tä": "plain\tä", "\x1b[2J": `\x1b[2J`, "a\u202eb": `a\u202eb`, "\xff": `\xff`, "a\r": "a^M", "a\rb": `a\rb`,
		"\u009b2J": `\u009b2J`, "a\u200bb": `a\u200bb`, "\x00": `\x00`, "\b": `\b`,
	} {
		if got := Harmless(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func meta(mode uint32) *Meta { return &Meta{Mode: mode} }

func TestWarnings(t *testing.T) {
	const file, dir, link = unix.S_IFREG | 0o644, unix.S_IFDIR | 0o755, unix.S_IFLNK | 0o777
	for _, c := range []struct {
		path string
		mode uint32
		to   string
		want string // a part of it; "" is none
	}{
		{"src/main.go", file, "", ""},
		{"Makefile", file, "", "make runs it"},
		{"sub/GNUmakefile", file, "", "make runs it"},
		{"rules.mk", file, "", "programs run"},
		{"package.json", file, "", "npm"},
		{"sub/.envrc", file, "", "direnv"},
		{".vscode/tasks.json", file, "", "VS Code"},
		{".VSCode/tasks.json", file, "", "VS Code"},
		{".github/workflows/ci.yml", file, "", "CI"},
		{".gitlab-ci.yml", file, "", "CI"},
		{".git/hooks/pre-commit", file, "", "git runs it"},
		{".git/config", file, "", "git runs what it says"},
		{"sub/.git", file, "", "repository"},
		{"sub/.git/modules/x/hooks/post-checkout", file, "", "git runs it"},
		{".GIT/config", file, "", "git runs what it says"},
		{"innocent/HEAD", file, "", "repository"},
		{"innocent/hooks/post-checkout", file, "", "repository"},
		{"tool", file | 0o111, "", "executable"},
		{"tool", file | unix.S_ISUID, "", "setuid"},
		{"open", file | 0o002, "", "everybody"},
		{".hidden", file, "", "dot file"},
		{"cove.toml", file, "", "cove acts"},
		{"setup.py", file, "", "pip"},
		{"crate/build.rs", file, "", "cargo"},
		{".npmrc", file, "", "npm"},
		{".bashrc", file, "", "shell"},
		{"a/l", link, "b", ""},
		{"a/l", link, "../b", ""},
		{"a/l", link, "../../b", "leads out"},
		{"l", link, "..", "leads out"},
		{"l", link, "/etc/passwd", "leads out"},
		{"l", link, "x/../../y", "leads out"},
		{"p", unix.S_IFIFO | 0o644, "", "fifo"},
		{"docs", dir, "", ""},
		{".hiddenfolder", dir, "", ""},
	} {
		m := meta(c.mode)
		m.Target = spec.Path(c.to)
		got := strings.Join(warnings(&Change{Path: spec.Path(c.path), Kind: Added, New: m}), "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s (%o): %q, want %q", c.path, c.mode, got, c.want)
		}
	}
	if got := warnings(&Change{Path: "bin/x", Kind: Mode, Old: meta(file), New: meta(file | 0o111)}); !slices.Contains(got, "executable") {
		t.Errorf("a file that has become a program: %q", got)
	}
}

func TestIgnored(t *testing.T) {
	ig := &ignored{}
	ig.add("", "# comment\n\nbuild/\n*.o\n!keep.o\n/only\ndocs/*.txt\n**/deep/x\nlogs/**\n")
	ig.add("sub", "local\n")
	for name, want := range map[string]string{
		"build/a/b": "build/", "build": "", "x/build/a": "x/build/", "a.o": "a.o", "x/y.o": "x/y.o", "keep.o": "", "only": "only", "x/only": "",
		"docs/a.txt": "docs/a.txt", "docs/x/a.txt": "", "a/b/deep/x/y": "a/b/deep/x/", "logs/a": "logs/a", "logs": "",
		"sub/local": "sub/local", "local": "", "sub/x/local": "sub/x/local", "src/main.go": "",
	} {
		if got := ig.match(name, false); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := ig.match("build", true); got != "build/" {
		t.Errorf("the folder itself: %q", got)
	}
}

// A file further down counts more, in whatever order they are read.
func TestIgnoredFurtherDown(t *testing.T) {
	v := newView(t, spec.RootOverlay, `mkdir -p sub/deep; echo '*.log' >.gitignore; echo '!keep.log' >sub/.gitignore; echo keep.log >sub/deep/.gitignore`)
	v.write("for d in sub sub/deep; do echo x >$d/keep.log; echo x >$d/a.log; done")
	set := v.open()
	defer set.Close()
	var got []string
	for _, c := range set.Changes {
		got = append(got, fmt.Sprintf("%s %t", c.Path, c.Ignored != ""))
	}
	if want := "sub/a.log true, sub/deep/a.log true, sub/deep/keep.log true, sub/keep.log false"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A path is held against the .gitignore of the folders above it, and not of all there are.
func TestIgnoredLinear(t *testing.T) {
	const folders = 200
	ig := &ignored{}
	for i := range folders {
		ig.add(fmt.Sprint("d", i), "*.a\n*.b\n")
	}
	for i := range folders {
		if name := fmt.Sprintf("d%d/x.c", i); ig.match(name, false) != "" {
			t.Errorf("%s is ignored", name)
		}
	}
	if ig.tried > 2*folders {
		t.Errorf("%d patterns tried for %d paths", ig.tried, folders)
	}
}

// A pattern and a path that were made for each other take no time to speak of: there are 10^20 ways in which these do not fit.
func TestIgnoredHostile(t *testing.T) {
	ig := &ignored{}
	ig.add("", strings.Repeat("**/a/", 30)+"x\n")
	began := time.Now()
	if got := ig.match(strings.Repeat("a/", 200)+"y", false); got != "" || time.Since(began) > 5*time.Second {
		t.Errorf("%q after %v", got, time.Since(began))
	}
}

func TestByPath(t *testing.T) {
	list := []string{"a.b", "a/b", "a", "a/b/c", "a-b", "b"}
	slices.SortFunc(list, byPath)
	if got := fmt.Sprint(list); got != "[a a/b a/b/c a-b a.b b]" {
		t.Error(got)
	}
}

// A link that is not said to lead out stays in by its words, and what is shown on a terminal has nothing in it that acts.
func FuzzLooks(f *testing.F) {
	f.Add("a/l", "../../b", "\x1b]0;x\a")
	f.Add("l", "x/../../y", "a\u202eb\r")
	f.Add("a/b/l", ".//..", "\xff\u009b")
	f.Fuzz(func(t *testing.T, name, target, text string) {
		clean := path.Clean("/" + name)
		if clean == "/"+name && clean != "/" && !leadsOut(name, target) {
			if at := path.Join("in/it", path.Dir(name), target); at != "in/it" && !strings.HasPrefix(at, "in/it/") {
				t.Errorf("%q -> %q leads to %q", name, target, at)
			}
		}
		for _, r := range Harmless(text) {
			if r != '\t' && !unicode.IsPrint(r) {
				t.Errorf("%q: %q gets through", text, r)
			}
		}
		for i := range len(GitName(text)) {
			if c := GitName(text)[i]; c < ' ' || c >= 0x7f {
				t.Errorf("%q: %q in its name", text, c)
			}
		}
		ig := &ignored{}
		ig.add("", target)
		if at := ig.match(clean[1:], false); at != "" && !below(clean[1:], strings.TrimSuffix(at, "/")) {
			t.Errorf("%q is ignored by %q", clean, at)
		}
	})
}

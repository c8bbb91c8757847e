package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var gitConfigs = []string{
	"[core]\n\tworktree = ../../../sub\n",
	"[core] worktree = a b  \n[include]\npath=\"x # y\" ; z\n",
	"[Core]\r\n\thooksPath = tools/hooks\r\n",
	"[includeIf \"gitdir:~/a \\\"b\\\"/\"]\n  path = ../c\\\n  d\n",
	"\ufeff# c\n; d\n[a.B]\nx = 1\n[a \"B\"]\nx=\"1\\t2\\n\\\\\"   tail  \n",
	"[core]\n\tbare\n[core] filemode = true # c\n",
	"[core]\nworktree =\nworktree=\"\"\"q\"r\n",
}

// TestGitConfig holds what is read against what git itself reads.
func TestGitConfig(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("there is no git here")
	}
	for _, text := range gitConfigs {
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(git, "config", "--file", file, "--no-includes", "--list", "-z").Output()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var want, got []string
		for one := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			key, value, _ := strings.Cut(one, "\n")
			want = append(want, key+"="+value)
		}
		for _, s := range ParseGitConfig([]byte(text)) {
			got = append(got, s.Key+"="+s.Value)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n%q, git has\n%q", text, got, want)
		}
	}
}

// FuzzGitConfig: whatever a file holds, what is read of it was in it, and each key names a section.
func FuzzGitConfig(f *testing.F) {
	for _, text := range gitConfigs {
		f.Add([]byte(text))
	}
	f.Add([]byte("[a \"b"))
	f.Add([]byte("x=\\"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size := 0
		for _, s := range ParseGitConfig(data) {
			if !strings.Contains(s.Key, ".") {
				t.Errorf("key %q", s.Key)
			}
			size += len(s.Value)
		}
		if size > len(data) {
			t.Errorf("%d bytes of values in %d bytes", size, len(data))
		}
	})
}

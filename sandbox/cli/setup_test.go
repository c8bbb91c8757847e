package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"cove/fetch/store"
)

func newShow(t *testing.T) (*setupShow, func() (shown, logged string)) {
	t.Helper()
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSetupShow(out, filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return s, func() (string, string) {
		t.Helper()
		shown, err1 := os.ReadFile(filepath.Join(dir, "out"))
		logged, err2 := os.ReadFile(filepath.Join(dir, "log"))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		return string(shown), string(logged)
	}
}

// What a command writes is read by lines, however it comes, and the last that a carriage return has left of them.
func TestSetupShow(t *testing.T) {
	s, read := newShow(t)
	s.begin(0, []string{"one\x1b[2J\ntwo", "three"})
	for _, part := range []string{"a", "b\nc", "\r10%\r20%", "\n\n\x1b[31mred\x1b[0m\ttab\x1b]0;title\a", strings.Repeat("x", setupLineMost+2), "\nlast"} {
		if n, err := s.Write([]byte(part)); err != nil || n != len(part) {
			t.Fatal(n, err)
		}
	}
	s.begin(1, []string{"one", "three"})
	if last := s.end(true); len(last) != 0 {
		t.Errorf("of the last command: %q", last)
	}
	lines := []string{"ab", "20%", "", `red    tab\x1b]0;title\a`}
	shown, logged := read()
	for _, text := range []string{shown, logged} {
		at := 0
		for _, l := range append(lines, "last") {
			i := strings.Index(text[at:], l+"\n")
			if l == lines[3] {
				i = strings.Index(text[at:], l)
			}
			if i < 0 {
				t.Errorf("no %q in %q", l, text[at:])
				break
			}
			at += i
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
			t.Errorf("%q", text)
		}
	}
	if !strings.Contains(shown, `cove: setup 1/2: one\x1b[2J ...`+"\n") || !strings.HasSuffix(logged, "# setup 2/2: three\n# done\n") {
		t.Errorf("%q\n%q", shown, logged)
	}
}

// A log has an end, and an error has the last lines.
func TestSetupLogIsBounded(t *testing.T) {
	s, read := newShow(t)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.out = null
	s.begin(0, []string{"yes"})
	block := []byte(strings.Repeat(strings.Repeat("y", 99)+"\n", 10_000))
	for range 20 {
		if _, err := s.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = s.Write([]byte("the end\n"))
	last := s.end(false)
	if len(last) != setupLast || last[setupLast-1] != "the end" {
		t.Errorf("the last lines: %d, %q", len(last), last[len(last)-1])
	}
	_, logged := read()
	if len(logged) > setupLogMost+200 || !strings.HasSuffix(logged, "# the log ends here, at 17 MB\n") {
		t.Errorf("%d bytes: %q", len(logged), logged[len(logged)-100:])
	}
}

// No line that anything may write acts on a terminal.
func FuzzPlainLine(f *testing.F) {
	for _, seed := range []string{"", "plain", "a\rb\r", "\x1b[31mx", "\x1b[", "\x1b", "\x9b2J", "\xc2\x9b2J", "\u202e", "\x1b[\x1b[2J", "\x1b[2\rJ"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got := plainLine(line)
		for i, r := range got {
			if !printable(got, i, r) {
				t.Fatalf("%q: %q", line, got)
			}
		}
		if again := plainLine([]byte(got)); again != got {
			t.Fatalf("%q: %q, and then %q", line, got, again)
		}
	})
}

// A profile that is gone asks for nothing, one that has another text neither, and one that cannot be read may.
func TestSetupWanted(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	same, other := write("same", "setup = ['a', 'b']"), write("other", "setup = [\"a\\u0000b\"]")
	none, wrong := write("none", "image = 'debian'"), write("wrong", "setup = [")
	for _, c := range []struct {
		by   []string
		want bool
	}{
		{nil, false}, {[]string{same}, true}, {[]string{other}, false}, {[]string{none}, false}, {[]string{wrong}, true},
		{[]string{dir + "/gone"}, false}, {[]string{dir + "/gone", other, same}, true},
	} {
		if got := setupWanted(&store.Setup{Text: []string{"a", "b"}, For: c.by}); got != c.want {
			t.Errorf("%q: %v", c.by, got)
		}
	}
}

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"cove/config"
	"cove/fetch"
	"cove/sandbox/host"
	"cove/userns"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"plain text, ünïcode: 漢字": "plain text, ünïcode: 漢字",
		"\x1b]0;x\a":              `\x1b]0;x\a`,
		"a\nb\rc\td":              `a\nb\rc\td`,
		"\xff\xc3":                `\xff\xc3`,
		"�":                       "�",
		"\u202edrow":              `\u202edrow`,
		"\u009b31m":               `\u009b31m`,
		"zero\u200bwidth":         `zero\u200bwidth`,
	} {
		if got := escape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("\x1b[31m\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := escape(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) && r != utf8.RuneError }) {
			t.Errorf("%q: %q could surprise a terminal", s, got)
		}
		if escape(got) != got {
			t.Errorf("%q: escaped twice is not escaped once", s)
		}
	})
}

// printed is what an error looks like to the user.
func printed(t *testing.T, a *app, err error) (text string, code int) {
	t.Helper()
	f, ferr := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if ferr != nil {
		t.Fatal(ferr)
	}
	defer f.Close()
	a.stderr, a.ctx = f, t.Context()
	code = a.finish(err)
	b, ferr := os.ReadFile(f.Name())
	if ferr != nil {
		t.Fatal(ferr)
	}
	return string(b), code
}

func TestFinish(t *testing.T) {
	mistakes := &config.ProfileError{Mistakes: []config.Mistake{{File: "a\x1b.toml", Line: 1, Col: 2, Text: "x"}, {Flag: "--env", Text: "y"}}}
	for _, c := range []struct {
		command, text string
		err           error
		code          int
	}{
		{"run", "", nil, 0},
		{"run", "", exitStatus(42), 42},
		{"run", "cove: broken\n", errors.New("broken"), 125},
		{"images", "cove: broken\n", errors.New("broken"), 1},
		{"images", "cove: images: bad\ncove: hint: see `cove help images`\n", usagef("bad"), 2},
		{"run", "cove: run: bad\ncove: hint: see `cove help run`\n", fmt.Errorf("x: %w", usagef("bad")), 2},
		{"run", "cove: \"a\\x1b.toml\":1:2: x\ncove: --env: y\n", fmt.Errorf("load: %w", mistakes), 2},
		{"pull", "cove: first\n      second\n", errors.Join(errors.New("first"), errors.New("second")), 1},
		{"pull", "cove: \\x1b[31mred\\a\n", errors.New("\x1b[31mred\a"), 1},
		{"run", "cove: profile \"/p\" is not trusted: nobody agreed to what it grants\ncove: hint: `cove trust` shows what it grants and asks; there is no terminal here to ask on\n", &errUntrusted{file: "/p"}, 125},
	} {
		if text, code := printed(t, &app{command: c.command}, c.err); text != c.text || code != c.code {
			t.Errorf("%s, %v: %q and %d, want %q and %d", c.command, c.err, text, code, c.text, c.code)
		}
	}
}

// The hints of a machine without user namespaces cite what was seen there.
func TestUserNSHint(t *testing.T) {
	a := &app{command: "run", machine: &host.Host{
		Tried:   host.Tried{UserNS: host.Fact{Why: "create user namespace: operation not permitted"}},
		Sysctls: host.Sysctls{AppArmorRestrict: "1", MaxUserNS: "100"},
	}}
	text, code := printed(t, a, errNoUserNS)
	for _, want := range []string{"operation not permitted", "kernel.apparmor_restrict_unprivileged_userns=1", "apparmor_parser -r", "userns,"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the hint:\n%s", want, text)
		}
	}
	if code != 125 {
		t.Errorf("exit code %d", code)
	}
	a.machine.Sysctls = host.Sysctls{UserNSClone: "0"}
	if text, _ = printed(t, a, errNoUserNS); !strings.Contains(text, "echo kernel.unprivileged_userns_clone=1 | sudo tee") {
		t.Errorf("%s", text)
	}
}

// What a security module forbids, no sysctl mends: the profile is named.
func TestUserNSLabel(t *testing.T) {
	a := &app{command: "run", machine: &host.Host{
		Tried: host.Tried{UserNS: host.Fact{Why: "create user namespace: permission denied"}}, Label: "strict\x1b (enforce)",
	}}
	text, _ := printed(t, a, &userns.NamespaceError{Err: unix.EACCES})
	if want := `hint: user namespaces: create user namespace: permission denied (cove runs under the AppArmor profile "strict\x1b (enforce)")`; !strings.Contains(text, want) {
		t.Errorf("%q is not in\n%s", want, text)
	}
	a.machine.Label = "unconfined"
	if text, _ = printed(t, a, errNoUserNS); strings.Contains(text, "AppArmor") {
		t.Errorf("%s", text)
	}
}

func TestDiagnose(t *testing.T) {
	good := host.Fact{OK: true}
	h := &host.Host{Name: "me", LandlockScope: true, Helpers: host.Helpers{Slirp4netns: "/s"}, Tried: host.Tried{UserNS: good, DevNetTun: good, NativeOverlay: good}}
	text := printChecks(diagnose(h))
	for _, want := range []string{"less  ids              newuidmap and newgidmap are not on PATH, and /etc/subuid", "usermod --add-subuids ", "ok    native overlay", "less  fuse-overlayfs   not on PATH\n      lost: nothing: the native overlay is used"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	h.Helpers.NewUIDMap, h.Helpers.NewGIDMap = "/bin/newuidmap", "/bin/newgidmap"
	if text := printChecks(diagnose(h)); !strings.Contains(text, "fix:  sudo usermod") {
		t.Errorf("no fix for missing ranges:\n%s", text)
	}
}

func TestFreeSubids(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("a:100000:65536\nb:231072:65536\nbad\nc:4294901760:65535\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := freeSubids(file, "/nonexistent"); got != 296608 {
		t.Errorf("%d", got)
	}
	if got := freeSubids("/nonexistent"); got != 100000 {
		t.Errorf("%d", got)
	}
}

func TestFamily(t *testing.T) {
	for text, want := range map[string]family{
		"ID=debian\n":                                  debian,
		"NAME=x\nID=ubuntu\nID_LIKE=debian\n":          debian,
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"": fedora,
		"ID=manjaro\nID_LIKE=arch\n":                   arch,
		"ID='opensuse-leap'\nID_LIKE='suse opensuse'":  suse,
		"ID=alpine\n":                                  alpine,
		"ID=other\n":                                   unknown,
		"":                                             unknown,
	} {
		if got := familyOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestAppArmorPath(t *testing.T) {
	if got := appArmorPath(`/home/a b/{x}*"\co`); got != `"/home/a b/\{x\}\*\"\\co"` {
		t.Errorf("%s", got)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := writeTable(&b, []string{"A", "BB"}, [][]string{{"long\x1b", "x"}, {"ü", ""}}); err != nil {
		t.Fatal(err)
	}
	if want := "A          BB\nlong\\x1b   x\nü\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestJSON(t *testing.T) {
	text := "\x1b\x7f\u009b31m\u202e\U000e0001<&>\"\\ü"
	var b bytes.Buffer
	if err := writeJSON(&b, map[string]any{"a": text, "raw": json.RawMessage(`{"x": "\u0080"}`)}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(b.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("not safe for a terminal: %q", b.String())
	}
	var back map[string]any
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["a"] != text {
		t.Errorf("%q came back as %q, %v", text, back["a"], err)
	}
}

func TestSizeAndAgo(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1500: "1.5 kB", 9950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 204_000_000: "204 MB", 5e12: "5.0 TB"} {
		want = strings.ToUpper(want[:len(want)-2]) + strings.ToUpper(want[len(want)-2:])
		if got := size(n); strings.ToUpper(got) != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{0: "just now", -time.Hour: "just now", time.Minute: "1 minute ago", 90 * time.Minute: "1 hour ago", 49 * time.Hour: "2 days ago", 800 * 24 * time.Hour: "2 years ago"} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// pull plays a pull of n layers, the first of which is there already.
func pull(p *progress, n int) {
	p.event(fetch.Event{Kind: fetch.Resolved, Ref: "r/\x1bx:1", Digest: digest.FromString("m"), Layers: n})
	for i := range n {
		p.event(fetch.Event{Kind: fetch.LayerStart, Layer: i, Digest: digest.FromString("l"), Total: 2000})
		p.event(fetch.Event{Kind: fetch.LayerBytes, Layer: i, Bytes: 1000, Total: 2000})
	}
	for i := range n {
		p.event(fetch.Event{Kind: fetch.LayerDone, Layer: i, Present: i == 0})
	}
	p.event(fetch.Event{Kind: fetch.Finished})
	p.finish()
}

func TestProgressPlain(t *testing.T) {
	var b bytes.Buffer
	pull(&progress{w: &b, now: time.Now}, 3)
	if strings.Contains(b.String(), "\x1b") || strings.Count(b.String(), "\n") != 3 {
		t.Errorf("want three plain lines, have %q", b.String())
	}
	for _, line := range strings.SplitAfter(strings.TrimSuffix(b.String(), "\n"), "\n") {
		if !strings.HasPrefix(line, `cove: pull r/\x1bx:1: `) {
			t.Errorf("%q", line)
		}
	}
}

// On a terminal, whatever is drawn fits: no line is wider than the window, no drawing higher.
func TestProgressTerminal(t *testing.T) {
	for _, layers := range []int{2, 5, 22, 23, 100} {
		var b bytes.Buffer
		clock := time.Now()
		p := &progress{w: &b, rows: 24, cols: 40, now: func() time.Time { clock = clock.Add(time.Second); return clock }}
		pull(p, layers)
		cursor, lowest := 0, 0
		for _, line := range strings.SplitAfter(b.String(), "\n") {
			line = strings.TrimPrefix(line, "\x1b[J")
			if up, rest, ok := strings.Cut(line, "A\r"); ok && strings.HasPrefix(up, "\x1b[") {
				var n int
				fmt.Sscanf(up, "\x1b[%d", &n)
				cursor -= n
				line = "\r" + rest
			}
			text := strings.TrimSuffix(strings.NewReplacer("\r", "", "\x1b[2K", "", "\x1b[J", "").Replace(line), "\n")
			if n := utf8.RuneCountInString(text); n >= 40 {
				t.Errorf("%d layers: a line of %d in a window of 40: %q", layers, n, text)
			}
			if strings.HasSuffix(line, "\n") {
				cursor++
			}
			lowest = max(lowest, cursor)
			if cursor < 0 {
				t.Fatalf("%d layers: the cursor went above the drawing", layers)
			}
		}
		if lowest >= 24 {
			t.Errorf("%d layers: drawn over %d lines in a window of 24", layers, lowest)
		}
		if !strings.Contains(b.String(), fmt.Sprintf("%d of %d", layers, layers)) {
			t.Errorf("%d layers: the end is not drawn", layers)
		}
	}
}

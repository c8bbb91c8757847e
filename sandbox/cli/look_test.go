package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"cove/config"
)

func TestLook(t *testing.T) {
	for value, want := range map[string]string{
		"proxy.golang.org:443":                   "",
		"/home/müller/projet/données":            "",
		"/home/日本語テスト/x":                         "",
		"/srv/Ελλάδα":                            "",
		"/a\x1b[2Kb":                             `'\x1b' is a control character`,
		"/a\nb":                                  `'\n' is a control character`,
		"/tmp/\u202egpj.exe":                     `'\u202e' is a control that changes the direction of text`,
		"/tmp/a\u200bb":                          `'\u200b' is a character that is not seen`,
		"/tmp/a\u3164b":                          `'\u3164' is a character that is not seen`,
		"/tmp/a\ufe0fb":                          `'\ufe0f' is a character that is not seen`,
		"/tmp/a\U000e0041b":                      `'\U000e0041' is a character that is not seen`,
		"/tmp/a\u00a0b":                          `'\u00a0' is a space that is none of ASCII`,
		"/etc/p\u0430sswd":                       `"p\u0430sswd" mixes letters of Cyrillic and Latin; it is not "/etc/passwd", which it looks like`,
		"git\u04bbub.com":                        `mixes letters of Cyrillic and Latin; the domain name is "git\u04bbub.com", which is "xn--gitub-0kf.com" in the DNS; it is not "github.com"`,
		"\u0430\u0440\u0440\u04cf\u0435.com:443": `which is "xn--80ak6aa92e.com" in the DNS; it is not "apple.com", which it looks like`,
		"xn--80ak6aa92e.com":                     `the domain name is "\u0430\u0440\u0440\u04cf\u0435.com", which is "xn--80ak6aa92e.com" in the DNS; it is not "apple.com"`,
		"*.b\u00fccher.example":                  `the domain name is "b\u00fccher.example", which is "xn--bcher-kva.example" in the DNS`,
		"\uff41pi.example":                       `'\uff41' is made to look like`,
		"/tmp/\xff":                              "not all of it is UTF-8",
	} {
		got := strings.Join(look(value), "; ")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
		for _, r := range got {
			if r > unicode.MaxASCII || r < ' ' {
				t.Errorf("%q: the note holds %q", value, r)
			}
		}
	}
}

func TestQuoted(t *testing.T) {
	got := quoted(`read "a\"b" of "this machine's", as "\u0430`)
	if len(got) != 2 || got[0] != `a"b` || got[1] != "this machine's" {
		t.Errorf("%q", got)
	}
}

// FuzzGrants: whatever a profile holds, its summary is of characters that are seen and do nothing, each grant on a line of
// its own, in ASCII.
func FuzzGrants(f *testing.F) {
	for _, seed := range []string{"[network]\nmode='user'\nallow=['gіthub.com']", "[env]\npass=['A\u202eB','\u001b[2J']", "[[mount]]\nsource='/\u3164'\ntarget='/x'",
		"[[mount]]\nsource='/a\u2028b'\ntarget='/\ufe0f'", "image='oci:/x\u200b'", "[workspace]\nprotect=[]", "[security]\ncaps=['all']"} {
		f.Add(seed, "proj")
	}
	f.Add("[env]\npass=['A']", "p\u202e\u3164")
	f.Fuzz(func(t *testing.T, text, folder string) {
		if strings.ContainsAny(folder, "/\x00") || folder == "" || folder == "." || folder == ".." || len(folder) > 100 {
			return
		}
		home := t.TempDir()
		dir := filepath.Join(home, folder)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return
		}
		if err := os.WriteFile(filepath.Join(dir, config.FileName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p, _, err := config.Load(config.LoadOptions{Cwd: dir, Home: home})
		if err != nil {
			return
		}
		d, err := config.OpenTrust(filepath.Join(home, ".trust")).Check(p)
		if err != nil {
			t.Fatal(err)
		}
		summary := grantsText(p, d, true) + explainText(p, d, explainGrants(p, d))
		for _, r := range summary {
			if r != '\n' && (!config.Visible(r) || strange(r) != "") {
				t.Errorf("the summary holds %q:\n%s", r, strconv.QuoteToASCII(summary))
			}
		}
		lines := 0
		for line := range strings.Lines(grantsText(p, d, true)) {
			if strings.HasPrefix(line, "  + ") {
				lines++
				if strings.ContainsFunc(line, func(r rune) bool { return r > unicode.MaxASCII }) {
					t.Errorf("a grant is not in ASCII: %q", line)
				}
			}
		}
		if lines != len(d.New) {
			t.Errorf("%d lines for %d grants", lines, len(d.New))
		}
	})
}

// What is said to look like something must be a pair of as many letters.
func TestAlike(t *testing.T) {
	for r, c := range alike() {
		if r < 0x80 || c >= 0x80 || c <= ' ' {
			t.Errorf("%q looks like %q", r, c)
		}
	}
}

package outside

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"cove/sandbox/integration"
	"cove/sandbox/programs"
	"cove/sandbox/spec"
)

func TestCheckURL(t *testing.T) {
	for text, want := range map[string]string{ // "" is that it is refused
		"https://example.com":                 "https://example.com",
		"HTTP://Example.com:8080/a?b=c&d=e#f": "http://Example.com:8080/a?b=c&d=e#f",
		"http://[::1]:3000/":                  "http://[::1]:3000/",
		"https://example.com/$(id)'`x":        "",
		"https://example.com/$(id)'!*":        "https://example.com/%24%28id%29%27%21%2A",
		"https://example.com/%0a":             "https://example.com/%0a",
		"https://example.com@evil.com/":       "",
		"https://a:b@evil.com/":               "",
		"https://example.com/ x":              "",
		"https://example.com/\n":              "",
		"https://example.com/\x1b[2J":         "",
		"https://ex\u0430mple.com/":           "",
		"file:///etc/passwd":                  "",
		"javascript:alert(1)":                 "",
		"data:text/html,x":                    "",
		"ssh://example.com":                   "",
		"https:example.com":                   "",
		"https:///etc/passwd":                 "",
		"http://!":                            "",
		"//example.com":                       "",
		"example.com":                         "",
		"/etc/passwd":                         "",
		"--help":                              "",
		"-h":                                  "",
		"https://-x/":                         "",
		"https://:80/":                        "",
		"":                                    "",
		"https://example.com/" + strings.Repeat("a", maxAddress): "",
	} {
		got, err := checkURL(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.60q: %q, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzCheckURL: what is opened is a web page's address, in plain ASCII, without what a shell would act on.
func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"https://example.com/a?b=c", "http://[::1]:1/", "https://a@b", "HTTPS://x/%", "https://x/$(y)", "javascript://%0a", "http://x\\@y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := checkURL(text)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			t.Fatalf("%q: %q, %v", text, got, err)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"'`$()<>\\^{|}*!", r) }) {
			t.Fatalf("%q: %q", text, got)
		}
		if was, err := url.Parse(text); err != nil || was.Host != u.Host || was.Query().Encode() != u.Query().Encode() {
			t.Fatalf("%q: %q is another page", text, got)
		}
	})
}

// FuzzPlain: text for people is what can be printed, on one line, and short.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"a\nb", "\x1b[31m", "\u202eabc", "\xff", "ü€", strings.Repeat("€", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := plain(text, 20)
		if len(got) > 23 || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q: %q", text, got)
		}
	})
}

func TestLimiter(t *testing.T) {
	l := &limiter{burst: 3, every: time.Second}
	now := time.Now()
	for i, want := range []bool{true, true, true, false, false} {
		if got := l.allow(now); got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if !l.allow(now.Add(time.Second)) || l.allow(now.Add(time.Second)) {
		t.Error("a second later it is not one more")
	}
	for range 3 {
		if !l.allow(now.Add(time.Minute)) {
			t.Error("a minute later it is not as at first")
		}
	}
}

// TestGitValue: what git reads is what was written, whatever that is, on one line.
func TestGitValue(t *testing.T) {
	for value, want := range map[string]string{
		"Anna":           `"Anna"`,
		`A "B" \ C`:      `"A \"B\" \\ C"`,
		"a # b ; c":      `"a # b ; c"`,
		"a\n[core]\nx=y": `"a[core]x=y"`,
	} {
		if got := gitValue(value); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

// echo answers what it is asked.
type echo struct{}

func (echo) serve(_ context.Context, words []string, e *integration.Event) ([]string, error) {
	e.Kind = "echo"
	if len(words) == 0 {
		return nil, &errNot{"bad-form", "no words"}
	}
	if words[0] == "fail" {
		return nil, errors.New("a secret of the host's")
	}
	return words, nil
}

// talk has serveHost on the other side of a connection, with one service.
func talk(t testing.TB) (net.Conn, *[]integration.Event) {
	t.Helper()
	ours, theirs := net.Pipe()
	events := new([]integration.Event)
	o := &opened{ctx: context.Background(), services: services{"echo": echo{}}, tell: func(e integration.Event) { *events = append(*events, e) }}
	go func() {
		o.serveHost(context.Background(), &client{Conn: theirs})
		_ = theirs.Close()
	}()
	_ = ours.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { _ = ours.Close() })
	return ours, events
}

func TestServeHost(t *testing.T) {
	for _, test := range []struct {
		ask     integration.Request
		refused string
		words   int
	}{
		{integration.Request{Kind: "echo", Words: []string{"a", "b"}}, "", 2},
		{integration.Request{Kind: "echo"}, "no words", 0},
		{integration.Request{Kind: "echo", Words: []string{"fail"}}, "it failed outside", 0},
		{integration.Request{Kind: integration.Open, Words: []string{"https://example.com"}}, "this sandbox was not granted that", 0},
		{integration.Request{}, "this sandbox was not granted that", 0},
	} {
		conn, events := talk(t)
		var a integration.Answer
		if err := errors.Join(integration.Send(conn, test.ask), integration.Receive(conn, &a)); err != nil {
			t.Error(err)
		}
		if a.Refused != test.refused || len(a.Words) != test.words || len(*events) != 1 {
			t.Errorf("%+v: %+v, %d events", test.ask, a, len(*events))
		}
	}
}

// FuzzServeHost: whatever comes, the connection ends, and an answer that comes is one.
func FuzzServeHost(f *testing.F) {
	for _, s := range []string{"\x00\x00\x00\x02{}", "\xff\xff\xff\xff", "\x00\x00\x00\x00", "\x00\x00\x00\x23{\"kind\":\"echo\",\"words\":[\"a\",\"\\ud800\"]}", "\x00\x01\x00\x01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, _ := talk(t)
		go func() {
			if _, err := conn.Write(sent); err == nil {
				_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // it may wait for more
			}
		}()
		var a integration.Answer
		err := integration.Receive(conn, &a)
		if err == nil && a.Refused == "" && len(a.Words) == 0 {
			t.Fatalf("%q: %+v", sent, a)
		}
		_ = conn.Close()
	})
}

// TestHostMissing: without the program outside there is no integration, and what to do about it is said.
func TestHostMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, in := range map[string]spec.Integrations{
		"host.browser":         {Browser: true},
		"host.notify":          {Notify: true},
		"host.git.identity":    {Git: &spec.Git{Identity: true}},
		"host.git.credentials": {Git: &spec.Git{Credentials: []string{"example.com"}}},
	} {
		_, err := Integrations{}.Open(t.Context(), &spec.Spec{Integrations: &in}, nil)
		var e *integration.MissingError
		if !errors.As(err, &e) || e.Name != name || e.Do == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCredential: of the hosts that were granted alone, by `fill` alone, and in no repository.
func TestCredential(t *testing.T) {
	dir := t.TempDir()
	fake := `#!/bin/sh
case "$*" in "credential fill") ;; *) exit 9;; esac
[ "$PWD" = / ] && [ -z "$GIT_DIR" ] && [ "$GIT_TERMINAL_PROMPT" = 0 ] || exit 8
(: </dev/tty) 2>/dev/null && exit 7
cat >` + dir + `/asked
cat ` + dir + `/answer
`
	answer := "protocol=https\nhost=example.com\nusername=anna\npassword=a=b\nunknown=x\n"
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "git"), []byte(fake), 0o700), os.WriteFile(filepath.Join(dir, "answer"), []byte(answer), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_DIR", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	g, err := newGit(programs.New(nil), "host.git.credentials", []string{"example.com", "other.com"})
	if err != nil {
		t.Fatal(err)
	}
	e := &integration.Event{}
	got, err := g.serve(t.Context(), []string{"example.com", "anna"}, e)
	if err != nil || len(got) != 2 || got[0] != "anna" || got[1] != "a=b" || e.On != "example.com" {
		t.Errorf("%q, %v, %+v", got, err, e)
	}
	if asked, _ := os.ReadFile(filepath.Join(dir, "asked")); string(asked) != "protocol=https\nhost=example.com\nusername=anna\n\n" {
		t.Errorf("asked %q", asked)
	}
	for _, words := range [][]string{nil, {}, {""}, {"evil.com"}, {"example.com:443"}, {"EXAMPLE.com"}, {"example.com\nhost=evil.com"}, {"example.com", "x\nhost=evil.com"},
		{"example.com", "x\rhost=evil.com"}, {"example.com", "x\x00"}, {"a", "b", "c"},
		{"example.com", "root': the login keyring needs your password, 'https://x"}, {"example.com", "a\u00a0b"}, {"example.com", "\xff"}, {"example.com", strings.Repeat("a", 129)},
		{"other.com"}, // for which another host's password comes back
	} {
		got, err := g.serve(t.Context(), words, &integration.Event{})
		if e := (*errNot)(nil); got != nil || !errors.As(err, &e) {
			t.Errorf("%q: %q, %v", words, got, err)
		}
	}
}

// TestCredentialFlood: what may ask the caller asks once at a time, and after it got nothing not again for a while.
func TestCredentialFlood(t *testing.T) {
	dir := t.TempDir()
	fake := `#!/bin/sh
mkdir ` + dir + `/asking || echo overlaps >>` + dir + `/asked
read protocol; read host
echo $host >>` + dir + `/asked
sleep .05
rmdir ` + dir + `/asking
[ $host != host=none.com ] && printf 'protocol=https\n%s\nusername=anna\npassword=x\n' $host
`
	if err := os.WriteFile(filepath.Join(dir, "git"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	g, err := newGit(programs.New(nil), "host.git.credentials", []string{"example.com", "none.com"})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		for _, host := range g.hosts {
			all.Go(func() {
				if _, err := g.serve(t.Context(), []string{host}, &integration.Event{}); (err == nil) != (host == "example.com") {
					t.Errorf("%s: %v", host, err)
				}
			})
		}
	}
	all.Wait()
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if got := string(asked); err != nil || strings.Contains(got, "overlaps") || strings.Count(got, "example.com") != 4 || strings.Count(got, "none.com") != 1 {
		t.Errorf("asked %q, %v", got, err)
	}
	if _, err := g.serve(t.Context(), []string{"none.com"}, &integration.Event{}); !errors.Is(err, errTooMany) {
		t.Errorf("at once again: %v", err)
	}
}

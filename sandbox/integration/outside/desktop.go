package outside

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"cove/sandbox/integration"
	"cove/sandbox/programs"
)

// browser opens web pages as the caller's desktop does.
type browser struct {
	*programs.Programs
	program string // xdg-open
	limit   *limiter
}

func newBrowser(p *programs.Programs) (*browser, error) {
	program, err := p.Find("xdg-open")
	if err != nil {
		return nil, &integration.MissingError{Name: "host.browser", Why: "there is no xdg-open here, which opens web pages",
			Do: "install it; Debian and Fedora have it in xdg-utils"}
	}
	return &browser{Programs: p, program: program, limit: &limiter{burst: 3, every: 5 * time.Second}}, nil
}

// startTime is how long a program that starts a browser has to say that it cannot.
const startTime = 2 * time.Second

func (b *browser) serve(ctx context.Context, words []string, e *integration.Event) ([]string, error) {
	e.Kind, e.What = "browser", "open"
	if len(words) != 1 {
		return nil, &errNot{"bad-form", "want one address"}
	}
	address, err := checkURL(words[0])
	if err != nil {
		e.On = short(words[0])
		return nil, &errNot{"bad-address", err.Error()}
	}
	e.On = short(address)
	if !b.limit.allow(time.Now()) {
		return nil, errTooMany
	}
	cmd := exec.Command(b.program, address)
	cmd.Dir, cmd.Env = "/", b.Environ()
	// A session of its own: it has no terminal, and the browser stays when the sandbox has ended.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start xdg-open: %w", err)
	}
	e.Notice = "browser: opened " + e.On
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			e.Notice = ""
			return nil, fmt.Errorf("xdg-open: %w", err)
		}
	case <-ctx.Done():
	case <-time.After(startTime):
	}
	return nil, nil
}

// maxAddress bounds an address: longer ones no browser takes everywhere.
const maxAddress = 8192

// checkURL takes the address of a web page (RFC 3986), and returns it as it is to be opened. Whatever opens it may be a shell
// script: what such a one could stumble over is written with a percent sign.
func checkURL(text string) (string, error) {
	if len(text) > maxAddress {
		return "", fmt.Errorf("an address of more than %d bytes", maxAddress)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return "", fmt.Errorf("the address holds %q, which is written as %%%02X there", string(rune(c)), c)
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("not an address")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("only http:// and https:// addresses are opened")
	case u.Hostname() == "" || u.Opaque != "" || strings.HasPrefix(u.Host, "-"):
		return "", fmt.Errorf("the address has no host")
	case strings.ContainsFunc(u.Host, notOfHost):
		return "", fmt.Errorf("the address has a host that is no name and no number")
	case u.User != nil:
		return "", fmt.Errorf("the address holds a user name: what stands before an @ looks like a host and is none")
	}
	rest := text[len(u.Scheme):] // whichever case it was written in
	return u.Scheme + strings.NewReplacer("'", "%27", "(", "%28", ")", "%29", "$", "%24", "*", "%2A", "!", "%21").Replace(rest), nil
}

// notOfHost is what a host and a port are not written with; names in other scripts have their own spelling (RFC 5890).
func notOfHost(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:[]", r))
}

// notifier shows notifications by the caller's own notify-send.
type notifier struct {
	*programs.Programs
	program string
	sandbox string
	limit   *limiter
}

func newNotifier(p *programs.Programs, sandbox string) (*notifier, error) {
	program, err := p.Find("notify-send")
	if err != nil {
		return nil, &integration.MissingError{Name: "host.notify", Why: "there is no notify-send here, which shows notifications",
			Do: "install it; Debian has it in libnotify-bin, Fedora in libnotify"}
	}
	return &notifier{Programs: p, program: program, sandbox: sandbox, limit: &limiter{burst: 5, every: 5 * time.Second}}, nil
}

func (n *notifier) serve(ctx context.Context, words []string, e *integration.Event) ([]string, error) {
	e.Kind, e.What = "notify", "show"
	if len(words) < 1 || len(words) > 2 {
		return nil, &errNot{"bad-form", "want a title, and a text if there is one"}
	}
	title := plain(words[0], 200)
	e.Text = title
	if strings.TrimSpace(title) == "" {
		return nil, &errNot{"bad-form", "the title is empty"}
	}
	text := ""
	if len(words) == 2 {
		text = plain(words[1], 2000)
	}
	if !n.limit.allow(time.Now()) {
		return nil, errTooMany
	}
	ctx, cancel := context.WithTimeout(ctx, messageTime)
	defer cancel()
	// The text may have markup, links among it, by the desktop notifications' specification: here it has none. And notify-send takes
	// backslashes in it for those of C (g_strcompress), by which the markup would come all the same: \074 is <.
	_, err := runOutside(ctx, nil, n.Environ(), n.program, "--app-name=cove", "--", "["+n.sandbox+"] "+title, noMarkup.Replace(text))
	if err != nil {
		return nil, fmt.Errorf("notify-send: %w", err)
	}
	return nil, nil
}

var noMarkup = strings.NewReplacer("\\", "\\\\", "&", "&amp;", "<", "&lt;", ">", "&gt;")

// plain is text for people: lines of what can be printed, and no more than so many bytes. What turns the direction of writing, or joins
// letters, cannot be printed by itself (unicode.IsPrint).
func plain(text string, most int) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t':
			r = ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			continue
		}
		if b.Len()+utf8.RuneLen(r) > most {
			b.WriteString("...")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

package early

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cove/userns/fork"
)

func TestSandboxOf(t *testing.T) {
	for line, want := range map[string]string{
		"cove":                     "",
		"cove exec":                "",
		"cove exec box":            "",
		"cove exec box true":       "box",
		"cove exec box -- true":    "box",
		"cove exec box -e A=1 env": "box",
		"cove exec -e A=1 box env": "", // what is an option's word takes more to know
		"cove exec -- box true":    "",
		"cove exec ../x -- true":   "",
		"cove exec .x -- true":     "",
		"cove exec a/b -- true":    "",
		"cove run exec -- true":    "",
		"cove-init exec box true":  "",
	} {
		if got, ok := sandboxOf(strings.Fields(line)); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", line, got, ok)
		}
	}
}

// fakeSandbox is a folder with a socket that a sandbox called box could have, and the socket.
func fakeSandbox(t *testing.T, link string) (runtimeDir string, listener int) {
	t.Helper()
	runtimeDir = t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)
	dir := filepath.Join(runtimeDir, "cove", "sandboxes", "0123456789abcdef")
	names := filepath.Join(runtimeDir, "cove", "names")
	for _, d := range []string{dir, names} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(link, filepath.Join(names, "box")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	listener, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(listener) })
	if err := syscall.Bind(listener, &syscall.SockaddrUnix{Name: "sock"}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(listener, 8); err != nil {
		t.Fatal(err)
	}
	return runtimeDir, listener
}

// received is what was sent to a socket by the next who connects, up to its end where closed says so.
func received(t *testing.T, listener int, closed bool) string {
	t.Helper()
	conn, _, err := syscall.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(conn) }()
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := syscall.Read(conn, buf)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, buf[:n]...)
		if n == 0 || !closed {
			return string(all)
		}
	}
}

func TestAsk(t *testing.T) {
	const id = "0123456789abcdef"
	frame := func(body string) string { return string([]byte{0, 0, 0, byte(len(body)), 0, 0, 0, 0}) + body }
	for _, c := range []struct {
		link, name, want string
	}{
		{id, "box", `{"session":true}`},
		{id + ":another", "box", `{"session":true}`},
		{id + ":", "box", `{"session":true}`},
		{id + ":" + fork.Program(), "box", `{"session":true,"program":"` + fork.Program() + `"}`},
		{"", id, `{"session":true}`},
	} {
		link := c.link
		if link == "" {
			link = "nothing"
		}
		runtimeDir, listener := fakeSandbox(t, link)
		asked = ask(c.name)
		if asked == nil {
			t.Fatalf("%s by %q: it was not found", c.name, link)
		}
		if got := received(t, listener, false); got != frame(c.want) {
			t.Errorf("%s by %q: the parent was sent %q, want %q", c.name, link, got, frame(c.want))
		}
		s := TakeSession(c.name, filepath.Join(runtimeDir, "cove", "sandboxes"))
		if s == nil || filepath.Base(s.Dir) != id || s.Same != strings.Contains(c.want, "program") {
			t.Errorf("%s by %q: %+v", c.name, link, s)
		}
		s.Close()
		if TakeSession(c.name, filepath.Join(runtimeDir, "cove", "sandboxes")) != nil {
			t.Error("a session was handed over twice")
		}
	}
	for _, link := range []string{"fedcba9876543210", "../../..", "", strings.Repeat("x", 300)} {
		if link != "" {
			fakeSandbox(t, link)
		}
		name := "box"
		if link == "" {
			name = "no-box"
		}
		if s := ask(name); s != nil {
			t.Errorf("by %q: %+v", link, s)
		}
	}
}

// A session with another sandbox than the one that is meant in the end is given up, and nothing more is sent on it.
func TestTakeAnother(t *testing.T) {
	runtimeDir, listener := fakeSandbox(t, "0123456789abcdef")
	sandboxes := filepath.Join(runtimeDir, "cove", "sandboxes")
	for _, c := range []struct{ name, sandboxes string }{{"other", sandboxes}, {"box", filepath.Join(t.TempDir(), "sandboxes")}} {
		asked = ask("box")
		if s := TakeSession(c.name, c.sandboxes); s != nil {
			t.Errorf("%s in %s: %+v", c.name, c.sandboxes, s)
		}
		if got := received(t, listener, true); got == "" || strings.Count(got, "session") != 1 {
			t.Errorf("the parent was sent %q", got)
		}
	}
	// A link in place of the folder is not followed.
	if err := os.Rename(filepath.Join(sandboxes, "0123456789abcdef"), filepath.Join(runtimeDir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(runtimeDir, "moved"), filepath.Join(sandboxes, "0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	if s := ask("box"); s != nil {
		t.Errorf("by a link: %+v", s)
	}
}

package sandbox

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cove/config"
	"cove/sandbox/host"
	"cove/sandbox/spec"
	"cove/userns"
)

// Whatever a profile grants and was typed: setup has the image, its network and limits, and nothing else.
func TestForSetup(t *testing.T) {
	in := input(web, func(in *Input) {
		p := in.Profile
		p.User, p.Command, p.Setup, p.Persist = "me", []string{"bash"}, []string{"a"}, true
		p.Workspace.At, p.Home.Mode = "/src", "project"
		p.Mounts = []config.Mount{{Source: "/home/anna/x", Target: "/x", Mode: "rw"}}
		p.Env = config.Env{Set: map[string]string{"SET": "1"}, Pass: []string{"SECRET"}}
		p.Network = config.Network{Mode: "user", Driver: "auto", Allow: []config.Egress{{Name: "a.example", Proto: "tcp"}},
			Publish: []config.Publish{{HostIP: "127.0.0.1", HostPort: 8080, ContainerPort: 80, Proto: "tcp"}}, PublishAuto: true}
		p.Limits.Timeout = time.Minute
		p.Security = config.Security{Caps: []string{"SYS_PTRACE"}, NewPrivileges: true, Nested: true}
		p.Integrations.Browser, p.Integrations.Notify = true, true
		in.HomeDir, in.Tmpfs, in.ReadOnly, in.AddCaps, in.Workdir, in.User = "/home/anna/homes/1", []Tmpfs{{Target: "/t"}}, true, []string{"NET_RAW"}, "/src", "app"
		in.HasEntrypoint, in.Entrypoint, in.Name, in.Hostname = true, []string{"/e"}, "mine", "box"
		setEnvironment(in, map[string]string{"SECRET": "s", "TERM": "xterm", "LANG": "de_DE"})
	})
	own, err := in.ForSetup()
	if err != nil {
		t.Fatal(err)
	}
	s := plan(t, own)
	if len(s.Mounts) != 0 || s.Protect != nil || s.Root.ReadOnly || s.Root.Persist || s.Hostname == "box" || s.ID == in.ID || s.Limits.TimeoutMS != 0 {
		t.Errorf("%+v", s)
	}
	if n := s.Network; n.Mode != "user" || len(n.Egress.Allow) != 1 || len(n.Publish) != 0 || n.PublishAuto {
		t.Errorf("network %+v", n)
	}
	p := s.Process
	if p.User != "0:0" || p.Cwd != "/" || len(p.Argv) != 1 || p.Argv[0] != "/bin/sh" {
		t.Errorf("process %+v", p)
	}
	for _, e := range p.Env {
		if strings.HasPrefix(string(e), "S") || strings.HasPrefix(string(e), "TERM=") || e == "LANG=de_DE" {
			t.Errorf("environment has %s", e)
		}
	}
	caps := strings.Join(s.Security.Caps, " ")
	if s.Security.Nested || s.Security.NewPrivileges || !strings.Contains(caps, "CAP_CHOWN") || !strings.Contains(caps, "CAP_SYS_PTRACE") || strings.Contains(caps, "NET_RAW") {
		t.Errorf("security %+v", s.Security)
	}
	if s.Integrations != nil {
		t.Errorf("integrations %+v", s.Integrations)
	}
	in.IDMap = userns.Single(1000, 1000, 1000, 1000)
	if _, err := in.ForSetup(); err == nil {
		t.Error("nobody inside is root, and that is no error")
	}
}

// Changes are used in the form in which they were made, or not at all.
func TestPlanKept(t *testing.T) {
	kept := func(kind spec.RootKind) func(*Input) {
		return func(in *Input) { in.Profile.Persist, in.Kept = true, kind }
	}
	noOverlay := func(in *Input) { in.Host.NativeOverlay = host.Fact{Why: "EINVAL"} }
	noFuse := func(in *Input) { in.Host.Helpers.FuseOverlayfs = "" }
	for name, c := range map[string]struct {
		in   Input
		kind spec.RootKind // "" is an error
	}{
		"new":                     {input(web, kept("")), spec.RootOverlay},
		"overlay":                 {input(web, kept(spec.RootOverlay)), spec.RootOverlay},
		"fuse, beside an overlay": {input(web, kept(spec.RootFuse)), spec.RootFuse},
		"a copy beside both":      {input(web, kept(spec.RootCopy)), spec.RootCopy},
		"a copy":                  {input(web, noOverlay, noFuse, kept(spec.RootCopy)), spec.RootCopy},
		"an overlay that is gone": {input(web, noOverlay, kept(spec.RootOverlay)), ""},
		"fuse that is gone":       {input(web, noOverlay, noFuse, kept(spec.RootFuse)), ""},
		"of a newer cove":         {input(web, kept("clone")), ""},
		"not asked for":           {input(web, kept(spec.RootCopy), func(in *Input) { in.Profile.Persist = false }), spec.RootOverlay},
	} {
		s, err := Plan(c.in)
		var e *PersistError
		if c.kind == "" && !errors.As(err, &e) || c.kind != "" && (err != nil || s.Root.Kind != c.kind || s.Root.Persist != c.in.Profile.Persist) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

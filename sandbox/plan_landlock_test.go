package sandbox

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"cove/config"
	"cove/sandbox/host"
	"cove/sandbox/spec"
)

// bare is a machine without user namespaces, and a user who knows that.
func bare(in *Input) {
	in.Host.UserNS, in.Host.MapRange = host.Fact{Why: "operation not permitted"}, host.Fact{}
	in.Host.LandlockABI, in.BestEffort = 7, true
}

// Without user namespaces landlock does what it can, and what it cannot is an error or a warning.
func TestPlanLandlock(t *testing.T) {
	s := plan(t, input(bare))
	if s.Landlock == nil || s.Landlock.ABI != 7 || s.Landlock.HostNetwork || !s.IDMap.Single() || len(s.Mounts) > 0 || len(s.Security.Caps) > 0 {
		t.Errorf("%+v", s)
	}
	if p := s.Process; p.User != "1000:1000" || p.Cwd != "/home/anna/My Project!/sub" || p.Home != "" {
		t.Errorf("%+v", p)
	}
	workspace := spec.Grant{Path: "/home/anna/My Project!", Write: true}
	if !slices.Contains(s.Landlock.Grants, workspace) {
		t.Errorf("no %v among %v", workspace, s.Landlock.Grants)
	}
	for _, g := range s.Landlock.Grants {
		if g.Write && g != workspace && !strings.HasPrefix(string(g.Path), "/dev/") {
			t.Errorf("%v can be written", g)
		}
		if g.Path == "/" || g.Path == "/proc" || g.Path == "/sys" || g.Path == "/dev" || g.Path == "/run" || g.Path == "/home" || g.Path == "/tmp" || g.Path == "/var" {
			t.Errorf("%v is granted", g.Path)
		}
	}

	mounts := func(m ...config.Mount) func(*Input) { return func(in *Input) { in.Profile.Mounts = m } }
	for name, c := range map[string]struct {
		change func(*Input)
		grant  *spec.Grant // among them; nil: see err and warning
		err    string
		warn   string
	}{
		"unasked":           {func(in *Input) { in.BestEffort = false }, nil, "does not let you make user namespaces", ""},
		"root":              {func(in *Input) { in.Host.UID = 0 }, nil, "run as root without", ""},
		"no landlock":       {func(in *Input) { in.Host.LandlockABI = 0 }, nil, "neither user namespaces nor landlock", ""},
		"image":             {web, nil, `image "web:1", which`, ""},
		"user network":      {func(in *Input) { in.Profile.Network.Mode = "user" }, nil, "network.mode", ""},
		"other user":        {func(in *Input) { in.User = "www-data" }, nil, `user "www-data"`, ""},
		"own user":          {func(in *Input) { in.User = "anna" }, nil, "", "you (uid 1000)"},
		"new privileges":    {func(in *Input) { in.Profile.Security.NewPrivileges = true }, nil, "new_privileges", ""},
		"nested":            {func(in *Input) { in.Profile.Security.Nested = true }, nil, "nested", ""},
		"seccomp":           {func(in *Input) { in.Profile.Security.Seccomp.Data = []byte("{}") }, nil, "security.seccomp", ""},
		"capability":        {func(in *Input) { in.AddCaps = []string{"SYS_ADMIN"} }, nil, "--cap-add", ""},
		"tmpfs":             {func(in *Input) { in.Tmpfs = []Tmpfs{{Target: "/x"}} }, nil, "--tmpfs", ""},
		"review":            {reviewed, nil, "workspace.mode = \"review\"", ""},
		"elsewhere":         {func(in *Input) { in.Profile.Workspace.At = "/work" }, nil, "workspace.at", ""},
		"mount elsewhere":   {mounts(config.Mount{Source: "/data", Target: "/other", Mode: "ro"}), nil, `"/data" at "/other"`, ""},
		"mount in the home": {mounts(config.Mount{Source: "/home/anna/.cache", Target: "~/.cache", Mode: "ro"}), nil, "which cannot", ""},
		"mount":             {mounts(config.Mount{Source: "/data", Target: "/data", Mode: "ro"}), &spec.Grant{Path: "/data"}, "", ""},
		"mount to write":    {mounts(config.Mount{Source: "/data", Target: "/data/", Mode: "rw"}), &spec.Grant{Path: "/data", Write: true}, "", ""},
		"mount within": {mounts(config.Mount{Source: "/home/anna/My Project!/x", Target: "/home/anna/My Project!/x", Mode: "ro", Within: true}),
			&spec.Grant{Path: "/home/anna/My Project!/x", Beneath: "/home/anna/My Project!"}, "", ""},
		"read-only workspace": {func(in *Input) { in.Profile.Workspace.Mode = "ro" }, &spec.Grant{Path: "/home/anna/My Project!"}, "", ""},
		"kept home":           {func(in *Input) { in.HomeDir = "/homes/1" }, &spec.Grant{Path: "/homes/1", Write: true}, "", ""},
		"protect":             {func(*Input) {}, nil, "", "workspace.protect"},
		"files":               {func(*Input) {}, nil, "", "which files and processes exist can be seen"},
		"old landlock":        {func(in *Input) { in.Host.LandlockABI = 5 }, nil, "", "signals"},
		"host network":        {func(in *Input) { in.Profile.Network.Mode = "host" }, nil, "", "all of this machine's network"},
	} {
		s, err := Plan(input(bare, c.change))
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", name, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.grant != nil && !slices.Contains(s.Landlock.Grants, *c.grant):
			t.Errorf("%s: no %v among %v", name, *c.grant, s.Landlock.Grants)
		case !strings.Contains(strings.Join(s.Warnings, "\n"), c.warn):
			t.Errorf("%s: no %q among %q", name, c.warn, s.Warnings)
		}
	}
	if s := plan(t, input(bare, func(in *Input) { in.Profile.Workspace.Mode = "none" })); s.Process.Cwd != "" || s.Protect != nil {
		t.Errorf("%+v", s.Process)
	}
	if _, err := Plan(input(bare, func(in *Input) { in.BestEffort = false })); !errors.Is(err, ErrNoUserNS) {
		t.Error(err)
	}
}

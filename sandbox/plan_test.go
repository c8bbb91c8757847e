package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cove/config"
	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/sandbox/host"
	"cove/sandbox/integration"
	"cove/sandbox/spec"
	"cove/userns"

	"github.com/opencontainers/go-digest"
)

var update = flag.Bool("update", false, "write the golden files anew")

var rangeMap = userns.IDMap{
	UIDs: []userns.Range{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}},
	GIDs: []userns.Range{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}},
}

// input is a plain one: a host root file system, a project, a machine that has everything. The
// environment outside is the map.
func input(change ...func(*Input)) Input {
	in := Input{
		Profile: &config.Profile{
			Dir: "/home/anna/My Project!", Image: "host", User: "root",
			Workspace: config.Workspace{Mode: "rw", Protect: config.DefaultProtect()},
			Home:      config.Home{Mode: "temp"},
			Network:   config.Network{Mode: "none", Driver: "auto"},
			Security:  config.Security{Caps: []string{"default"}},
		},
		Host: &host.Host{Kernel: "6.18.0", UID: 1000, GID: 1000, Name: "anna", Home: "/home/anna", LandlockScope: true,
			Helpers: host.Helpers{FuseOverlayfs: "/usr/bin/fuse-overlayfs", Slirp4netns: "/usr/bin/slirp4netns", Pasta: "/usr/bin/pasta"},
			Tried:   host.Tried{UserNS: host.Fact{OK: true}, NativeOverlay: host.Fact{OK: true}, FuseMount: host.Fact{OK: true}, MapRange: host.Fact{OK: true}}},
		IDMap: rangeMap,
		Image: &image.Image{Ref: "host", Kind: image.Host},
		ID:    "0123456789abcdef", Argv: []string{"true"}, UseEntrypoint: true,
		Cwd: "/home/anna/My Project!/sub", HostHome: "/home/anna",
	}
	setEnvironment(&in, nil)
	for _, c := range change {
		c(&in)
	}
	return in
}

func setEnvironment(in *Input, env map[string]string) {
	in.LookupEnv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

// web makes the image one of layers, with all that a config can say.
func web(in *Input) {
	in.Profile.Image = "web:1"
	in.Image = &image.Image{Ref: "docker.io/library/web:1", Kind: image.Stored, Digest: "sha256:1234", Layers: []string{"/store/a", "/store/b"},
		Config: oci.ImageConfig{User: "www:www", Env: []string{"PATH=/app/bin:/bin", "LANG=C", "APP=1", "=odd", "noequals"},
			Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"serve"}, WorkingDir: "/srv"}}
}

// reviewed makes the workspace a view, of a project with nothing odd about it.
func reviewed(in *Input) {
	in.Profile.Workspace.Mode = "review"
	in.Review = &Review{Dir: "/store/reviews/1", Overlay: host.Fact{OK: true}}
}

func as(name string) func(*Input) { return func(in *Input) { in.Profile.User = name } }

func plan(t *testing.T, in Input) *spec.Spec {
	t.Helper()
	s, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPlanGolden holds whole Specs against testdata/golden, and that Plan is pure: it changes no
// input, and the same one gives the same Spec.
func TestPlanGolden(t *testing.T) {
	for name, in := range map[string]Input{
		"host": input(),
		"host_me": input(as("me"), func(in *Input) {
			in.HomeDir = "/data/homes/1"
			in.Profile.Mounts = []config.Mount{{Source: "/cache", Target: "~/.cache", Mode: "rw"}, {Source: "/home/anna/My Project!/x", Target: "/opt/x", Mode: "ro", Within: true}}
			in.Profile.Home.Dotfiles = []config.Dotfile{{Name: ".config/git", Source: "/home/anna/dots/git", Home: "/home/anna"}, {Name: ".vimrc", Home: "/home/anna"}}
			in.Profile.Env = config.Env{Set: map[string]string{"B": "2", "A": "1"}, Pass: []string{"EDITOR"}}
			setEnvironment(in, map[string]string{"EDITOR": "vi", "TERM": "xterm", "SECRET": "no"})
		}),
		"image_root": input(web),
		"image_user": input(web, as("image"), func(in *Input) {
			in.Profile.Workspace.Mode, in.Profile.Dir = "none", ""
			in.Argv = nil
			in.ReadOnly = true
		}),
		"root_on_host": input(web, func(in *Input) {
			in.Host.UID, in.Host.GID, in.Host.Name = 0, 0, "root"
			in.IDMap = userns.IDMap{UIDs: []userns.Range{{ContainerID: 0, HostID: 300000, Size: 65536}}, GIDs: []userns.Range{{ContainerID: 0, HostID: 300000, Size: 65536}}}
			in.Tmpfs = []Tmpfs{{Target: "/scratch", SizeBytes: 4096}}
		}),
		"network_user": input(web, func(in *Input) {
			in.Profile.Network = config.Network{Mode: "user", Driver: "pasta", Publish: []config.Publish{{HostIP: "127.0.0.1", HostPort: 80, ContainerPort: 8080, Proto: "tcp"}}}
		}),
		"integrations": input(func(in *Input) {
			in.Profile.Integrations = config.Integrations{SSHAgent: config.SSHAgent{Keys: []config.SSHKey{{Text: "me"}, {Text: "./k.pub", Fingerprint: "SHA256:x"}}, Confirm: true},
				Git: config.Git{Identity: true, Credentials: []string{"example.com"}}, Browser: true, Notify: true, Wayland: true, X11: config.Untrusted, Audio: config.PlaySound, GPU: []string{"a/b=c"}}
			in.Devices = &integration.Devices{Nodes: []integration.Bound{{Source: "/dev/zero", Target: "/dev/gpu"}}, Env: []string{"GPU=1"},
				Mounts: []integration.Bound{{Source: "/usr/lib/libgpu.so", Target: "/usr/lib/libgpu.so"}, {Source: "/usr/lib/libgpu.so", Target: "/opt/libgpu.so"}}}
			in.Profile.Env.Pass = []string{"SSH_AUTH_SOCK"}
			setEnvironment(in, map[string]string{"SSH_AUTH_SOCK": "/tmp/ssh-1/agent", "SSH_ASKPASS": "/usr/bin/ask", "WAYLAND_DISPLAY": "wayland-1", "XDG_RUNTIME_DIR": "/run/user/1000", "DISPLAY": "unix:1.0"})
		}),
		"review": input(reviewed, func(in *Input) {
			in.Profile.Workspace.At = "/work"
			in.Profile.Mounts = []config.Mount{{Source: "/home/anna", Target: "/home/anna", Mode: "rw"}}
		}),
		"shell_at": input(func(in *Input) {
			in.Shell, in.Argv, in.Profile.Workspace.At = true, nil, "/work"
			in.Name, in.Hostname = "mine", "box"
		}),
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := json.Marshal(in.Profile)
			s := plan(t, in)
			// Another one for each architecture; package seccomp tests what it is.
			if f := &s.Security.Seccomp; f.Digest != digest.FromBytes(f.Program).String() || len(f.Program) == 0 {
				t.Errorf("filter %+v", f)
			} else {
				f.Digest, f.Program = "sha256:...", nil
			}
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			s = plan(t, in)
			s.Security.Seccomp.Digest, s.Security.Seccomp.Program = "sha256:...", nil
			again, _ := json.MarshalIndent(s, "", "  ")
			if after, _ := json.Marshal(in.Profile); !bytes.Equal(before, after) {
				t.Errorf("the profile was changed: %s, %s", before, after)
			}
			if !bytes.Equal(append(again, '\n'), got) {
				t.Errorf("the same input gave another Spec: %s", again)
			}
			file := filepath.Join("..", "testdata", "golden", "plan_"+name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (-update writes it anew):\n%s", file, got)
			}
		})
	}
}

func args(list []spec.Arg) []string {
	out := []string{}
	for _, a := range list {
		out = append(out, string(a))
	}
	return out
}

// Every sandbox has a filter; another one with what it depends on, and never one that starts nothing.
func TestPlanSeccomp(t *testing.T) {
	seen := map[string]string{}
	file := func(text string) func(*Input) {
		return func(in *Input) {
			in.Profile.Security.Seccomp = config.Seccomp{File: "/x/filter.json", Data: []byte(text)}
		}
	}
	for name, in := range map[string]Input{
		"usual":         input(),
		"nested":        input(func(in *Input) { in.Profile.Security.Nested = true }),
		"caps":          input(func(in *Input) { in.AddCaps = []string{"SYS_PTRACE"} }),
		"a file":        input(file(`{"defaultAction": "SCMP_ACT_ALLOW"}`)),
		"a file nested": input(file(`{"defaultAction": "SCMP_ACT_ALLOW"}`), func(in *Input) { in.Profile.Security.Nested = true }),
	} {
		f := plan(t, in).Security.Seccomp
		if other := seen[f.Digest]; other != "" || len(f.Program) == 0 {
			t.Errorf("%s has the filter of %s: %s", name, other, f.Digest)
		}
		seen[f.Digest] = name
	}
	a, b := plan(t, input()), plan(t, input(web, func(in *Input) { in.Profile.User = "me" }))
	if a.Security.Seccomp.Digest != b.Security.Seccomp.Digest || a.Security.Seccomp.Policy != "default" {
		t.Errorf("%s, %s", a.Security.Seccomp.Digest, b.Security.Seccomp.Digest)
	}
	for text, want := range map[string]string{
		`{"defaultAction": "SCMP_ACT_DENY"}`:  `filter.json: defaultAction: unknown action "SCMP_ACT_DENY"`,
		`{"defaultAction": "SCMP_ACT_ERRNO"}`: `filter.json: refuses what starting a command takes: brk, chdir,`,
	} {
		_, err := Plan(input(file(text)))
		var mistake *config.ProfileError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestPlanArgv(t *testing.T) {
	shell := func(in *Input) { in.Shell, in.UseEntrypoint = true, false }
	argv := func(a ...string) func(*Input) { return func(in *Input) { in.Argv = a } }
	entrypoint := func(a ...string) func(*Input) {
		return func(in *Input) { in.HasEntrypoint, in.Entrypoint = true, a }
	}
	bare := func(in *Input) { in.Image.Config = oci.ImageConfig{} }
	for name, c := range map[string]struct {
		in   Input
		want []string // nil: ErrNoCommand
	}{
		"a command gets the ENTRYPOINT":          {input(web, argv("a", "b")), []string{"/entry", "-x", "a", "b"}},
		"none: CMD":                              {input(web, argv()), []string{"/entry", "-x", "serve"}},
		"--entrypoint drops CMD":                 {input(web, argv(), entrypoint("/other")), []string{"/other"}},
		"--entrypoint and a command":             {input(web, argv("a"), entrypoint("/other", "-y")), []string{"/other", "-y", "a"}},
		"--entrypoint \"\"":                      {input(web, argv("a"), entrypoint()), []string{"a"}},
		"--entrypoint \"\" and nothing":          {input(web, argv(), entrypoint()), nil},
		"an image that names nothing":            {input(web, bare, argv()), nil},
		"the host, without a command":            {input(argv()), nil},
		"a shell is no ENTRYPOINT's":             {input(web, shell, argv()), []string{"/bin/sh", "-c", loginShell}},
		"a shell's command":                      {input(web, shell, argv("a")), []string{"a"}},
		"the profile's shell":                    {input(web, shell, argv(), func(in *Input) { in.Profile.Command = []string{"zsh", "-l"} }), []string{"zsh", "-l"}},
		"a command before the profile's":         {input(web, shell, argv("a"), func(in *Input) { in.Profile.Command = []string{"zsh"} }), []string{"a"}},
		"an argument that is empty or not UTF-8": {input(argv("", "\xff", "a b")), []string{"", "\xff", "a b"}},
		"the profile's command is no run's":      {input(web, argv(), func(in *Input) { in.Profile.Command = []string{"zsh"} }), []string{"/entry", "-x", "serve"}},
	} {
		t.Run(name, func(t *testing.T) {
			entry := append([]string(nil), c.in.Image.Config.Entrypoint...)
			s, err := Plan(c.in)
			if c.want == nil {
				if !errors.Is(err, ErrNoCommand) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(args(s.Process.Argv), c.want) {
				t.Errorf("%q, %v, want %q", s.Process.Argv, err, c.want)
			}
			if !reflect.DeepEqual(entry, append([]string(nil), c.in.Image.Config.Entrypoint...)) {
				t.Errorf("the image's ENTRYPOINT was changed to %q", c.in.Image.Config.Entrypoint)
			}
		})
	}
}

func TestPlanEnvironment(t *testing.T) {
	in := input(web, func(in *Input) {
		in.Profile.Env = config.Env{Set: map[string]string{"Z": "set", "LANG": "set", "A": "a=b"}, Pass: []string{"EDITOR", "APP", "ABSENT", "Z"}}
		setEnvironment(in, map[string]string{"EDITOR": "vi", "APP": "outside", "LANG": "outside", "NO_COLOR": "", "TERM": "\xff", "Z": "outside",
			"PATH": "/outside", "HOME": "/outside", "LD_PRELOAD": "/evil", "SSH_AUTH_SOCK": "/agent", "XDG_RUNTIME_DIR": "/run"})
	})
	want := []string{"PATH=/app/bin:/bin", "container=cove", "LANG=set", "APP=outside", "TERM=\xff", "NO_COLOR=", "EDITOR=vi", "Z=set", "A=a=b"}
	if got := args(plan(t, in).Process.Env); !reflect.DeepEqual(got, want) {
		t.Errorf("environment %q\nwant        %q", got, want)
	}
	if got := args(plan(t, input()).Process.Env); !reflect.DeepEqual(got, []string{"PATH=" + defaultPath, "container=cove"}) {
		t.Errorf("of nothing: %q", got)
	}
}

func TestPlanCwd(t *testing.T) {
	at := func(cwd string) func(*Input) { return func(in *Input) { in.Cwd = cwd } }
	for name, c := range map[string]struct {
		in   Input
		want spec.Path
		make bool
	}{
		"in the workspace":              {input(web), "/home/anna/My Project!/sub", false},
		"at its top":                    {input(web, at("/home/anna/My Project!")), "/home/anna/My Project!", false},
		"a name that only begins so":    {input(web, at("/home/anna/My Project!x")), "/srv", true},
		"above it":                      {input(web, at("/home/anna")), "/srv", true},
		"workspace elsewhere":           {input(web, func(in *Input) { in.Profile.Workspace.At = "/work" }), "/work/sub", false},
		"-w":                            {input(web, func(in *Input) { in.Workdir = "/elsewhere" }), "/elsewhere", false},
		"no workspace":                  {input(web, func(in *Input) { in.Profile.Workspace.Mode = "none" }), "/srv", true},
		"a relative WORKDIR":            {input(web, at("/"), func(in *Input) { in.Image.Config.WorkingDir = "a/../../../b" }), "/b", true},
		"the host, outside the project": {input(at("/")), "/root", false},
		"an image without a WORKDIR":    {input(web, at("/"), func(in *Input) { in.Image.Config.WorkingDir = "" }), "/", false},
	} {
		if s, err := Plan(c.in); err != nil || s.Process.Cwd != c.want || s.Process.MakeCwd != c.make {
			t.Errorf("%s: %q, %v, %v, want %q, %v", name, s.Process.Cwd, s.Process.MakeCwd, err, c.want, c.make)
		}
	}
}

func TestPlanUser(t *testing.T) {
	for name, c := range map[string]struct {
		in         Input
		user, home string
	}{
		"root":                 {input(web), "0:0", "/root"},
		"me":                   {input(web, as("me")), "1000:1000", "/home/anna"},
		"image":                {input(web, as("image")), "www:www", ""},
		"an image without one": {input(web, as("image"), func(in *Input) { in.Image.Config.User = "" }), "0", ""},
		"-u":                   {input(web, func(in *Input) { in.User = "bin:5" }), "bin:5", ""},
		"image with a home":    {input(web, as("image"), func(in *Input) { in.HomeDir = "/h" }), "www:www", "/home/user"},
	} {
		if p := plan(t, c.in).Process; p.User != c.user || string(p.Home) != c.home {
			t.Errorf("%s: user %q, home %q, want %q, %q", name, p.User, p.Home, c.user, c.home)
		}
	}
	for _, change := range []func(*Input){
		func(in *Input) { in.Host.Name = "a:b" },
		func(in *Input) { in.HostHome = "/home/a\nroot::0:0" },
		func(in *Input) { in.HostHome = "/home/a:b" },
	} {
		if s, err := Plan(input(as("me"), change)); err == nil {
			t.Errorf("a line for /etc/passwd of other fields: %+v", s.Files)
		}
	}
}

func TestPlanRoot(t *testing.T) {
	noOverlay := func(in *Input) { in.Host.NativeOverlay = host.Fact{Why: "EINVAL"} }
	for name, c := range map[string]struct {
		in       Input
		kind     spec.RootKind
		readOnly bool
		warning  string
	}{
		"host":                {input(), spec.RootHost, true, ""},
		"overlay":             {input(web), spec.RootOverlay, false, ""},
		"read-only":           {input(web, func(in *Input) { in.ReadOnly = true }), spec.RootOverlay, true, ""},
		"fuse":                {input(web, noOverlay), spec.RootFuse, false, "slower"},
		"no program for fuse": {input(web, noOverlay, func(in *Input) { in.Host.Helpers.FuseOverlayfs = "" }), spec.RootCopy, false, "copied"},
		"no /dev/fuse":        {input(web, noOverlay, func(in *Input) { in.Host.FuseMount = host.Fact{} }), spec.RootCopy, false, "copied"},
		"one id": {input(web, func(in *Input) { in.IDMap = userns.Single(1000, 1000, 0, 0) }), spec.RootOverlay, false,
			"only one id"},
	} {
		s := plan(t, c.in)
		if s.Root.Kind != c.kind || s.Root.ReadOnly != c.readOnly {
			t.Errorf("%s: %+v", name, s.Root)
		}
		if got := strings.Join(s.Lost, "\n"); (c.warning == "") != (got == "") || !strings.Contains(got, c.warning) {
			t.Errorf("%s: warnings %q, want %q", name, got, c.warning)
		}
	}
}

func TestPlanCaps(t *testing.T) {
	caps := func(list ...string) func(*Input) { return func(in *Input) { in.Profile.Security.Caps = list } }
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"default": {input(), "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_SETFCAP"},
		"none":    {input(caps()), ""},
		"added":   {input(caps(), func(in *Input) { in.AddCaps = []string{"cap_sys_admin"} }), "CAP_SYS_ADMIN"},
		"dropped": {input(caps("CHOWN", "KILL"), func(in *Input) { in.DropCaps = []string{"chown"} }), "CAP_KILL"},
		"all but": {input(func(in *Input) { in.DropCaps, in.AddCaps = []string{"all"}, []string{"KILL"} }), "CAP_KILL"},
	} {
		if got := strings.Join(plan(t, c.in).Security.Caps, " "); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, err := Plan(input(func(in *Input) { in.AddCaps = []string{"NOSUCH"} })); err == nil {
		t.Error("an unknown capability: no error")
	}
}

// Cove's own network is closed out here: no capability inside opens it.
func TestPlanBuiltinNetwork(t *testing.T) {
	s, err := Plan(input(func(in *Input) {
		in.Profile.Network = config.Network{Mode: "user", Driver: "auto", Allow: []config.Egress{
			{Name: "example.com", Below: true, FromPort: 443, ToPort: 443, Proto: "tcp"}, {Address: []byte{10, 1, 0, 0}, Bits: 16, Proto: "udp"},
		}, Deny: []config.Egress{{Name: "bad.example.com", Proto: "tcp"}}, HostPorts: []uint16{5432}}
		in.AddCaps = []string{"NET_ADMIN", "NET_RAW"}
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := spec.Network{Mode: "user", Driver: "builtin", Egress: spec.Egress{Listed: true,
		Allow: []spec.Reach{{Text: "*.example.com:443", Name: "example.com", Below: true, FromPort: 443, ToPort: 443, Proto: "tcp"},
			{Text: "10.1.0.0/16/udp", Prefix: spec.Prefix{IP: spec.IP{10, 1, 0, 0}, Bits: 16}, Proto: "udp"}},
		Deny: []spec.Reach{{Text: "bad.example.com", Name: "bad.example.com", Proto: "tcp"}}, HostPorts: []spec.HostPort{5432}}}
	if !reflect.DeepEqual(s.Network, want) {
		t.Errorf("%+v", s.Network)
	}
	s, err = Plan(input(func(in *Input) { in.Profile.Network = config.Network{Mode: "user", Driver: "builtin"} }))
	if err != nil || s.Network.Egress.Listed {
		t.Errorf("without a list: %v", err)
	}
	s, err = Plan(input(func(in *Input) {
		in.Profile.Network = config.Network{Mode: "user", Driver: "auto", Allow: []config.Egress{}}
	}))
	if err != nil || !s.Network.Egress.Listed {
		t.Errorf("with an empty list: %v", err)
	}
}

// A protection that would be lost is an error, and only --best-effort makes it a warning.
func TestPlanRefusals(t *testing.T) {
	network := func(mode string) func(*Input) { return func(in *Input) { in.Profile.Network.Mode = mode } }
	addCaps := func(list ...string) func(*Input) { return func(in *Input) { in.AddCaps = list } }
	helper := func(in *Input) {
		in.Profile.Network.Driver, in.Host.Helpers.Slirp4netns = "slirp4netns", "/usr/bin/slirp4netns"
	}
	oldKernel := func(in *Input) { in.Host.LandlockScope = false }
	root := func(in *Input) { in.Host.UID, in.IDMap = 0, userns.Single(0, 0, 0, 0) }
	for name, c := range map[string]struct {
		change     []func(*Input)
		bestEffort bool // makes it a warning
	}{
		"user network, NET_ADMIN":        {[]func(*Input){network("user"), helper, addCaps("NET_ADMIN")}, false},
		"user network, all":              {[]func(*Input){network("user"), helper, addCaps("all")}, false},
		"user network, NET_RAW":          {[]func(*Input){network("user"), helper, addCaps("NET_RAW")}, false},
		"host network without the scope": {[]func(*Input){network("host"), oldKernel}, true},
		"root inside is root":            {[]func(*Input){root}, false},
		"a group inside is root's": {[]func(*Input){func(in *Input) {
			in.Host.UID, in.IDMap.GIDs = 0, []userns.Range{{ContainerID: 0, HostID: 5, Size: 1}, {ContainerID: 1, HostID: 0, Size: 1}}
		}}, false},
	} {
		var lost *ProtectionError
		if s, err := Plan(input(c.change...)); !errors.As(err, &lost) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		s, err := Plan(input(append(c.change, func(in *Input) { in.BestEffort = true })...))
		if c.bestEffort && (err != nil || len(s.Warnings) == 0) || !c.bestEffort && !errors.As(err, &lost) {
			t.Errorf("%s, with --best-effort: %v", name, err)
		}
	}
	// An ordinary user whose file grants 0 is root by the file's own word.
	if s := plan(t, input(network("host"))); !s.Security.ScopeAbstract {
		t.Error("network host: abstract sockets are open")
	}
	publish := func(in *Input) { in.Profile.Network.Publish = []config.Publish{{HostPort: 1, ContainerPort: 1}} }
	if _, err := Plan(input(network("host"), publish)); err == nil {
		t.Error("network host and publish: no error")
	}
}

func TestPlanMounts(t *testing.T) {
	mount := func(list ...config.Mount) func(*Input) { return func(in *Input) { in.Profile.Mounts = list } }
	in := input(web, mount(
		config.Mount{Source: "/a", Target: "/deep/er/than", Mode: "ro"},
		config.Mount{Source: "/b", Target: "/deep", Mode: "rw"},
		config.Mount{Source: "/home/anna/My Project!/c", Target: "~/c", Mode: "ro", Within: true},
	), func(in *Input) { in.Tmpfs = []Tmpfs{{Target: "/deep/er"}, {Target: "~/t", Mode: 0o700, SizeBytes: 5}} })
	var got []string
	for _, m := range plan(t, in).Mounts {
		got = append(got, strings.Join([]string{string(m.Kind), string(m.Source), string(m.Beneath), string(m.Target)}, "|"))
	}
	want := []string{"bind|/b||/deep", "bind|/home/anna/My Project!/c|/home/anna/My Project!|/root/c", "tmpfs|||/deep/er", "tmpfs|||/root/t",
		"bind|/home/anna/My Project!||/home/anna/My Project!", "bind|/a||/deep/er/than"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, target := range []string{"/", "/proc", "/proc/self", "/sys", "/sys/fs/cgroup", "/dev", "relative", "", "/x/../proc/1", "/../", "/./sys"} {
		if s, err := Plan(input(mount(config.Mount{Source: "/a", Target: target, Mode: "ro"}))); err == nil {
			t.Errorf("target %q: %+v", target, s.Mounts)
		}
	}
	for name, change := range map[string]func(*Input){
		"the same target twice":   mount(config.Mount{Source: "/a", Target: "/t"}, config.Mount{Source: "/b", Target: "/t"}),
		"one spelled another way": mount(config.Mount{Source: "/a", Target: "/t"}, config.Mount{Source: "/b", Target: "/x/../t/"}),
		"a tmpfs on a mount": func(in *Input) {
			mount(config.Mount{Source: "/a", Target: "/t"})(in)
			in.Tmpfs = []Tmpfs{{Target: "/t/"}}
		},
		"~ that only an image knows": func(in *Input) { web(in); as("image")(in); mount(config.Mount{Source: "/a", Target: "~/x"})(in) },
		"a workspace on /proc":       func(in *Input) { in.Profile.Workspace.At = "/proc/w" },
		"a workspace on /":           func(in *Input) { in.Profile.Workspace.At = "/" },
	} {
		if s, err := Plan(input(change)); err == nil {
			t.Errorf("%s: %+v", name, s.Mounts)
		}
	}
}

// How a view is made, and that one which is there stays what it is.
func TestPlanReview(t *testing.T) {
	noOverlay := func(in *Input) { in.Host.NativeOverlay = host.Fact{Why: "EINVAL"} }
	noFuse := func(in *Input) { in.Host.Helpers.FuseOverlayfs = "" }
	nested := func(in *Input) { in.Review.Nested, in.Review.Overlay = []string{"a", "a/b"}, host.Fact{} }
	file := func(in *Input) { in.Review.Files, in.Review.Overlay = []string{".env"}, host.Fact{} }
	odd := func(in *Input) { in.Review.Overlay = host.Fact{Why: "EINVAL"} }
	kept := func(kind spec.RootKind) func(*Input) { return func(in *Input) { in.Review.Kind = kind } }
	for name, c := range map[string]struct {
		in   Input
		kind spec.RootKind // "": an error
		lost string
	}{
		"overlay":                    {input(reviewed), spec.RootOverlay, ""},
		"no overlay":                 {input(reviewed, noOverlay), spec.RootFuse, "EINVAL"},
		"neither":                    {input(reviewed, noOverlay, noFuse), spec.RootCopy, "EINVAL"},
		"an odd file system":         {input(reviewed, odd), spec.RootFuse, "EINVAL"},
		"mounts in it":               {input(reviewed, nested), spec.RootFuse, "mounted inside"},
		"mounts in it, no fuse":      {input(reviewed, nested, noFuse), spec.RootCopy, "mounted inside"},
		"a file in it":               {input(reviewed, file), spec.RootFuse, "mounted inside"},
		"a copy of before":           {input(reviewed, kept(spec.RootCopy)), spec.RootCopy, ""},
		"fuse of before":             {input(reviewed, kept(spec.RootFuse)), spec.RootFuse, ""},
		"fuse of before, gone":       {input(reviewed, kept(spec.RootFuse), noFuse), "", ""},
		"an overlay of before":       {input(reviewed, kept(spec.RootOverlay), odd), spec.RootOverlay, ""},
		"an overlay of before, gone": {input(reviewed, kept(spec.RootOverlay), noOverlay), "", ""},
		"root": {input(reviewed, func(in *Input) {
			in.Host.UID, in.Host.GID = 0, 0
			in.IDMap = userns.IDMap{UIDs: []userns.Range{{ContainerID: 0, HostID: 300000, Size: 65536}}, GIDs: []userns.Range{{ContainerID: 0, HostID: 300000, Size: 65536}}}
		}), "", ""},
	} {
		s, err := Plan(c.in)
		if c.kind == "" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		views := s.Views()
		if len(views) != 1+len(c.in.Review.Nested) || s.Protect != nil {
			t.Errorf("%s: %+v, %+v", name, views, s.Protect)
		}
		for _, m := range s.Mounts {
			if m.Kind == spec.MountView && (m.View.Kind != c.kind || m.ReadOnly) || m.Kind == spec.MountBind && !m.ReadOnly {
				t.Errorf("%s: %+v", name, m)
			}
		}
		if got := strings.Join(s.Lost, "\n"); (c.lost == "") != (got == "") || !strings.Contains(got, c.lost) {
			t.Errorf("%s: lost %q", name, got)
		}
	}
}

func TestPlanWorkspace(t *testing.T) {
	mode := func(mode string) func(*Input) { return func(in *Input) { in.Profile.Workspace.Mode = mode } }
	find := func(s *spec.Spec) *spec.Mount {
		for i, m := range s.Mounts {
			if strings.HasPrefix(string(m.Source), "/home/anna") {
				return &s.Mounts[i]
			}
		}
		return nil
	}
	if s := plan(t, input()); find(s) == nil || find(s).ReadOnly || s.Protect == nil || len(s.Protect.Paths) != len(config.DefaultProtect()) {
		t.Errorf("rw: %+v, %+v", find(s), s.Protect)
	}
	if s := plan(t, input(mode("ro"))); find(s) == nil || !find(s).ReadOnly || s.Protect != nil {
		t.Errorf("ro: %+v, %+v", find(s), s.Protect)
	}
	if s := plan(t, input(mode("none"))); find(s) != nil || s.Protect != nil {
		t.Errorf("none: %+v, %+v", find(s), s.Protect)
	}
	if s := plan(t, input(func(in *Input) { in.Profile.Dir = "" })); find(s) != nil || s.Protect != nil {
		t.Errorf("no project: %+v, %+v", find(s), s.Protect)
	}
	if s := plan(t, input(func(in *Input) { in.Profile.Workspace.Protect = nil })); s.Protect != nil {
		t.Errorf("nothing to protect: %+v", s.Protect)
	}
	if s := plan(t, input(func(in *Input) { in.Profile.Workspace.At = "/w" })); s.Protect.Workspace != "/w" || s.Protect.Source != "/home/anna/My Project!" {
		t.Errorf("at /w: %+v", s.Protect)
	}
}

func TestPlanNames(t *testing.T) {
	for dir, want := range map[string]string{
		"/home/anna/My Project!": "my-project-012345", "/x/\xff\xfe": "cove-012345", "/x/---": "cove-012345", "": "cove-012345",
		"/x/" + strings.Repeat("a", 100): strings.Repeat("a", 40) + "-012345", "/x/a.b_c": "a-b-c-012345", "/x/\x1b[31m": "31m-012345",
	} {
		s := plan(t, input(func(in *Input) { in.Profile.Dir, in.Cwd = dir, "/" }))
		if s.Name != want || len(s.Hostname) > 63 || strings.Trim(s.Hostname, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Errorf("%q: name %q, hostname %q, want %q", dir, s.Name, s.Hostname, want)
		}
	}
}

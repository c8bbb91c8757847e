package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file beside the profiles.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("..", "testdata", "profiles", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what it was:\n%s", name, got)
	}
}

// room is a home with a project in it.
type room struct {
	t             *testing.T
	home, project string
	env           map[string]string
}

func newRoom(t *testing.T) *room {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, home: home, project: filepath.Join(home, "src", "project"), env: map[string]string{"HOME": home}}
	r.dir(r.project)
	return r
}

func (r *room) dir(path string) {
	r.t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) write(path, text string) string {
	r.t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.project, path)
	}
	r.dir(filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *room) opts() LoadOptions {
	return LoadOptions{Cwd: r.project, Home: r.home, Getenv: func(name string) string { return r.env[name] }}
}

func (r *room) load(opts LoadOptions) (*Profile, []Warning) {
	r.t.Helper()
	p, warnings, err := Load(opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return p, warnings
}

// profile loads a project with this profile.
func (r *room) profile(text string) *Profile {
	r.t.Helper()
	r.write(FileName, text)
	p, warnings := r.load(r.opts())
	if len(warnings) > 0 {
		r.t.Fatalf("warnings: %v", warnings)
	}
	return p
}

func TestGolden(t *testing.T) {
	for _, name := range []string{"wrong_values", "wrong_syntax", "wrong_together"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("..", "testdata", "profiles", name+".toml"))
			if err != nil {
				t.Fatal(err)
			}
			r := newRoom(t)
			r.write(FileName, string(data))
			_, _, err = Load(r.opts())
			var pe *ProfileError
			if !errors.As(err, &pe) {
				t.Fatalf("error is %v", err)
			}
			if pe.File != filepath.Join(r.project, FileName) {
				t.Errorf("file is %q", pe.File)
			}
			golden(t, name+".golden", err.Error()+"\n")
		})
	}
}

func TestFull(t *testing.T) {
	data, err := os.ReadFile("../testdata/profiles/full.toml")
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(t)
	r.write("data, with: odd\\chars\n/x", "")
	filter, err := os.ReadFile("../testdata/profiles/seccomp.json")
	if err != nil {
		t.Fatal(err)
	}
	r.write("seccomp.json", string(filter))
	key := r.write("keys/release.pub", "a key")
	r.write(r.home+"/.dots/vimrc", "")
	r.write(r.home+"/.config/x", "")
	if err := os.Symlink(".dots/vimrc", r.home+"/.vimrc"); err != nil {
		t.Fatal(err)
	}
	p := r.profile(string(data))
	want := &Profile{
		File: r.project + "/cove.toml", Dir: r.project,
		Image: "docker.io/library/golang:1.26-bookworm", Command: []string{"bash", "-l"}, User: "me",
		Setup: []string{"apt-get update && apt-get install -y make", "printf '\\033[2J\n'"}, Persist: true,
		SetupNetwork: []Egress{{Name: "debian.org", Below: true, FromPort: 80, ToPort: 80, Proto: "tcp"}},
		Workspace:    Workspace{Mode: "rw", Repository: "auto", At: "/src", Protect: []string{".git/hooks", "cove.toml"}},
		Verify:       []Demand{{Keys: []Key{{File: key, Data: []byte("a key")}}, Origin: Origin{Kind: FromProfile, File: r.project + "/cove.toml", Line: 2, Col: 11}}},
		Home: Home{Mode: "temp", Dotfiles: []Dotfile{{".vimrc", r.home + "/.dots/vimrc", r.home}, {".config", r.home + "/.config", r.home},
			{Name: ".docker/config.json", Home: r.home}}},
		Mounts: []Mount{
			{Source: r.home + "/.cache/go-build", Target: "~/.cache/go-build", Mode: "rw"},
			{Source: r.project + "/data, with: odd\\chars\n", Target: "/data", Mode: "ro", Within: true}},
		Env: Env{Set: map[string]string{"CGO_ENABLED": "0"}, Pass: []string{"EDITOR"}},
		Network: Network{Mode: "user", Driver: "builtin", Publish: []Publish{
			{"127.0.0.1", 8080, 8080, "tcp"}, {"127.0.0.1", 5432, 5432, "tcp"}, {"::1", 8081, 81, "udp"}}, Allow: []Egress{
			{Name: "proxy.golang.org", Proto: "tcp"}, {Name: "debian.org", Below: true, FromPort: 80, ToPort: 80, Proto: "tcp"},
			{Address: []byte{10, 1, 0, 0}, Bits: 16, FromPort: 5432, ToPort: 5432, Proto: "tcp"},
			{Address: []byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 0}, Bits: 32, FromPort: 8000, ToPort: 8100, Proto: "udp"},
		}, Deny: []Egress{{Name: "ads.example.com", Proto: "tcp"}}, HostPorts: []uint16{5432}, Proxy: true},
		Limits: Limits{MemoryBytes: 2 << 30, CPUs: 1.5, PIDs: 4096, Timeout: 90 * time.Minute},
		Security: Security{Caps: []string{"default", "SYS_PTRACE"}, NewPrivileges: true, Nested: true,
			Seccomp: Seccomp{File: r.project + "/seccomp.json", Data: filter}},
		Integrations: Integrations{SSHAgent: SSHAgent{Confirm: true, Keys: []SSHKey{{Text: "me@laptop"},
			{Text: "SHA256:dK8IRXEXubABSK1VzMS+UBl5eeXZUsdX6ETAXD+2Fis", Fingerprint: "SHA256:dK8IRXEXubABSK1VzMS+UBl5eeXZUsdX6ETAXD+2Fis"}}},
			Git: Git{Identity: true, Credentials: []string{"github.com", "git.example.com:8443"}}, Browser: true, Notify: true, Wayland: true, X11: Trusted, Audio: RecordSound, GPU: []string{"dri", "nvidia.com/gpu=all"}},
	}
	want.own, want.owners, want.imageText = p.own, []int{os.Geteuid()}, want.Image
	want.filed = p.filed
	want.Origin, want.hash, want.base, want.home, want.cwd = p.Origin, hashOf(data), r.project, r.home, r.project
	if !reflect.DeepEqual(p, want) {
		t.Errorf("loaded\n%+v, want\n%+v", p, want)
	}
	var shown strings.Builder
	for _, s := range p.Show() {
		fmt.Fprintf(&shown, "%s  # %s\n", s, s.Origin)
	}
	for _, g := range p.Grants() {
		fmt.Fprintf(&shown, "grant %s (%s, %d:%d): %s\n", g.Key, g.Kind, g.Origin.Line, g.Origin.Col, g.Text)
	}
	golden(t, "full.golden", strings.ReplaceAll(shown.String(), r.home, "HOME"))
}

func TestDefaults(t *testing.T) {
	r := newRoom(t)
	p, warnings := r.load(r.opts())
	if len(warnings) != 0 || p.File != "" || p.Dir != r.project || p.Image != "host" || p.User != "root" || p.Home.Mode != "temp" ||
		p.Workspace.Mode != "rw" || p.Network.Mode != "none" || p.Hash() != "" || len(p.Grants()) != 0 {
		t.Errorf("without a profile: %+v %v", p, warnings)
	}
	if p = r.profile(""); p.Home.Mode != "project" || p.File == "" || p.Hash() == "" {
		t.Errorf("with an empty profile: %+v", p)
	}
	for _, s := range p.Show() {
		if s.Origin.Kind != FromDefault {
			t.Errorf("%s comes from %s", s.Key, s.Origin)
		}
	}
}

// Defaults below, then the user's file, then the project's, then flags; lists are replaced, variables merged, mounts
// appended.
func TestLayers(t *testing.T) {
	r := newRoom(t)
	mine := r.write(r.home+"/.config/cove/config.toml", `
user = "me"
image = "debian:12"
[env]
set = { A = "user", B = "user", C = "user", D = "user" }
pass = ["X", "Y"]
[[mount]]
source = "~/one"
target = "/one"
[[mount]]
source = "~/two"
target = "/two"
[network]
mode = "user"
publish = ["80"]
`)
	profile := r.write(FileName, `
image = "host"
[env]
set = { B = "project", Y = "project" }
pass = ["C"]
[[mount]]
source = "./mine"
target = "/two"
mode = "ro"
`)
	opts := r.opts()
	opts.Flags = []Flag{
		{Name: "-e", Key: "env.set.B", Value: "flag"},
		{Name: "-e", Key: "env.pass", Value: []string{"D", "C"}, Add: true},
		{Name: "-v", Key: "mount", Value: Mount{Source: "sub/..", Target: "/one", Mode: "ro"}},
		{Name: "-v", Key: "mount", Value: Mount{Source: "./sub", Target: "/three"}},
		{Name: "-p", Key: "network.publish", Value: []string{"81"}, Add: true},
	}
	_, _, err := Load(opts)
	if want := `-v: mount.source = "sub/..": want an absolute path, ~/... or ./...; did you mean "./sub/.."?`; err == nil || err.Error() != want {
		t.Fatalf("error is %v, want %s", err, want)
	}
	opts.Flags[2].Value = Mount{Source: "/usr", Target: "/one", Mode: "ro"}
	p, _ := r.load(opts)
	if p.User != "me" || p.Image != "host" {
		t.Errorf("user %q image %q", p.User, p.Image)
	}
	if want := map[string]string{"A": "user", "B": "flag", "Y": "project"}; !reflect.DeepEqual(p.Env.Set, want) {
		t.Errorf("env.set is %v, want %v", p.Env.Set, want)
	}
	if want := []string{"C", "D"}; !reflect.DeepEqual(p.Env.Pass, want) {
		t.Errorf("env.pass is %v, want %v", p.Env.Pass, want)
	}
	want := []Mount{{r.project + "/mine", "/two", "ro", true}, {"/usr", "/one", "ro", false}, {r.project + "/sub", "/three", "rw", true}}
	if !reflect.DeepEqual(p.Mounts, want) {
		t.Errorf("mounts are %v, want %v", p.Mounts, want)
	}
	for key, want := range map[string]Origin{
		"user":               {Kind: FromUser, File: mine, Line: 2, Col: 8},
		"image":              {Kind: FromProfile, File: profile, Line: 2, Col: 9},
		"env.set.A":          {Kind: FromUser, File: mine, Line: 5, Col: 13},
		"env.set.B":          {Kind: FromFlag, Flag: "-e"},
		"env.pass[0]":        {Kind: FromProfile, File: profile, Line: 5, Col: 9},
		"env.pass[1]":        {Kind: FromFlag, Flag: "-e"},
		"mount[0].target":    {Kind: FromProfile, File: profile, Line: 8, Col: 10},
		"mount[1]":           {Kind: FromFlag, Flag: "-v"},
		"network.publish[0]": {Kind: FromUser, File: mine, Line: 15, Col: 12},
		"network.publish[1]": {Kind: FromFlag, Flag: "-p"},
		"home.mode":          {Kind: FromDefault},
	} {
		if got := p.OriginOf(key); got != want {
			t.Errorf("%s comes from %+v, want %+v", key, got, want)
		}
	}
	grants := p.Grants()
	if len(grants) != 1 || grants[0].Key != "env.pass[0]" {
		t.Errorf("grants are %v", grants)
	}

	// The network taken away by hand takes the ports of the files with it, said.
	opts.Flags = []Flag{{Name: "--network", Key: "network.mode", Value: "none"}}
	p, warnings := r.load(opts)
	if len(p.Network.Publish) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0].Text, "127.0.0.1:80:80/tcp") {
		t.Errorf("publish is %v, warnings %v", p.Network.Publish, warnings)
	}
	opts.Flags = append(opts.Flags, Flag{Name: "-p", Key: "network.publish", Value: []string{"82"}, Add: true})
	if _, _, err := Load(opts); err == nil || !strings.Contains(err.Error(), `-p: network.publish[0] = "127.0.0.1:82:82/tcp": needs`) {
		t.Errorf("error is %v", err)
	}
}

func TestUserConfig(t *testing.T) {
	r := newRoom(t)
	file := r.write(r.home+"/.config/cove/config.toml", "[[mount]]\nsource = \"./x\"\ntarget = \"/x\"\n")
	r.write(FileName, "imag = 1\n")
	opts := r.opts()
	opts.Flags = []Flag{{Name: "--user", Key: "user", Value: "rot"}}
	_, _, err := Load(opts)
	want := file + `:2:10: mount[0].source = "./x": want an absolute path or ~/...; a relative one has no meaning here` + "\n" +
		`cove.toml:1:1: unknown key "imag"; did you mean "image"? (image, verify, command, user, setup, setup_network, persist, workspace, home, mount, env, network, limits, security, host)` + "\n" +
		`--user: user = "rot": unknown user; did you mean "root"? (root, me, image)`
	if err == nil || err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
	// One that anybody may write is not believed, and not passed over either.
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(r.opts()); err == nil || !strings.Contains(err.Error(), "may be written by everybody") {
		t.Errorf("error is %v", err)
	}
	// A relative XDG_CONFIG_HOME is as good as none.
	r.env["XDG_CONFIG_HOME"] = "x"
	if _, _, err := Load(r.opts()); err == nil || !strings.Contains(err.Error(), "may be written by everybody") {
		t.Errorf("error is %v", err)
	}
	r.env["XDG_CONFIG_HOME"] = r.home + "/else"
	r.write(FileName, "")
	r.load(r.opts())
}

func TestDiscovery(t *testing.T) {
	r := newRoom(t)
	sub := filepath.Join(r.project, "a", "b")
	r.dir(sub)
	opts := r.opts()
	opts.Cwd = sub
	above := r.write(filepath.Join(r.home, "src", FileName), "")
	if p, _ := r.load(opts); p.File != above || p.Dir != filepath.Dir(above) {
		t.Errorf("found %q in %q", p.File, p.Dir)
	}
	profile := r.write(FileName, "")
	if p, _ := r.load(opts); p.File != profile || p.Dir != r.project {
		t.Errorf("found %q in %q", p.File, p.Dir)
	}
	// A link leads to the same place.
	link := filepath.Join(r.home, "link")
	if err := os.Symlink(sub, link); err != nil {
		t.Fatal(err)
	}
	opts.Cwd = link
	if p, _ := r.load(opts); p.File != profile {
		t.Errorf("found %q", p.File)
	}
	opts.ProfileFlag = "../../../cove.toml"
	if p, _ := r.load(opts); p.File != above {
		t.Errorf("found %q", p.File)
	}

	r.write(filepath.Join(r.home, FileName), "image = 5")
	for _, cwd := range []string{r.home, filepath.Join(r.home, "other")} {
		r.dir(cwd)
		opts := r.opts()
		opts.Cwd = cwd
		p, warnings := r.load(opts)
		text := fmt.Sprint(warnings)
		if p.File != "" || !strings.Contains(text, "which is never a workspace") {
			t.Errorf("in %s: file %q, warnings %v", cwd, p.File, warnings)
		}
		if atHome := cwd == r.home; atHome != (p.Dir == "") || atHome != (p.Workspace.Mode == "none") || atHome != strings.Contains(text, "no workspace") {
			t.Errorf("in %s: dir %q, mode %q, warnings %v", cwd, p.Dir, p.Workspace.Mode, warnings)
		}
	}
	opts = r.opts()
	opts.Cwd = "/"
	if p, warnings := r.load(opts); p.Dir != "" || p.Workspace.Mode != "none" || len(warnings) != 1 {
		t.Errorf("in /: dir %q, mode %q, warnings %v", p.Dir, p.Workspace.Mode, warnings)
	}
	opts.Flags = []Flag{{Name: "--workspace", Key: "workspace.mode", Value: "rw"}}
	if _, _, err := Load(opts); err == nil || err.Error() != `--workspace: workspace.mode = "rw": / is the root folder, which is never a workspace (none)` {
		t.Errorf("error is %v", err)
	}
	opts = r.opts()
	opts.Cwd, opts.Home, opts.AccountHome = filepath.Dir(r.project), r.project, r.project
	if p, _ := r.load(opts); p.Dir != "" {
		t.Errorf("above home: dir %q", p.Dir)
	}
}

// What others could have written is passed over, and said; by name it is an error.
func TestNotOurs(t *testing.T) {
	for name, spoil := range map[string]func(r *room, file string) error{
		"file anybody may write":   func(r *room, file string) error { return os.Chmod(file, 0o646) },
		"folder anybody may write": func(r *room, file string) error { return os.Chmod(r.project, 0o777) },
		"fifo":                     func(r *room, file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) },
		"folder":                   func(r *room, file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			file := r.write(FileName, "")
			if err := spoil(r, file); err != nil {
				t.Fatal(err)
			}
			done := time.AfterFunc(20*time.Second, func() { panic("reading the profile hangs") })
			defer done.Stop()
			p, warnings := r.load(r.opts())
			if p.File != "" || len(warnings) != 1 || !strings.Contains(warnings[0].Text, file+" is ignored") {
				t.Errorf("file %q, warnings %v", p.File, warnings)
			}
			opts := r.opts()
			opts.ProfileFlag = FileName
			if _, _, err := Load(opts); err == nil || !strings.Contains(err.Error(), "read profile "+file) {
				t.Errorf("error is %v", err)
			}
		})
	}
	r := newRoom(t)
	file := r.write(FileName, "")
	opts := r.opts()
	somebody := os.Geteuid() + 1
	opts.uid = &somebody
	p, warnings := r.load(opts)
	if p.File != "" || len(warnings) != 1 || !strings.Contains(warnings[0].Text, fmt.Sprintf("belongs to user %d", os.Geteuid())) {
		t.Errorf("file %q, warnings %v", p.File, warnings)
	}
	opts.ProfileFlag = file
	if _, _, err := Load(opts); (err == nil) != (os.Geteuid() == 0) {
		t.Errorf("named, and owned by %d: %v", os.Geteuid(), err)
	}
	// A link in a repository would be a profile whose text can be changed from inside.
	real := r.write("sub/real.toml", "")
	if err := errors.Join(os.Remove(file), os.Symlink(real, file)); err != nil {
		t.Fatal(err)
	}
	if p, warnings := r.load(r.opts()); p.File != "" || len(warnings) != 1 || !strings.Contains(warnings[0].Text, "symbolic link") {
		t.Errorf("file %q, warnings %v", p.File, warnings)
	}
	opts = r.opts()
	opts.ProfileFlag = file
	if p, _ := r.load(opts); p.File != real || p.Dir != filepath.Dir(real) || !slices.Equal(p.Workspace.Protect, append(DefaultProtect(), "real.toml", "real.toml.lock")) {
		t.Errorf("named: file %q, dir %q, protect %q", p.File, p.Dir, p.Workspace.Protect)
	}
}

func TestOddFiles(t *testing.T) {
	for text, want := range map[string]string{
		"image = \"\xff\"":                 "cove.toml:1:10: byte 0xff is not valid UTF-8",
		"# ok\nuser = \"a\x00b\"":          "cove.toml:2:10: control character '\\x00'; in a string it is written \\u0000",
		"\ufeffimagee = 1":                 `cove.toml:1:1: unknown key "imagee"; did you mean "image"? (image, verify, command, user, setup, setup_network, persist, workspace, home, mount, env, network, limits, security, host)`,
		strings.Repeat("#", maxSize+1):     "read profile HOME/src/project/cove.toml: larger than 1048576 bytes",
		"image = \"a\\u001b[31m\\u202eb\"": "cove.toml:1:9: image = \"a\\u001B[31m\\u202Eb\": \"a\\x1b[31m\\u202eb\" is not part of an image's name (a registry reference, host, oci:, oci-archive:, docker-archive:, dir:)",
		"\"\\u001b[2J\" = 1":               `cove.toml:1:1: unknown key "\x1b[2J" (image, verify, command, user, setup, setup_network, persist, workspace, home, mount, env, network, limits, security, host)`,
		"protect = []":                     `cove.toml:1:1: unknown key "protect"; did you mean "workspace.protect"? (image, verify, command, user, setup, setup_network, persist, workspace, home, mount, env, network, limits, security, host)`,
		"mount = 5":                        "cove.toml:1:9: mount: want [[mount]] tables, not an integer",
		"[mount]\nsource = 1":              "cove.toml:1:1: mount: want [[mount]] tables, not a table",
		"workspace = \"rw\"":               "cove.toml:1:13: workspace: want a table [workspace], not a string",
		"env.set = []":                     "cove.toml:1:11: env.set = []: want a table such as { CGO_ENABLED = \"0\" }, not an array",
		"image = \"http://x/y\"":           "cove.toml:1:9: image = \"http://x/y\": http: is not known (a registry reference, host, oci:, oci-archive:, docker-archive:, dir:)",
		"image = \"Debian:12\"":            "cove.toml:1:9: image = \"Debian:12\": \"Debian\": the name of an image is in lower case",
		"image = \"a@sha256:xyz\"":         "cove.toml:1:9: image = \"a@sha256:xyz\": \"sha256:xyz\" is not a digest: sha256: and 64 hexadecimal digits, or sha512: and 128",
	} {
		r := newRoom(t)
		r.write(FileName, text)
		_, _, err := Load(r.opts())
		if err == nil || strings.ReplaceAll(err.Error(), r.home, "HOME") != want {
			t.Errorf("%.40q gives\n%v, want\n%s", text, err, want)
		}
	}
}

// What is opened is what is looked at, and it is read once: the hash is of the bytes that were understood.
func TestReadOnce(t *testing.T) {
	r := newRoom(t)
	p := r.profile("user = \"me\"\n")
	r.write(FileName, "user = \"image\"\n")
	if p.Hash() != hashOf([]byte("user = \"me\"\n")) {
		t.Error("the hash is of something else")
	}
}

func TestSet(t *testing.T) {
	r := newRoom(t)
	p := r.profile("")
	o := Origin{Kind: FromFlag, Flag: "--network"}
	err := p.Set("network.mode", "usre", o)
	if err == nil || err.Error() != `--network: network.mode = "usre": unknown mode; did you mean "user"? (none, user, host)` || p.Network.Mode != "none" {
		t.Errorf("error is %v, mode %q", err, p.Network.Mode)
	}
	if err := p.Set("networkmode", "user", o); err == nil || !strings.Contains(err.Error(), `did you mean "network.mode"?`) {
		t.Errorf("error is %v", err)
	}
	if err := p.Set("network.mode", "user", o); err != nil || p.Network.Mode != "user" || p.OriginOf("network.mode") != o {
		t.Errorf("error is %v, mode %q", err, p.Network.Mode)
	}
	if err := p.Set("network.driver", "pasta", o); err != nil {
		t.Error(err)
	}
	if err := p.Add("security.caps", []string{"CAP_Net_Admin"}, Origin{Kind: FromFlag, Flag: "--cap-add"}); err != nil {
		t.Error(err)
	}
	if _, err := p.Check(); err == nil || !strings.HasPrefix(err.Error(), "--cap-add: security.caps[1]: NET_ADMIN does not go with") {
		t.Errorf("error is %v", err)
	}
	if err := p.Set("env.set.A.B", "1", o); err != nil || p.Env.Set["A.B"] != "1" {
		t.Errorf("error is %v, set %v", err, p.Env.Set)
	}
}

func TestNotPastHome(t *testing.T) {
	r := newRoom(t)
	r.write(r.home+"/cove.toml", "")
	opts := r.opts()
	opts.Home = filepath.Dir(r.project)
	r.env["HOME"] = opts.Home
	if p, warnings := r.load(opts); p.File != "" || p.Dir != r.project || len(warnings) != 0 {
		t.Errorf("file %q, dir %q, warnings %v", p.File, p.Dir, warnings)
	}
}

// What is set above is no longer passed from below, and no grant is left of it.
func TestSetOverPass(t *testing.T) {
	r := newRoom(t)
	r.write(FileName, "env.pass = ['A', 'B', 'C']\n")
	opts := r.opts()
	opts.Flags = []Flag{{Name: "-e", Key: "env.set.B", Value: "1"}}
	p, _ := r.load(opts)
	if !reflect.DeepEqual(p.Env.Pass, []string{"A", "C"}) || p.Env.Set["B"] != "1" || p.OriginOf("env.pass[1]").Col != 23 || len(p.Grants()) != 2 {
		t.Errorf("pass %v, set %v, %v, grants %v", p.Env.Pass, p.Env.Set, p.Origin, p.Grants())
	}
}

// One mistake, one message: what follows a value that was not closed is read as what it looks like.
func TestOneMistakeEach(t *testing.T) {
	for text, want := range map[string]string{
		"command = [\"a\",\nuser = \"me\"\nimage = \"host\"\n":                      `cove.toml:2:1: expected value but found "user" instead`,
		"command = [\"a\"\n\nuser = \"me\"\n[home]\n":                               `cove.toml:3:1: expected a comma (',') or array terminator (']'), but got 'u'`,
		"env = { set = { A = \"1\"\nuser = \"me\"\n":                                "cove.toml:2:1: expected a comma or an inline table terminator '}', but got 'u' instead",
		"image = '''host\nuser = \"me\"\n":                                          "cove.toml:2:12: unexpected EOF; expected \"'''\"",
		"[[mount]]\nsource = \"/usr\n target = \"/x\"\n":                            "cove.toml:2:15: strings cannot contain newlines",
		"[workspace]\nat = \"/x\"\n[[mount]]\nsource = \"/usr\"\ntarget = \"/x\"\n": `cove.toml:5:10: mount[0].target = "/x": the workspace is mounted there`,
	} {
		r := newRoom(t)
		r.write(FileName, text)
		if _, _, err := Load(r.opts()); err == nil || err.Error() != want {
			t.Errorf("%q gives\n%v\nwant\n%s", text, err, want)
		}
	}
}

// Who wants the project read-only, or not at all, by hand, does not have it written by another name that the profile gives it.
func TestNarrowMounts(t *testing.T) {
	for _, c := range []struct{ own, flag, want, warning string }{
		{"", "", "/a rw, /b rw, /c rw", ""},
		{"", "rw", "/a rw, /b rw, /c rw", ""},
		{"", "ro", "/a ro, /b rw, /c ro", "/c is read-only"},
		{"", "none", "/b rw", "/c is not inside"},
		{"workspace.mode = 'ro'", "", "/a rw, /b rw, /c rw", ""}, // which is asked for, see TestEveryKey
	} {
		r := newRoom(t)
		r.dir(r.project + "/src")
		r.write(r.home+"/.config/cove/config.toml", c.own)
		r.write(FileName, aMount("./src", "/a", "rw")+"\n"+aMount("/srv", "/b", "rw")+"\n"+aMount(".", "/c", "rw"))
		opts := r.opts()
		if c.flag != "" {
			opts.Flags = []Flag{{Name: "--workspace", Key: "workspace.mode", Value: c.flag}}
		}
		p, warnings := r.load(opts)
		var got []string
		for i, m := range p.Mounts {
			got = append(got, m.Target+" "+m.Mode)
			if o := p.OriginOf(elementOf("mount", i) + ".source"); o.Line == 0 || m.Target == "/b" && o.Line != 6 {
				t.Errorf("%s is of %v", m.Target, o)
			}
		}
		told := strings.ReplaceAll(fmt.Sprint(warnings), `"`, "")
		if text := strings.Join(got, ", "); text != c.want || !strings.Contains(told, c.warning) || (c.warning == "") != (len(warnings) == 0) {
			t.Errorf("%s %s: %s, %s", c.own, c.flag, text, told)
		}
		if c.flag == "" {
			continue
		}
		if again, err := p.Check(); err != nil || len(again) > 0 {
			t.Errorf("again: %v, %v", again, err)
		}
	}
	// What is typed beside it is meant.
	r := newRoom(t)
	opts := r.opts()
	opts.Flags = []Flag{{Name: "--workspace", Key: "workspace.mode", Value: "ro"}, {Name: "--volume", Key: "mount", Value: Mount{Source: r.project, Target: "/x"}}}
	if p, warnings := r.load(opts); len(p.Mounts) != 1 || p.Mounts[0].Mode != "rw" || warnings != nil {
		t.Errorf("%+v, %v", p.Mounts, warnings)
	}
}

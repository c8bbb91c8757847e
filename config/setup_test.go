package config

import (
	"reflect"
	"strings"
	"testing"
)

// What setup reaches is what the sandbox reaches, or what is listed for it alone; nobody reaches it.
func TestForSetup(t *testing.T) {
	for _, c := range []struct{ profile, mode, allow, deny string }{
		{"", "none", "", ""},
		{"[network]\nmode = 'user'\npublish = ['8080']", "user", "all", ""},
		{"[network]\nmode = 'user'\nallow = ['a.example']\ndeny = ['b.example']", "user", "a.example", "b.example"},
		{"[network]\nmode = 'host'", "host", "all", ""},
		{"setup_network = []\n[network]\nmode = 'user'", "none", "all", ""},
		{"setup_network = ['m.example:80']", "user", "m.example:80", ""},
		{"setup_network = ['m.example:80']\n[network]\nmode = 'user'\ndeny = ['b.example']", "user", "m.example:80", "b.example"},
		{"setup_network = ['m.example:80']\n[network]\nmode = 'host'", "user", "m.example:80", ""},
		{"setup_network = ['m.example:80']\n[network]\nmode = 'user'\ndriver = 'slirp4netns'", "user", "m.example:80", ""},
	} {
		n := newRoom(t).profile(c.profile).ForSetup()
		allow := strings.Join(texts(n.Allow), " ")
		if n.Allow == nil {
			allow = "all"
		}
		if c.mode == "none" {
			allow, c.allow = "", ""
		}
		if n.Mode != c.mode || allow != c.allow || strings.Join(texts(n.Deny), " ") != c.deny || n.Publish != nil || n.PublishAuto {
			t.Errorf("%q: %+v", c.profile, n)
		}
		if n.Mode == "user" && n.Allow != nil && !n.Builtin() {
			t.Errorf("%q: driver %q holds to no list", c.profile, n.Driver)
		}
	}
}

// Every command is asked for, as it is; what the user's own file or a flag has is no grant.
func TestSetupGrants(t *testing.T) {
	grants := func(p *Profile) (out []string) {
		for _, g := range p.Grants() {
			out = append(out, g.Key+": "+g.Text)
		}
		return out
	}
	r := newRoom(t)
	p := r.profile("setup = ['''a\n\x20b''', \"c\\u001b[2J\"]\nsetup_network = ['m.example']")
	want := []string{
		`setup[0]: run once as root, in a copy of the image that is kept: "a\n b"`,
		`setup[1]: run once as root, in a copy of the image that is kept: "c\x1b[2J"`,
		`setup_network[0]: reach "m.example" while the image is set up`,
	}
	if got := grants(p); !reflect.DeepEqual(got, want) {
		t.Errorf("grants\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := p.Set("setup", []string{""}, Origin{Kind: FromFlag, Flag: "--setup"}); err != nil || len(p.Setup) > 0 || len(grants(p)) > 0 {
		t.Errorf("none by hand: %v, %q, %q", err, p.Setup, grants(p))
	}
	if err := p.Set("setup", []string{"d"}, Origin{Kind: FromFlag, Flag: "--setup"}); err != nil || len(grants(p)) != 1 {
		t.Errorf("another one by hand: %v, %q", err, grants(p))
	}
	if got := grants(r.profile("persist = true")); got != nil {
		t.Errorf("persist grants %q", got)
	}
}

// A network that was taken away by hand is setup's all the same, and asked for as it would be without that; what is typed
// for a setup that is typed is its own.
func TestSetupNetworkByHand(t *testing.T) {
	r := newRoom(t)
	r.write("cove.toml", "setup = ['a']\n[network]\nmode = 'user'\nallow = ['a.example']")
	load := func(flags ...Flag) *Profile {
		o := r.opts()
		o.Flags = flags
		p, _, err := Load(o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	none := Flag{Name: "--network", Key: "network.mode", Value: "none"}
	plain, without := load(), load(none)
	if n := without.ForSetup(); without.Network.Mode != "none" || n.Mode != "user" || len(n.Allow) != 1 {
		t.Errorf("setup has %+v", n)
	}
	for _, g := range plain.Grants() {
		if !identities(without.Grants())[g.identity()] {
			t.Errorf("not asked for: %+v", g)
		}
	}
	narrow := load(Flag{Name: "--allow", Key: "network.allow", Value: []string{"b.example"}})
	if n := narrow.ForSetup(); len(n.Allow) != 1 || n.Allow[0].Name != "a.example" || len(narrow.Grants()) != len(plain.Grants()) {
		t.Errorf("setup has %+v, and grants %v", n, narrow.Grants())
	}
	typed := load(none, Flag{Name: "--setup", Key: "setup", Value: []string{"b"}})
	if n := typed.ForSetup(); n.Mode != "none" || len(typed.Grants()) != 0 {
		t.Errorf("a setup that was typed has %+v, and %v", n, typed.Grants())
	}
}

func TestLockedSetup(t *testing.T) {
	for _, c := range []struct{ locked, profile, want string }{
		{"a b", "a b", ""},
		{"", "", ""},
		{"", "a", "it has no setup, and there is one (cove.toml:1:9)"},
		{"a", "", "it has a setup, and the profile has none"},
		{"a b", "a", "its setup is another one than that of cove.toml:1:9"},
		{"a", "a b", "its setup is another one than that of cove.toml:1:9, from command 2 on"},
		{"a b", "b a", "its setup is another one than that of cove.toml:1:9, from command 1 on"},
	} {
		r := newRoom(t)
		profile := ""
		if c.profile != "" {
			profile = "setup = ['" + strings.ReplaceAll(c.profile, " ", "', '") + "']"
		}
		p := r.profile(profile)
		err := p.LockedSetup(&Lock{File: p.LockFile(), Setup: strings.Fields(c.locked)})
		if err == nil && c.want != "" || err != nil && err.Error() != "cove.lock: "+c.want {
			t.Errorf("%+v: %v", c, err)
		}
		if text, ok := SetupIn(p.File); !ok || strings.Join(text, " ") != c.profile {
			t.Errorf("%q: its file has %q, %v", c.profile, text, ok)
		}
	}
}

// What makes something else of the same commands keeps their outcome apart, and nothing else does.
func TestSetupApart(t *testing.T) {
	r := newRoom(t)
	r.write("a.json", `{"defaultAction": "SCMP_ACT_ERRNO"}`)
	r.write("b.json", `{"defaultAction": "SCMP_ACT_ALLOW"}`)
	apart := func(text string) string { return r.profile("setup = ['true']\n" + text).SetupApart() }
	for _, text := range []string{"", "security.caps = []", "security.caps = ['default', 'chown']", "env.set = { A = 'b' }", "user = 'me'", "network.mode = 'user'",
		reaching("allow = ['a.example']"), "limits.memory = '1g'", "command = ['sh']"} {
		if got := apart(text); got != "" {
			t.Errorf("%s: %q", text, got)
		}
	}
	all := map[string]string{}
	for _, text := range []string{"setup_network = []", "setup_network = ['a.example']", "setup_network = ['a.example', 'b.example']", "setup_network = ['a.example:80']",
		"security.caps = ['default', 'sys_admin']", "security.caps = ['mknod']", "security.seccomp = 'a.json'", "security.seccomp = 'b.json'",
		"setup_network = []\nsecurity.seccomp = 'a.json'"} {
		got := apart(text)
		if other, there := all[got]; there || got == "" {
			t.Errorf("%s and %s: %q", text, other, got)
		}
		all[got] = text
	}
	if one, two := apart("setup_network = ['a.example', 'b.example']"), apart("setup_network = ['b.example', 'a.example', 'b.example']"); one != two {
		t.Errorf("%q and %q", one, two)
	}
}

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// texts are grants as "kind: text", with the home shortened.
func (r *room) texts(grants []Grant) string {
	var all []string
	for _, g := range grants {
		all = append(all, g.Kind+": "+strings.ReplaceAll(g.Text, r.home, "HOME"))
	}
	return strings.Join(all, "\n")
}

func TestGrants(t *testing.T) {
	protect := func(name string) string {
		return fmt.Sprintf("protect: write %q of the project, which acts later, outside", name)
	}
	through := func(name, target string) string {
		return fmt.Sprintf("protect: write %q of the project, which acts later, outside, through the mount at %q", name, target)
	}
	mount := func(how, source string) string {
		return fmt.Sprintf("mount: %s the file or folder %q of this machine, as \"/x\" inside", how, source)
	}
	at := func(source, mode string) string {
		return fmt.Sprintf("[[mount]]\nsource = %q\ntarget = \"/x\"\nmode = %q", source, mode)
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"harmless", "image = 'host'\ncommand = ['sh']\nuser = 'me'\nworkspace.at = '/src'\nenv.set = { LD_PRELOAD = 'x' }\nsecurity.caps = []\nnetwork.mode = 'none'", ""},
		{"inside", at("./data", "rw"), ""},
		{"the project", at(".", "ro"), ""},
		{"the project, rw", at(".", "rw"), through(".git/hooks", "/x")},
		{"git, rw", at("./.git", "rw"), through(".git/hooks", "/x")},
		{"a hook, rw", at("./.git/hooks/pre-commit", "rw"), through(".git/hooks", "/x")},
		{"a link into git", at("./gitlink", "rw"), through(".git/hooks", "/x")},
		{"outside", at("~/x", "ro"), mount("read", "HOME/x")},
		{"outside, rw", at("/usr", "rw"), mount("read and write", "/usr")},
		{"above", at("..", "rw"), mount("read and write", "HOME/src")},
		{"beside, with the same beginning", at("../project2", "rw"), mount("read and write", "HOME/src/project2")},
		{"a link out", at("./out/x", "ro"), mount("read", "HOME/x")},
		{"a link to nothing", at("./dangling", "ro"), mount("read", "HOME/src/project/dangling")},
		{"looks like another", at("/us\u0433\u202e", "ro"), `mount: read the file or folder "/us\u0433\u202e" of this machine, as "/x" inside`},
		{"protect nothing", "workspace.protect = []", protect(".git/hooks") + "\n" + protect(".git/config") + "\n" + protect("cove.toml") + "\n" + protect("cove.lock")},
		{"protect nothing, read-only", "workspace = { protect = [], mode = 'ro' }", ""},
		{"protect more", "workspace.protect = ['.git', 'cove.toml', 'cove.lock', 'Makefile']", ""},
		{"all capabilities but the network's", "security.caps = ['default', 'sys_admin', 'CAP_SYS_ADMIN', 'chown']", `cap: have the capability "SYS_ADMIN" inside`},
		{"registry", "image = 'debian'", `image: run the image "debian", and others from the registry "docker.io"`},
		{"layout inside", "image = 'oci:img:latest'", ""},
		{"layout outside", "image = 'oci:../img'", `image: run the image "oci:HOME/src/project/../img", which is outside the project`},
		{"a tag that is a path", "image = 'oci:img:../../../x'", `image: run the image "oci:HOME/src/project/img:../../../x", which is outside the project`},
		{"root file system behind a link", "image = 'dir:./out'", `image: run the image "dir:HOME", which is outside the project`},
		{"this machine's root", "image = 'dir:/'", `image: run the image "dir:/", which is outside the project`},
		{"host network", "network.mode = 'host'", `network: use this machine's own network, with everything that listens on it (mode "host")`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoom(t)
			r.dir(r.project + "/.git/hooks")
			r.dir(r.project + "/data")
			r.dir(r.project + "/img")
			for link, to := range map[string]string{"out": r.home, "dangling": r.home + "/nothing", "gitlink": ".git"} {
				if err := os.Symlink(to, filepath.Join(r.project, link)); err != nil {
					t.Fatal(err)
				}
			}
			p := r.profile(c.text)
			if got := r.texts(p.Grants()); got != c.want {
				t.Errorf("grants are\n%s\nwant\n%s", got, c.want)
			}
			// The same by hand, or in the user's own file, is no grant.
			for i := range p.Mounts {
				if p.Mounts[i].Within != (!strings.Contains(c.want, "mount: ")) {
					t.Errorf("within is %v", p.Mounts[i].Within)
				}
			}
			for key, o := range p.Origin {
				o.Kind = FromUser
				p.Origin[key] = o
			}
			if grants := p.Grants(); len(grants) != 0 {
				t.Errorf("the user's own wishes are grants: %v", grants)
			}
		})
	}
}

func TestTrust(t *testing.T) {
	r := newRoom(t)
	dir := r.home + "/data/cove/trust"
	trust := OpenTrust(dir)
	check := func(text string, trusted, changed bool, fresh, gone, kept int) *Profile {
		t.Helper()
		p := r.profile(text)
		d, err := trust.Check(p)
		if err != nil {
			t.Fatal(err)
		}
		if d.Trusted != trusted || d.Changed != changed || len(d.New) != fresh || len(d.Gone) != gone || len(d.Kept) != kept {
			t.Errorf("%q: %+v", text, d)
		}
		return p
	}
	check("", true, false, 0, 0, 0)
	if _, err := os.Lstat(dir); err == nil {
		t.Error("asking made the folder")
	}
	two := "image = 'ghcr.io/a/b'\n[network]\nmode = 'user'\n[env]\npass = ['A']\n"
	p := check(two, false, false, 3, 0, 0)
	r.write(FileName, "image = 'host'\n") // after it was read: what is agreed to is what was shown
	if err := trust.Accept(p); err != nil {
		t.Fatal(err)
	}
	check(two, true, false, 0, 0, 3)
	check(two+"# a word\n", true, true, 0, 0, 3)
	check("network.mode = 'user'", true, true, 0, 2, 1)
	check("", true, true, 0, 3, 0)
	check("network.mode = 'host'\nenv.pass = ['A']", false, true, 1, 2, 1)
	check(strings.Replace(two, "a/b", "c/d", 1), true, true, 0, 0, 3)
	check(strings.Replace(two, "ghcr.io", "quay.io", 1), false, true, 1, 1, 2)

	for name, want := range map[string]os.FileMode{dir: 0o700, dir + "/" + recordName(p.File): 0o600, dir + "/registries.json": 0o600, dir + "/lock": 0o600} {
		if info, err := os.Lstat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	list, err := trust.List()
	if err != nil || len(list) != 1 || list[0].Path != p.File || list[0].Hash != p.Hash() || len(list[0].Grants) != 3 {
		t.Errorf("list is %+v (%v)", list, err)
	}
	// The same profile at another path was not agreed to, its registry was.
	other := r.opts()
	other.ProfileFlag = r.write(filepath.Join(r.home, "src", "else\xff", FileName), two)
	q, _ := r.load(other)
	if d, err := trust.Check(q); err != nil || d.Trusted || d.Known || len(d.New) != 2 || len(d.Kept) != 1 {
		t.Errorf("at another path: %+v (%v)", d, err)
	}
	if err := trust.Accept(q); err != nil {
		t.Error(err)
	}
	if list, err := trust.List(); err != nil || len(list) != 2 || list[0].Path != q.File && list[1].Path != q.File {
		t.Errorf("list is %+v (%v)", list, err)
	}
	if err := trust.Revoke(p.File); err != nil {
		t.Error(err)
	}
	if err := trust.Revoke(p.File); err == nil {
		t.Error("revoked twice")
	}
	if err := trust.RevokeRegistry("ghcr.io"); err != nil {
		t.Error(err)
	}
	check(two, false, false, 3, 0, 0)
}

// A record that is not what it says, or that others could have written, agrees to nothing.
// What was agreed to is a filter's content: the same name for another one asks again.
func TestTrustSeccomp(t *testing.T) {
	r := newRoom(t)
	trust := OpenTrust(r.home + "/data/cove/trust")
	text := "[security]\nseccomp = 'filter.json'\n"
	r.write("filter.json", `{"defaultAction": "SCMP_ACT_ERRNO"}`)
	if err := trust.Accept(r.profile(text)); err != nil {
		t.Fatal(err)
	}
	if d, err := trust.Check(r.profile(text)); err != nil || !d.Trusted {
		t.Errorf("%+v, %v", d, err)
	}
	r.write("filter.json", `{"defaultAction": "SCMP_ACT_ALLOW"}`)
	p := r.profile(text)
	if d, err := trust.Check(p); err != nil || d.Trusted || d.Changed || len(d.New) != 1 || len(d.Gone) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	if !strings.Contains(string(p.Security.Seccomp.Data), "ALLOW") {
		t.Errorf("read %s", p.Security.Seccomp.Data)
	}
}

func TestTrustSpoiled(t *testing.T) {
	text := "network.mode = 'user'"
	for name, spoil := range map[string]func(dir, record string) error{
		"cut":            func(_, record string) error { return os.Truncate(record, 10) },
		"of another":     func(_, record string) error { return replaceIn(record, "cove.toml", "else.toml") },
		"anybody's":      func(_, record string) error { return os.Chmod(record, 0o666) },
		"folder's mode":  func(dir, _ string) error { return os.Chmod(dir, 0o770) },
		"a link":         func(dir, record string) error { return linkAway(dir, record) },
		"bad registries": func(dir, _ string) error { return os.WriteFile(dir+"/registries.json", []byte("{"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			trust := OpenTrust(r.home + "/trust")
			p := r.profile(text)
			if err := trust.Accept(p); err != nil {
				t.Fatal(err)
			}
			if d, err := trust.Check(p); err != nil || !d.Trusted {
				t.Fatalf("%+v (%v)", d, err)
			}
			if err := spoil(trust.dir, filepath.Join(trust.dir, recordName(p.File))); err != nil {
				t.Fatal(err)
			}
			if d, err := trust.Check(p); err == nil || d.Trusted {
				t.Errorf("%+v (%v)", d, err)
			}
		})
	}
}

func replaceIn(file, old, with string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.ReplaceAll(string(data), old, with)), 0o600)
}

func linkAway(dir, record string) error {
	if err := os.Rename(record, dir+"/moved"); err != nil {
		return err
	}
	return os.Symlink("moved", record)
}

// Two shells agree at once: neither loses the other's registry.
func TestTrustTogether(t *testing.T) {
	r := newRoom(t)
	trust := OpenTrust(r.home + "/trust")
	var wait sync.WaitGroup
	const n = 20
	for i := range n {
		file := r.write(fmt.Sprintf("p%d/cove.toml", i), fmt.Sprintf("image = 'r%d.example/x'\n", i))
		opts := r.opts()
		opts.ProfileFlag = file
		p, _ := r.load(opts)
		wait.Go(func() {
			if err := trust.Accept(p); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if list, err := trust.Registries(); err != nil || len(list) != n {
		t.Errorf("registries are %v (%v)", list, err)
	}
	if list, err := trust.List(); err != nil || len(list) != n {
		t.Errorf("%d records (%v)", len(list), err)
	}
}

// A link that is turned while the user reads the question is not agreed to.
func TestTrustWhileReading(t *testing.T) {
	r := newRoom(t)
	trust := OpenTrust(r.home + "/trust")
	r.dir(r.project + "/img")
	p := r.profile("image = 'oci:img'\nnetwork.mode = 'user'\n")
	if d, err := trust.Check(p); err != nil || len(d.New) != 1 {
		t.Fatalf("%+v (%v)", d, err)
	}
	if err := os.Remove(r.project + "/img"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(r.home, r.project+"/img"); err != nil {
		t.Fatal(err)
	}
	if err := trust.Accept(p); err != nil {
		t.Fatal(err)
	}
	if d, err := trust.Check(p); err != nil || d.Trusted || len(d.New) != 1 || d.New[0].Kind != GrantImage {
		t.Errorf("%+v (%v)", d, err)
	}
}

// The profile acts later whatever it is called, so giving up its protection is asked for too.
func TestNamedProfileProtected(t *testing.T) {
	r := newRoom(t)
	opts := r.opts()
	opts.ProfileFlag = r.write("web.toml", "workspace.protect = ['.git', 'cove.toml', 'cove.lock']\n")
	p, _ := r.load(opts)
	if got := r.texts(p.Grants()); got != `protect: write "web.toml" of the project, which acts later, outside`+"\n"+`protect: write "web.toml.lock" of the project, which acts later, outside` {
		t.Errorf("grants are %s", got)
	}
	opts.ProfileFlag = r.write(r.home+"/web.toml", "")
	p, warnings := r.load(opts)
	if p.File == "" || p.Dir != "" || p.Workspace.Mode != "none" || len(warnings) != 1 {
		t.Errorf("in home: %+v, %v", p, warnings)
	}
	if err := p.Set("workspace.mode", "rw", Origin{Kind: FromFlag, Flag: "--workspace"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Check(); err == nil || !strings.HasPrefix(err.Error(), "--workspace: workspace.mode") {
		t.Errorf("error is %v", err)
	}
}

// What a kill left of a record that was being written agrees to nothing, and goes with the next one.
func TestTrustKilledWhileWriting(t *testing.T) {
	r := newRoom(t)
	trust := OpenTrust(r.home + "/trust")
	p := r.profile("network.mode = 'user'\n")
	if err := trust.Accept(p); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(trust.dir, recordName(p.File)))
	if err != nil {
		t.Fatal(err)
	}
	old, fresh := filepath.Join(trust.dir, "."+recordName(p.File)+".123"), filepath.Join(trust.dir, "."+recordName(p.File)+".456")
	for _, name := range []string{old, fresh} {
		if err := os.WriteFile(name, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if list, err := trust.List(); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if err := trust.Accept(p); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(old); err == nil {
		t.Error("what is left stays")
	}
	if _, err := os.Lstat(fresh); err != nil {
		t.Error("what somebody is writing is gone")
	}
}

func TestApproved(t *testing.T) {
	for _, c := range []struct {
		own, other string
		covers     bool
	}{
		{"a.example", "a.example", true}, {"a.example", "A.EXAMPLE.", true}, {"a.example", "b.a.example", false}, {"a.example", "*.a.example", false},
		{"*.a.example", "b.a.example", true}, {"*.a.example", "c.b.a.example", true}, {"*.a.example", "*.a.example", true}, {"*.a.example", "*.b.a.example", true},
		{"*.a.example", "a.example", false}, {"*.a.example", "xa.example", false}, {"*.a.example", "*.example", false}, {"*.a.example", "*", false},
		{"*.a.example", "b.a.example.evil.net", false}, {"a.example", "*:443", false}, {"*.a.example", "b.\u0430.example", false},
		{"a.example:443", "a.example:443", true}, {"a.example:443", "a.example", false}, {"a.example", "a.example:443", true}, {"a.example:1-10", "a.example:2-9", true},
		{"a.example:1-10", "a.example:2-11", false}, {"a.example:1-10", "a.example:5/udp", false}, {"a.example", "a.example/udp", false}, {"a.example/udp", "a.example:53/udp", true},
		{"10.0.0.0/8", "10.1.0.0/16", true}, {"10.0.0.0/8", "10.1.2.3", true}, {"10.0.0.0/8", "11.0.0.1", false}, {"10.1.0.0/16", "10.0.0.0/8", false},
		{"10.0.0.0/8", "a.example", false}, {"a.example", "10.0.0.1", false}, {"2001:db8::/32", "[2001:db8:1::/48]:53", true}, {"2001:db8::/32", "2001:db9::1", false}, {"0.0.0.0/0", "::/0", false},
	} {
		own, err := ParseEgress(c.own)
		if err != nil {
			t.Fatal(err)
		}
		other, err := ParseEgress(c.other)
		if err != nil {
			t.Fatal(err)
		}
		if own.covers(other) != c.covers {
			t.Errorf("%s covers %s: %v", c.own, c.other, !c.covers)
		}
	}
	for _, c := range []struct {
		pattern, image string
		covers         bool
	}{
		{"docker.io", "debian", true}, {"docker.io", "docker.io/library/debian:12", true}, {"docker.io", "docker.io.evil.net/x", false}, {"docker.io", "ghcr.io/docker.io/x", false},
		{"docker.io/library", "debian:12", true}, {"docker.io/library", "docker.io/librarian/x", false}, {"docker.io/me", "me/x:1", true}, {"docker.io/me", "mean/x", false},
		{"ghcr.io/me/x", "ghcr.io/me/x@sha256:" + strings.Repeat("0", 64), true}, {"ghcr.io/me/x", "ghcr.io/me/xy", false}, {"ghcr.io/me", "GHCR.io/me/x", true},
		{"localhost:5000", "localhost:5000/x", true}, {"localhost:5000", "localhost:5001/x", false}, {"r.example", "r.example:443/x", false},
		{"*.r.example", "a.r.example/x", true}, {"*.r.example", "r.example/x", false}, {"*.r.example", "evilr.example/x", false}, {"*.r.example/me", "a.r.example/me/x", true}, {"*.r.example/me", "a.r.example/you/x", false},
	} {
		if got := registryCovers(c.pattern, registryOf(c.image), c.image); got != c.covers {
			t.Errorf("%s covers %s: %v", c.pattern, c.image, got)
		}
	}
}

// A link that is put into an approved folder leads nowhere that was not approved.
func TestApprovedPath(t *testing.T) {
	r := newRoom(t)
	r.dir(r.home + "/cache/go")
	r.dir(r.home + "/cache2")
	r.dir(r.home + "/secret")
	if err := os.Symlink("../secret", r.home+"/cache/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("cache", r.home+"/alias"); err != nil {
		t.Fatal(err)
	}
	r.write(r.home+"/.config/cove/config.toml", "[trust]\npaths = ['~/alias:rw']\n")
	for source, covered := range map[string]bool{"~/cache": true, "~/cache/go": true, "~/alias/go": true, "~/cache/link": false, "~/cache2": false, "~/secret": false, "~": false,
		"~/cache/../secret": false, "~/cache/none": true, "~/cache/link/none": false} {
		p := r.profile(fmt.Sprintf("[[mount]]\nsource = %q\ntarget = '/x'\n", source))
		d, err := OpenTrust(r.home + "/trust").Check(p)
		if err != nil || d.Trusted != covered || covered && len(d.Own) != 1 {
			t.Errorf("%s: %+v, %v", source, d, err)
		}
		// The link is turned after the profile was read.
		if source == "~/cache/go" {
			if err := os.Rename(r.home+"/cache/go", r.home+"/cache/moved"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../secret", r.home+"/cache/go"); err != nil {
				t.Fatal(err)
			}
			if d, err := OpenTrust(r.home + "/trust").Check(p); err != nil || d.Trusted {
				t.Errorf("after a turn: %+v, %v", d, err)
			}
			if err := errors.Join(os.Remove(r.home+"/cache/go"), os.Rename(r.home+"/cache/moved", r.home+"/cache/go")); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Nobody agrees to more than can be read again: the list of all that was agreed to would be lost with it.
func TestTrustTooMuch(t *testing.T) {
	r := newRoom(t)
	trust := OpenTrust(r.home + "/trust")
	var names []string
	for i := range 5000 {
		names = append(names, fmt.Sprintf("'A%d'", i))
	}
	p := r.profile("image = 'ghcr.io/a/b'\nenv.pass = [" + strings.Join(names, ",") + "]")
	if err := trust.Accept(p); err == nil || !strings.Contains(err.Error(), "more to agree to") {
		t.Errorf("agreed: %v", err)
	}
	if d, err := trust.Check(p); err != nil || d.Trusted || len(d.New) != len(names)+1 {
		t.Errorf("%v, %v, %d to be asked", d.Trusted, err, len(d.New))
	}
	if list, err := trust.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if left, _ := os.ReadDir(r.home + "/trust"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wider is a profile, or a change of one, that widens what a sandbox may do, by one key.
type wider struct {
	key    string
	own    string // the user's own config.toml
	before string // what was agreed to
	after  string // what wants more
	grant  string // the key of the grant where it is another one; with [0] and so on left out
}

var widers = []wider{
	{key: "image", after: "image = 'debian'"},
	{key: "image", before: "image = 'oci:./img'", after: "image = 'oci:../img'"},
	{key: "image", before: "image = 'a.example/x'", after: "image = 'b.example/x'"},
	{key: "setup", after: "setup = ['true']"},
	{key: "setup", before: "setup = ['true']", after: "setup = ['true', 'false']"},
	{key: "setup_network", before: "setup = ['true']\nsetup_network = ['a.example']", after: "setup = ['true']\nsetup_network = ['b.example']"},
	{key: "workspace.mode", own: "workspace.mode = 'ro'", after: "workspace.mode = 'rw'"},
	{key: "workspace.mode", own: "workspace.mode = 'review'", after: "workspace.mode = 'rw'"},
	{key: "workspace.mode", own: "workspace.mode = 'none'", before: "workspace.mode = 'none'", after: "workspace.mode = 'review'"},
	{key: "workspace.mode", own: "workspace.mode = 'none'", before: "workspace.mode = 'ro'", after: "workspace.mode = 'rw'"},
	{key: "workspace.protect", after: "workspace.protect = ['.git/hooks']"},
	{key: "workspace.protect", own: "workspace.protect = ['.envrc', '.git', 'cove.toml', 'cove.lock']", after: "workspace.protect = ['.git', 'cove.toml', 'cove.lock']"},
	{key: "workspace.repository", before: "workspace.repository = 'none'", after: "workspace.repository = 'ro'"},
	{key: "workspace.repository", before: "workspace.repository = 'ro'", after: "workspace.repository = 'rw'"},
	{key: "home.dotfiles", before: "home.dotfiles = ['.vimrc']", after: "home.dotfiles = ['.netrc']"},
	{key: "mount.source", before: aMount("~/x", "/x", "ro"), after: aMount("~/y", "/x", "ro"), grant: "mount"},
	{key: "mount.target", before: aMount("~/x", "/x", "ro"), after: aMount("~/x", "/usr", "ro"), grant: "mount"},
	{key: "mount.mode", before: aMount("~/x", "/x", "ro"), after: aMount("~/x", "/x", "rw"), grant: "mount"},
	{key: "mount", before: aMount("./", "/x", "ro"), after: aMount("./", "/x", "rw")},
	{key: "mount", own: "workspace.mode = 'ro'", before: aMount("./img", "/x", "ro"), after: aMount("./img", "/x", "rw")},
	{key: "mount", own: "workspace.mode = 'none'", after: aMount("./img", "/x", "ro")},
	{key: "mount", own: "workspace.protect = ['.envrc']", before: aMount("./.envrc", "/x", "ro"), after: aMount("./.envrc", "/x", "rw")},
	{key: "env.pass", before: "env.pass = ['A']", after: "env.pass = ['A', 'B']"},
	{key: "network.mode", after: "network.mode = 'user'"},
	{key: "network.mode", before: "network.mode = 'user'", after: "network.mode = 'host'"},
	{key: "network.mode", own: "[network]\nmode = 'none'\nallow = ['a.example']", after: "network.mode = 'user'"},
	{key: "network.allow", before: reaching("allow = ['a.example:80']"), after: reaching("allow = ['a.example']")},
	{key: "network.allow", before: reaching("allow = ['a.example']"), after: reaching("allow = ['*.a.example']")},
	{key: "network.deny", own: reaching("deny = ['a.example', '10.0.0.0/8']"), before: reaching("deny = ['a.example', '10.0.0.0/8:80']"), after: reaching("deny = []")},
	{key: "network.publish", before: reaching("publish = ['8080:80']"), after: reaching("publish = ['0.0.0.0:8080:80']")},
	{key: "network.publish", before: reaching("publish = ['8080:80']"), after: reaching("publish = 'auto'")},
	{key: "network.host_ports", before: reaching("host_ports = [1]"), after: reaching("host_ports = [1, 2]")},
	{key: "network.proxy", before: reaching(""), after: reaching("proxy = true")},
	{key: "limits.memory", own: "limits.memory = '1g'", after: "limits.memory = '2g'"},
	{key: "limits.cpus", own: "limits.cpus = 1", after: "limits.cpus = 2"},
	{key: "limits.pids", after: "limits.pids = -1"},
	{key: "limits.timeout", own: "limits.timeout = '1m'", after: "limits.timeout = '0'"},
	{key: "security.caps", after: "security.caps = ['default', 'sys_admin']"},
	{key: "security.caps", own: "security.caps = []", after: "security.caps = ['default']"},
	{key: "security.new_privileges", after: "security.new_privileges = true"},
	{key: "security.nested", after: "security.nested = true"},
	{key: "security.seccomp", after: "security.seccomp = 'a.json'"},
	{key: "security.seccomp", before: "security.seccomp = 'a.json'", after: "security.seccomp = 'b.json'"},
	{key: "security.seccomp", own: "security.seccomp = '~/own.json'", after: "security.seccomp = ''"},
	{key: "host.ssh_agent.keys", before: "host.ssh_agent.keys = ['me@one']", after: "host.ssh_agent.keys = ['me@two']"},
	{key: "host.ssh_agent.confirm", before: "host.ssh_agent = { keys = ['me@one'], confirm = true }", after: "host.ssh_agent = { keys = ['me@one'] }", grant: "host.ssh_agent.keys"},
	{key: "host.git.identity", after: "host.git.identity = true"},
	{key: "host.git.credentials", before: "host.git.credentials = ['a.example']", after: "host.git.credentials = ['b.example']"},
	{key: "host.browser", after: "host.browser = true"},
	{key: "host.notify", after: "host.notify = true"},
	{key: "host.wayland", after: "host.wayland = true"},
	{key: "host.gpu", before: "host.gpu = ['dri']", after: "host.gpu = ['dri', 'nvidia']"},
	{key: "host.audio", after: "host.audio = 'play'"},
	{key: "host.audio", before: "host.audio = 'play'", after: "host.audio = 'record'"},
	{key: "host.x11", before: "host.x11 = 'untrusted'", after: "host.x11 = 'trusted'"},
}

// harmless are the keys that nobody is asked about, each with an example that asks nothing, and why that is so.
var harmless = map[string]struct{ example, why string }{
	"verify":         {"verify = ['key.pub']", "it adds to what others demand, and takes nothing of that away"},
	"command":        {"command = ['sh', '-c', 'true']", "what runs inside is the project's business"},
	"user":           {"user = 'image'", "whoever it is inside has what the sandbox has"},
	"persist":        {"persist = true", "what is kept is an image's files, of this project alone"},
	"workspace.at":   {"workspace.at = '/usr/bin'", "it covers what is inside, and nothing outside has another name by it"},
	"home.mode":      {"home.mode = 'project'", "what is kept is a folder of this project alone, empty at first"},
	"env.set":        {"env.set = { LD_PRELOAD = '/x', PATH = '/y' }", "no program outside has it in its environment"},
	"network.driver": {"network.driver = 'pasta'", "without a network it is nothing, and each closes what the others close"},
}

func aMount(source, target, mode string) string {
	return "[[mount]]\nsource = '" + source + "'\ntarget = '" + target + "'\nmode = '" + mode + "'"
}

func reaching(text string) string { return "[network]\nmode = 'user'\n" + text }

// TestEveryKey: whoever adds a key to the profile says which grant it makes, or why it makes none; and no change that widens
// what was agreed to goes without a question.
func TestEveryKey(t *testing.T) {
	var known []string
	for name, h := range harmless {
		known = append(known, name)
		r := keyRoom(t)
		if d, err := OpenTrust(r.home + "/trust").Check(r.profile(h.example)); err != nil || !d.Trusted || h.why == "" {
			t.Errorf("%s: %+v, %v", h.example, d, err)
		}
	}
	for _, w := range widers {
		known = append(known, w.key)
		w.run(t)
	}
	for _, s := range schema {
		own := s.key == ownTable || strings.HasPrefix(s.key, ownTable+".") // which no project's profile may have
		if s.shape.form != isTable && !own && !slices.Contains(known, s.key) {
			t.Errorf("%s: neither a grant nor harmless", s.key)
		}
	}
	for _, name := range known {
		if !slices.Contains(schemaKeys, name) {
			t.Errorf("%s is no key", name)
		}
		if _, both := harmless[name]; both && slices.ContainsFunc(widers, func(w wider) bool { return w.key == name }) {
			t.Errorf("%s is a grant, and harmless", name)
		}
	}
}

// keyRoom is a project with the files that the profiles above name.
func keyRoom(t *testing.T) *room {
	r := newRoom(t)
	r.write(".envrc", "")
	r.write("key.pub", "key")
	r.write("a.json", `{"defaultAction": "SCMP_ACT_ERRNO"}`)
	r.write("b.json", `{"defaultAction": "SCMP_ACT_ALLOW"}`)
	r.write(r.home+"/own.json", `{"defaultAction": "SCMP_ACT_ERRNO"}`)
	r.dir(r.project + "/img")
	return r
}

// worktree makes the project one of a repository outside.
func (r *room) worktree() {
	repository := filepath.Join(r.home, "src", "main", ".git")
	git := filepath.Join(repository, "worktrees", "project")
	r.dir(repository + "/objects")
	r.dir(repository + "/refs")
	r.write(repository+"/HEAD", "ref: refs/heads/main\n")
	r.write(repository+"/config", "")
	r.write(git+"/gitdir", r.project+"/.git\n")
	r.write(git+"/commondir", "../..\n")
	r.write(".git", "gitdir: "+git+"\n")
}

func (w wider) run(t *testing.T) {
	r := keyRoom(t)
	r.write(r.home+"/.config/cove/config.toml", w.own)
	before, after := w.before, w.after
	if w.key == "workspace.repository" {
		r.worktree()
	}
	trust := OpenTrust(r.home + "/trust")
	p := r.profile(before)
	if err := trust.Accept(p); err != nil {
		t.Fatal(err)
	}
	if d, err := trust.Check(r.profile(before)); err != nil || !d.Trusted {
		t.Errorf("%s: agreed to, and %+v, %v", before, d, err)
	}
	wanted := r.profile(after)
	d, err := trust.Check(wanted)
	if err != nil {
		t.Fatal(err)
	}
	key := w.key
	if w.grant != "" {
		key = w.grant
	}
	its := func(g Grant) bool {
		name, _, _ := strings.Cut(g.Key, "[")
		return strings.TrimSuffix(name, ".auto") == key
	}
	if d.Trusted || !slices.ContainsFunc(d.New, its) {
		t.Errorf("%s, then %s (own: %s): not asked for: %+v", before, after, w.own, d)
	}
	for _, g := range d.New {
		if g.Origin.Kind != FromProfile || g.Meaning() == "" {
			t.Errorf("%s: %+v means %q", after, g, g.Meaning())
		}
	}
	if err := trust.Accept(wanted); err != nil {
		t.Fatal(err)
	}
	if d, err := trust.Check(r.profile(after)); err != nil || !d.Trusted {
		t.Errorf("%s: agreed to, and %+v, %v", after, d, err)
	}
}

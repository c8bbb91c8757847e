package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"cove/sandbox/spec"
)

// outerEnv is what passes from the environment outside without being asked for.
var outerEnv = []string{"TERM", "LANG", "COLORTERM", "NO_COLOR"}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// process decides what runs, as whom, where, and with which environment.
func (p *planner) process() error {
	argv, err := p.argv()
	if err != nil {
		return err
	}
	proc := &p.spec.Process
	user, home := p.user()
	proc.User, proc.Home = user, spec.Path(home)
	env := p.environment()
	if p.in.Shell {
		argv, env = p.prompt(argv, env)
	}
	for _, a := range argv {
		proc.Argv = append(proc.Argv, spec.Arg(a))
	}
	for _, e := range env {
		proc.Env = append(proc.Env, spec.Arg(e))
	}
	cwd, create := p.cwd()
	proc.Cwd, proc.MakeCwd = spec.Path(cwd), create
	return nil
}

// argv is the command as the container engines put it together: ENTRYPOINT and then the command,
// where the image's CMD stands in for a missing one unless --entrypoint replaced what it goes with.
func (p *planner) argv() ([]string, error) {
	img := p.in.Image.Config
	if p.in.Shell && len(p.in.Argv) == 0 {
		if len(p.profile.Command) > 0 {
			return p.profile.Command, nil
		}
		return []string{"/bin/sh", "-c", loginShell}, nil
	}
	argv := slices.Clone(p.in.Argv)
	switch {
	case p.in.HasEntrypoint:
		argv = append(slices.Clone(p.in.Entrypoint), argv...)
	case p.in.UseEntrypoint:
		if len(argv) == 0 {
			argv = slices.Clone(img.Cmd)
		}
		argv = append(slices.Clone(img.Entrypoint), argv...)
	}
	if len(argv) == 0 {
		return nil, ErrNoCommand
	}
	return argv, nil
}

// loginShell starts the image's best shell: which that is only the inside knows.
const loginShell = `if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh`

// ErrNoCommand says that nothing was asked for and that the image names nothing either.
var ErrNoCommand = errors.New("no command was given, and the image names none")

// user is who runs inside, and the home folder when it is not for /etc/passwd inside to say.
func (p *planner) user() (user, home string) {
	if p.in.User != "" {
		return p.in.User, ""
	}
	switch p.profile.User {
	case "me":
		return fmt.Sprintf("%d:%d", p.in.Host.UID, p.in.Host.GID), p.homeDir
	case "image":
		user = p.in.Image.Config.User
		if user == "" {
			user = "0"
		}
		return user, p.homeDir
	}
	return "0:0", p.homeDir
}

// environment is the image's, then what passes, then what the profile sets: a later one wins.
func (p *planner) environment() []string {
	var order []string
	values := map[string]string{}
	set := func(name, value string) {
		if _, ok := values[name]; !ok {
			order = append(order, name)
		}
		values[name] = value
	}
	set("PATH", defaultPath)
	if p.spec.Landlock == nil {
		set("container", "cove") // as podman and systemd-nspawn say where one is, systemd(1)
	}
	for _, e := range p.in.Image.Config.Env {
		if name, value, ok := strings.Cut(e, "="); ok && name != "" {
			set(name, value)
		}
	}
	for _, name := range append(slices.Clone(outerEnv), p.profile.Env.Pass...) {
		if value, ok := p.in.LookupEnv(name); ok {
			set(name, value)
		}
	}
	for _, v := range p.integrationEnv() {
		set(v[0], v[1])
	}
	names := make([]string, 0, len(p.profile.Env.Set))
	for name := range p.profile.Env.Set {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		set(name, p.profile.Env.Set[name])
	}
	values["PATH"] = p.searchPath(values["PATH"])
	out := make([]string, 0, len(order))
	for _, name := range order {
		out = append(out, name+"="+values[name])
	}
	return out
}

// cwd is -w; else where the caller stands, when that is in the workspace; else the image's WORKDIR.
func (p *planner) cwd() (dir string, create bool) {
	if p.in.Workdir != "" {
		return p.in.Workdir, false
	}
	if p.workspace != "" {
		if rel, ok := below(p.in.Cwd, p.profile.Dir); ok {
			return path.Join(p.workspace, rel), false
		}
	}
	if dir := p.in.Image.Config.WorkingDir; dir != "" {
		return path.Clean("/" + dir), true
	}
	// With -u somebody else runs, whom the home folder may be closed to.
	if p.homeDir != "" && p.spec.Root.Kind == spec.RootHost && p.in.User == "" {
		return p.homeDir, false
	}
	return "/", false
}

// below returns what of name comes after dir, when it lies there.
func below(name, dir string) (string, bool) {
	if name == dir {
		return "", true
	}
	if dir == "/" {
		return strings.TrimPrefix(name, "/"), strings.HasPrefix(name, "/")
	}
	return strings.CutPrefix(name, dir+"/")
}

// files are the small files that every program expects: names and addresses of the sandbox itself.
// /etc/resolv.conf comes with the network, when that is known.
func (p *planner) files() error {
	host := p.spec.Hostname
	if p.profile.Network.Mode != "host" {
		p.file("/etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\t"+host+"\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	p.file("/etc/hostname", host+"\n")
	// It is this run's alone, and nothing inside replaces it.
	p.spec.Files = append(p.spec.Files, spec.File{Target: "/run/.containerenv", Kind: spec.FileBound, Content: spec.Arg(p.containerEnv())})
	if p.in.Shell {
		p.file(promptDir+"/.zshenv", zshPrompt("("+promptName(p.profile.Dir)+") ", p.in.HomeDir != ""))
	}
	if p.profile.User != "me" {
		return nil
	}
	h := p.in.Host
	shell := "/bin/sh"
	if strings.ContainsAny(h.Name+p.homeDir, ":\n") {
		return fmt.Errorf("user me: the name %q and home %q do not fit /etc/passwd", h.Name, p.homeDir)
	}
	p.spec.Files = append(p.spec.Files,
		spec.File{Target: "/etc/passwd", Kind: spec.FileEntry, Content: spec.Arg(fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", h.Name, h.UID, h.GID, h.Name, p.homeDir, shell))},
		spec.File{Target: "/etc/group", Kind: spec.FileEntry, Content: spec.Arg(fmt.Sprintf("%s:x:%d:", h.Name, h.GID))})
	return nil
}

// containerEnv is /run/.containerenv as podman writes it, from which scripts and prompts learn what they run in.
func (p *planner) containerEnv() string {
	// It is sourced by shells: no value may mean anything to one.
	plain := func(text string) string {
		return strings.Map(func(r rune) rune {
			if r < ' ' || strings.ContainsRune("\"\\$`", r) {
				return '_'
			}
			return r
		}, text)
	}
	rootless := 1
	if p.in.Host.UID == 0 {
		rootless = 0
	}
	return fmt.Sprintf("engine=\"cove\"\nname=\"%s\"\nid=\"%s\"\nimage=\"%s\"\nimageid=\"%s\"\nrootless=%d\n",
		plain(p.spec.Name), plain(p.spec.ID), plain(p.spec.Root.Image), plain(p.spec.Root.Digest), rootless)
}

func (p *planner) file(target, content string) {
	p.spec.Files = append(p.spec.Files, spec.File{Target: spec.Path(target), Kind: spec.FileWrite, Content: spec.Arg(content)})
}

package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"cove/config"
	"cove/sandbox/integration"
	"cove/sandbox/spec"
)

// integrations decides what of the caller's session is served inside. Whether it answers is for who serves it to find out.
func (p *planner) integrations() error {
	want := p.profile.Integrations
	if !want.Any() {
		return nil
	}
	p.spec.Integrations = &spec.Integrations{Browser: want.Browser, Notify: want.Notify}
	if want.Git.Identity || len(want.Git.Credentials) > 0 {
		p.spec.Integrations.Git = &spec.Git{Identity: want.Git.Identity, Credentials: slices.Clone(want.Git.Credentials)}
	}
	for _, step := range []func() error{p.sshAgent, p.wayland, p.x11, p.audio, p.gpu} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, m := range p.spec.Mounts {
		if t := string(m.Target); t == path.Dir(spec.IntegrationsDir) || t == spec.IntegrationsDir || strings.HasPrefix(t, spec.IntegrationsDir+"/") {
			return fmt.Errorf("mount %q: with [host], %s is the sandbox's own", t, spec.IntegrationsDir)
		}
	}
	return nil
}

func (p *planner) sshAgent() error {
	want := p.profile.Integrations.SSHAgent
	if len(want.Keys) == 0 {
		return nil
	}
	missing := &integration.MissingError{Name: "host.ssh_agent", Do: "`eval \"$(ssh-agent)\"` starts one in a shell, and `ssh-add` gives it your keys"}
	socket, _ := p.in.LookupEnv("SSH_AUTH_SOCK")
	switch {
	case socket == "":
		missing.Why = "SSH_AUTH_SOCK is not set: there is no ssh agent in this session"
		return missing
	case !path.IsAbs(socket):
		missing.Why = fmt.Sprintf("SSH_AUTH_SOCK is %q, which is no absolute path of a socket", socket)
		return missing
	}
	out := &spec.SSHAgent{Socket: spec.Path(socket), Confirm: want.Confirm}
	for _, k := range want.Keys {
		one := spec.SSHKey{Fingerprint: k.Fingerprint}
		if k.Fingerprint == "" {
			one.Comment = k.Text
		}
		out.Keys = append(out.Keys, one)
	}
	if want.Confirm {
		askpass, _ := p.in.LookupEnv("SSH_ASKPASS")
		out.Askpass = spec.Path(askpass)
	}
	p.spec.Integrations.SSHAgent = out
	return nil
}

// notAsRoot refuses what answers by the ids of who asks, and nobody inside has root's.
func (p *planner) notAsRoot(name string) error {
	if p.in.Host.UID == 0 {
		return &integration.MissingError{Name: name, Why: "nobody inside is root outside, so that your desktop would not answer",
			Do: "start cove as the user whose desktop it is"}
	}
	return nil
}

// wayland takes the compositor that the environment names, as libwayland does (wl_display_connect).
func (p *planner) wayland() error {
	if !p.profile.Integrations.Wayland {
		return nil
	}
	missing := &integration.MissingError{Name: "host.wayland", Do: "start cove in a terminal of a Wayland desktop; on an X11 desktop it is host.x11"}
	display, _ := p.in.LookupEnv("WAYLAND_DISPLAY")
	dir, _ := p.in.LookupEnv("XDG_RUNTIME_DIR")
	switch {
	case display == "":
		missing.Why = "WAYLAND_DISPLAY is not set: there is no Wayland compositor in this session"
		return missing
	case !path.IsAbs(display) && !path.IsAbs(dir):
		missing.Why = fmt.Sprintf("WAYLAND_DISPLAY is %q, and XDG_RUNTIME_DIR, where that lies, is not set", display)
		return missing
	case !path.IsAbs(display):
		display = path.Join(dir, display)
	}
	if err := p.notAsRoot("host.wayland"); err != nil {
		return err
	}
	p.spec.Integrations.Wayland = &spec.Wayland{Socket: spec.Path(display)}
	if dir := p.ownRuntimeDir(); dir != "" {
		uid, gid := p.you()
		p.spec.Mounts = append(p.spec.Mounts, spec.Mount{Kind: spec.MountTmpfs, Target: spec.Path(dir), Size: 64 << 20, Mode: 0o700, UID: uid, GID: gid})
		return p.sortMounts()
	}
	return nil
}

// ownRuntimeDir is an XDG_RUNTIME_DIR inside, which belongs to who uses it alone; "" where who that is only the inside knows.
func (p *planner) ownRuntimeDir() string {
	uid, _ := p.you()
	if p.in.User != "" || p.profile.User == "image" {
		return ""
	}
	return "/run/user/" + strconv.FormatUint(uint64(uid), 10)
}

// x11 takes the display that the environment names, where it is one of this machine.
func (p *planner) x11() error {
	want := p.profile.Integrations.X11
	if want == "" {
		return nil
	}
	display, _ := p.in.LookupEnv("DISPLAY")
	host, rest, _ := strings.Cut(display, ":")
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || host != "" && host != "unix" {
		e := &integration.MissingError{Name: "host.x11", Why: fmt.Sprintf("DISPLAY is %q, which is no display of this machine such as :0", display),
			Do: "start cove in a terminal of an X11 desktop; on a Wayland desktop it is host.wayland"}
		if display == "" {
			e.Why = "DISPLAY is not set: there is no X server in this session"
		}
		return e
	}
	if err := p.notAsRoot("host.x11"); err != nil {
		return err
	}
	x := &spec.X11{Display: int(n), Trusted: want == config.Trusted}
	p.spec.Integrations.X11 = x
	// Read-only: it is connected to all the same, and nobody changes the mode of what may be the caller's own file.
	p.bind(string(x.Socket()), string(x.Socket()), true, "")
	return p.sortMounts()
}

// audio takes the sound server that the environment names, or the one of this session.
func (p *planner) audio() error {
	want := p.profile.Integrations.Audio
	if want == "" {
		return nil
	}
	server, _ := p.in.LookupEnv("PULSE_SERVER")
	dir, _ := p.in.LookupEnv("XDG_RUNTIME_DIR")
	socket := strings.TrimPrefix(server, "unix:")
	if server == "" && path.IsAbs(dir) {
		socket = path.Join(dir, "pulse/native")
	}
	if !path.IsAbs(socket) {
		e := &integration.MissingError{Name: "host.audio", Why: fmt.Sprintf("PULSE_SERVER is %q, which is no socket of this machine", server),
			Do: "unset it for the sound server of your session, or set it to unix:PATH"}
		if server == "" {
			e.Why, e.Do = "XDG_RUNTIME_DIR is not set: there is no session here that has a sound server", "start cove in a terminal of the desktop"
		}
		return e
	}
	p.spec.Integrations.Audio = &spec.Audio{Socket: spec.Path(socket), Record: want == config.RecordSound}
	return nil
}

// gpu puts what was found for the GPUs inside. What a host root file system shows already stays as it is.
func (p *planner) gpu() error {
	found := p.in.Devices
	switch {
	case len(p.profile.Integrations.GPU) == 0:
		return nil
	case found == nil:
		return errors.New("bug: nobody has looked for the GPU")
	}
	for _, n := range found.Nodes {
		p.spec.Integrations.Devices = append(p.spec.Integrations.Devices, spec.Device{Source: spec.Path(n.Source), Target: spec.Path(n.Target)})
	}
	for _, m := range found.Mounts {
		shown := p.spec.Root.Kind == spec.RootHost && m.Source == m.Target &&
			(strings.HasPrefix(m.Source, "/usr/") || strings.HasPrefix(m.Source, "/etc/") || strings.HasPrefix(m.Source, "/opt/"))
		if !shown {
			p.bind(m.Source, m.Target, true, "")
		}
	}
	return p.sortMounts()
}

// integrationEnv are the variables by which programs find what is served.
func (p *planner) integrationEnv() [][2]string {
	var out [][2]string
	i := p.spec.Integrations
	if i == nil {
		return nil
	}
	if i.SSHAgent != nil {
		out = append(out, [2]string{"SSH_AUTH_SOCK", path.Join(spec.IntegrationsDir, spec.AgentSocket)})
	}
	if i.Git != nil {
		// The lowest of git's levels: what a repository or the home inside says of itself stays (git-config(1); git 2.32).
		out = append(out, [2]string{"GIT_CONFIG_SYSTEM", path.Join(spec.IntegrationsDir, spec.GitConfig)})
	}
	if i.Wayland != nil {
		out = append(out, [2]string{"WAYLAND_DISPLAY", path.Join(spec.IntegrationsDir, spec.Display)})
		if dir := p.ownRuntimeDir(); dir != "" {
			out = append(out, [2]string{"XDG_RUNTIME_DIR", dir})
		}
	}
	if i.Audio != nil {
		out = append(out, [2]string{"PULSE_SERVER", "unix:" + path.Join(spec.IntegrationsDir, spec.AudioSocket)})
	}
	if i.X11 != nil {
		out = append(out, [2]string{"DISPLAY", ":" + strconv.Itoa(i.X11.Display)}, [2]string{"XAUTHORITY", path.Join(spec.IntegrationsDir, spec.XAuthority)})
	}
	if p.in.Devices != nil && len(p.profile.Integrations.GPU) > 0 {
		for _, v := range p.in.Devices.Env {
			name, value, _ := strings.Cut(v, "=")
			out = append(out, [2]string{name, value})
		}
	}
	if i.Browser {
		out = append(out, [2]string{"BROWSER", path.Join(spec.IntegrationsDir, spec.ProgramsDir, spec.OpenProgram)})
	}
	return out
}

// searchPath is PATH with the programs before it that have no other name by which they are found.
func (p *planner) searchPath(list string) string {
	if i := p.spec.Integrations; i != nil && (i.Browser || i.Notify) {
		return path.Join(spec.IntegrationsDir, spec.ProgramsDir) + ":" + list
	}
	return list
}

package sandbox

import (
	"fmt"
	"path"
	"slices"
	"strings"

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
	if err := p.sshAgent(); err != nil {
		return err
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

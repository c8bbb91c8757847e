package spec

import "strconv"

// Integrations are what of the caller's session can be used inside. Each is served by the parent, on a socket that init makes
// in IntegrationsDir; there is no folder of the host's behind it.
type Integrations struct {
	SSHAgent *SSHAgent `json:"sshAgent,omitempty"`
	Git      *Git      `json:"git,omitempty"`
	Browser  bool      `json:"browser,omitempty"` // web pages are opened outside
	Notify   bool      `json:"notify,omitempty"`  // notifications are shown outside
	Wayland  *Wayland  `json:"wayland,omitempty"`
	X11      *X11      `json:"x11,omitempty"`
	Audio    *Audio    `json:"audio,omitempty"`
	Devices  []Device  `json:"devices,omitempty"` // of the host, in /dev inside
	Program  Path      `json:"program,omitempty"` // cove's own file, which is each of Programs; known when it starts
	Project  Path      `json:"project,omitempty"` // the project's folder outside, in it or not; known when it starts
	Files    []File    `json:"files,omitempty"`   // generated, when it starts; their targets are below IntegrationsDir
}

// IntegrationsDir is a file system of its own, read-only once the sockets are in it.
const IntegrationsDir = "/run/cove"

// Wayland is the caller's compositor.
type Wayland struct {
	Socket Path `json:"socket"` // outside
	// Context says that the compositor itself listens inside, and knows its clients for those of a sandbox (security-context-v1); else
	// its socket is there. It is found out when the sandbox starts.
	Context bool `json:"context,omitempty"`
}

// X11 is a display of the caller's.
type X11 struct {
	Display int  `json:"display"`
	Trusted bool `json:"trusted,omitempty"` // as any other client
}

// Socket is where the X server of the display listens, outside and inside.
func (x *X11) Socket() Path { return Path("/tmp/.X11-unix/X" + strconv.Itoa(x.Display)) }

// Device is a device node of the host's.
type Device struct {
	Source Path `json:"source"` // outside
	Target Path `json:"target"` // below /dev
}

// Audio is the caller's sound server.
type Audio struct {
	Socket Path `json:"socket"` // outside
	Record bool `json:"record,omitempty"`
}

// The names of what is in IntegrationsDir.
const (
	AgentSocket = "ssh-agent.sock" // of SSHAgent
	HostSocket  = "host.sock"      // of what Programs ask for
	ProgramsDir = "bin"            // of Programs
	GitConfig   = "gitconfig"      // of Git
	AudioSocket = "pulse.sock"     // of Audio
	Display     = "wayland-0"      // of Wayland
	XAuthority  = "Xauthority"     // of X11
)

// The programs by which those inside reach HostSocket.
const (
	OpenProgram       = "xdg-open"
	NotifyProgram     = "notify-send"
	CredentialProgram = "git-credential-cove"
)

// Git is what of the caller's git goes inside.
type Git struct {
	Identity    bool     `json:"identity,omitempty"`
	Credentials []string `json:"credentials,omitempty"` // HOST[:PORT], over https
}

// SSHAgent are some keys of the caller's ssh agent, to sign with.
type SSHAgent struct {
	Socket  Path     `json:"socket"` // the agent's own, outside
	Keys    []SSHKey `json:"keys"`
	Confirm bool     `json:"confirm,omitempty"` // the caller is asked each time
	Askpass Path     `json:"askpass,omitempty"` // the program that asks; "" is the usual one
}

// SSHKey names one of them, by either.
type SSHKey struct {
	Fingerprint string `json:"fingerprint,omitempty"`
	Comment     string `json:"comment,omitempty"`
}

// Programs are the names under which cove itself lies in ProgramsDir.
func (i *Integrations) Programs() []string {
	var names []string
	if i != nil && i.Browser {
		names = append(names, OpenProgram)
	}
	if i != nil && i.Notify {
		names = append(names, NotifyProgram)
	}
	if i != nil && i.Git != nil && len(i.Git.Credentials) > 0 {
		names = append(names, CredentialProgram)
	}
	return names
}

// Bound are sockets of the host's that are in IntegrationsDir, by name.
func (i *Integrations) Bound() map[string]Path {
	if i != nil && i.Wayland != nil && !i.Wayland.Context {
		return map[string]Path{Display: i.Wayland.Socket}
	}
	return nil
}

// Sockets are the names of the sockets that init makes, in the order in which it sends them to the parent.
func (i *Integrations) Sockets() []string {
	var names []string
	if i != nil && i.SSHAgent != nil {
		names = append(names, AgentSocket)
	}
	if len(i.Programs()) > 0 {
		names = append(names, HostSocket)
	}
	if i != nil && i.Audio != nil {
		names = append(names, AudioSocket)
	}
	if i != nil && i.Wayland != nil && i.Wayland.Context {
		names = append(names, Display)
	}
	return names
}

package spec

// Integrations are what of the caller's session can be used inside. Each is served by the parent, on a socket that init makes
// in IntegrationsDir; there is no folder of the host's behind it.
type Integrations struct {
	SSHAgent *SSHAgent `json:"sshAgent,omitempty"`
}

// IntegrationsDir is a file system of its own, read-only once the sockets are in it.
const IntegrationsDir = "/run/cove"

// AgentSocket is the socket of SSHAgent, in IntegrationsDir.
const AgentSocket = "ssh-agent.sock"

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

// Sockets are the names of the sockets that init makes, in the order in which it sends them to the parent.
func (i *Integrations) Sockets() []string {
	var names []string
	if i != nil && i.SSHAgent != nil {
		names = append(names, AgentSocket)
	}
	return names
}

// Package outside is the parent's half of a sandbox's integrations: it runs on the host, with the caller's rights, and answers
// what is asked inside. Whoever asks is not trusted: what comes is bounded in size, in time and in number, of what it may ask
// there is a list, and what it says is cleaned before anybody sees it.
//
// The ssh agent's protocol is draft-ietf-sshm-ssh-agent, with OpenSSH's PROTOCOL.agent; golang.org/x/crypto/ssh/agent speaks it to
// the caller's agent. Its server is not used, for that prints what a client does wrong. Of the messages there pass: list, sign, and
// session-bind@openssh.com, which tells the agent for which server the next signature is and can only take away from what a key
// may do. Keys are chosen when the sandbox starts, by what they are: another key under the same comment is another key.
package outside

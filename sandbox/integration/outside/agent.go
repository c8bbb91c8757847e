package outside

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cove/fetch/oci"
	"cove/sandbox/integration"
	"cove/sandbox/spec"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// The messages of the agent's protocol that have a meaning here.
const (
	msgFailure   = 5
	msgList      = 11
	msgSign      = 13
	msgExtension = 27
)

// refusedMessages are what the others are called in the log.
var refusedMessages = map[byte]string{
	1: "list-v1", 3: "sign-v1", 7: "add-v1", 8: "remove-v1", 9: "remove-all-v1", 17: "add", 18: "remove", 19: "remove-all",
	20: "add-smartcard", 21: "remove-smartcard", 22: "lock", 23: "unlock", 25: "add", 26: "add-smartcard",
}

// maxMessage is OpenSSH's own bound (AGENT_MAX_LEN in its ssh-agent.c).
const maxMessage = 256 << 10

// bindExtension tells an agent which server the signatures that follow on a connection are for (PROTOCOL.agent).
const bindExtension = "session-bind@openssh.com"

// sshAgent is the caller's agent, and the keys of it that may be used.
type sshAgent struct {
	socket string
	chosen map[string]string // by what is to be said of the key: its blob -> its comment
	asker  *asker            // nil where nobody is asked
}

// openAgent finds the keys that were asked for. Each has to be there: a sandbox without them is not what was asked for.
func openAgent(ctx context.Context, s *spec.SSHAgent) (*sshAgent, error) {
	a := &sshAgent{socket: string(s.Socket), chosen: map[string]string{}}
	conn, err := dialUnix(ctx, a.socket)
	if err != nil {
		return nil, &integration.MissingError{Name: "host.ssh_agent", Why: fmt.Sprintf("connect to your ssh agent at %q: %v", s.Socket, err),
			Do: "`eval \"$(ssh-agent)\"` starts another one in this shell, and `ssh-add` gives it your keys"}
	}
	defer conn.Close()
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return nil, fmt.Errorf("host.ssh_agent: ask your ssh agent for its keys: %w", err)
	}
	for _, want := range s.Keys {
		if err := a.choose(want, keys); err != nil {
			return nil, err
		}
	}
	if s.Confirm {
		a.asker, err = newAsker(string(s.Askpass))
	}
	return a, err
}

// choose takes the key that is meant, if it is one.
func (a *sshAgent) choose(want spec.SSHKey, keys []*agent.Key) error {
	found := map[string]bool{} // by fingerprint
	for _, k := range keys {
		if f := fingerprint(k); want.Fingerprint == f || want.Fingerprint == "" && k.Comment == want.Comment {
			found[f] = true
		}
	}
	if len(found) == 1 {
		for _, k := range keys {
			if found[fingerprint(k)] { // the key, and certificates that it has
				a.chosen[string(k.Blob)] = k.Comment
			}
		}
		return nil
	}
	e := &integration.MissingError{Name: "host.ssh_agent", Do: "`ssh-add -l` lists the keys that it has; `ssh-add FILE` gives it one"}
	switch {
	case len(found) > 1:
		e.Why = fmt.Sprintf("%d keys of your ssh agent have the comment %q", len(found), want.Comment)
		e.Do = "name one by its SHA256: fingerprint, which `ssh-add -l` prints"
	case want.Fingerprint != "":
		e.Why = fmt.Sprintf("your ssh agent has no key %s", want.Fingerprint)
	default:
		e.Why = fmt.Sprintf("your ssh agent has no key with the comment %q", want.Comment)
	}
	return e
}

// fingerprint is that of a key, as ssh-add(1) prints it: a certificate has that of the key that it is for.
func fingerprint(key ssh.PublicKey) string {
	if parsed, err := ssh.ParsePublicKey(key.Marshal()); err == nil {
		if cert, ok := parsed.(*ssh.Certificate); ok {
			key = cert.Key
		}
	}
	return ssh.FingerprintSHA256(key)
}

// serveAgent answers one connection, by a connection to the agent of its own: what a client binds itself to is not another's.
func (o *opened) serveAgent(ctx context.Context, c *client) {
	upstream, err := dialUnix(ctx, o.agent.socket)
	if err != nil {
		e := c.event("ssh-agent", "connect")
		e.Error = err.Error()
		o.tell(e)
		return
	}
	defer upstream.Close()
	stop := context.AfterFunc(ctx, func() { _ = upstream.Close() })
	defer stop()
	s := &agentSession{sshAgent: o.agent, opened: o, ctx: ctx, client: c, upstream: agent.NewClient(upstream)}
	// Its error is that the client has gone, or has sent what is no message.
	_ = agent.ServeAgent(s, &agentMessages{client: c, refuse: s.refuse})
}

// agentMessages is a client's connection as agent.ServeAgent reads it: whole messages that may pass, none too long, each in
// time. To the others it answers itself, so that nobody takes apart what nobody will use.
type agentMessages struct {
	*client
	refuse func(what, why string)
	left   []byte // of the message
}

var errBadMessage = errors.New("not a message of the agent's protocol")

func (m *agentMessages) Read(p []byte) (int, error) {
	for len(m.left) == 0 {
		if err := m.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, m.left)
	m.left = m.left[n:]
	return n, nil
}

// next reads one message: its length, and that many bytes, of which the first is its kind.
func (m *agentMessages) next() error {
	var head [5]byte
	if err := m.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if _, err := io.ReadFull(m.client, head[:1]); err != nil {
		return err
	}
	if err := m.SetReadDeadline(time.Now().Add(messageTime)); err != nil {
		return err
	}
	if _, err := io.ReadFull(m.client, head[1:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 1 || size > maxMessage {
		m.refuse("message", "too-long")
		return errBadMessage
	}
	whole := make([]byte, 4+size)
	copy(whole, head[:])
	if _, err := io.ReadFull(m.client, whole[len(head):]); err != nil {
		return err
	}
	switch kind := head[4]; kind {
	case msgList, msgSign, msgExtension:
		m.left = whole
		return m.SetWriteDeadline(time.Now().Add(answerTime))
	default:
		what := refusedMessages[kind]
		if what == "" {
			what = fmt.Sprintf("message %d", kind)
		}
		m.refuse(what, "never")
		if err := m.SetWriteDeadline(time.Now().Add(messageTime)); err != nil {
			return err
		}
		_, err := m.client.Write([]byte{0, 0, 0, 1, msgFailure})
		return err
	}
}

// answerTime is how long an answer may take until it has been read. The agent may ask for a touch of a token meanwhile.
const answerTime = 5 * time.Minute

// agentSession is the agent as one client sees it.
type agentSession struct {
	*sshAgent
	*opened
	ctx       context.Context
	client    *client
	upstream  agent.ExtendedAgent
	to        string // the fingerprint of the server's key that the client is bound to
	forwarded bool   // what comes is another machine's
}

var _ agent.ExtendedAgent = (*agentSession)(nil)

var errRefused = errors.New("refused")

// refuse notes what is not done.
func (s *agentSession) refuse(what, why string) {
	e := s.client.event("ssh-agent", what)
	e.Reason = why
	s.tell(e)
}

// List has the chosen keys alone.
func (s *agentSession) List() ([]*agent.Key, error) {
	e := s.client.event("ssh-agent", "list")
	if s.forwarded {
		s.refuse("list", "forwarded")
		return nil, errRefused
	}
	e.Allowed = true
	all, err := s.upstream.List()
	if err != nil {
		e.Error = oci.Clean(err.Error())
	}
	s.tell(e)
	var some []*agent.Key
	for _, k := range all {
		if _, ok := s.chosen[string(k.Blob)]; ok {
			some = append(some, k)
		}
	}
	return some, err
}

func (s *agentSession) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return s.SignWithFlags(key, data, 0)
}

func (s *agentSession) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	e := s.client.event("ssh-agent", "sign")
	comment, chosen := s.chosen[string(key.Marshal())]
	e.On, e.Text, e.To = fingerprint(key), oci.Clean(comment), s.to
	switch {
	case !chosen:
		e.Reason = "not-chosen"
	case s.forwarded:
		e.Reason = "forwarded"
	case s.asker != nil && !s.asker.ask(s.ctx, s.question(e)):
		e.Reason = "not-confirmed"
	default:
		e.Allowed = true
	}
	if !e.Allowed {
		s.tell(e)
		return nil, errRefused
	}
	sig, err := s.upstream.SignWithFlags(key, data, flags)
	if err != nil {
		e.Error = oci.Clean(err.Error())
	}
	s.tell(e)
	return sig, err
}

// question is what the caller is asked before a signature.
func (s *agentSession) question(e integration.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Allow the sandbox %s to sign with the ssh key %s?\n\nKey: %s\nProgram inside: %s", s.name, e.Text, e.On, e.Program)
	if e.To != "" {
		fmt.Fprintf(&b, "\nFor the server with the key: %s", e.To)
	}
	return b.String()
}

// Extension passes on to which server the client is bound, and nothing else. The agent checks it by the server's own
// signature; it holds keys with destination constraints to it, and refuses those on a connection that is not bound. What is
// bound as forwarded is asked for by another machine, which was granted nothing.
func (s *agentSession) Extension(name string, contents []byte) ([]byte, error) {
	if name != bindExtension {
		s.refuse("extension "+oci.Short(name), "never")
		return nil, agent.ErrExtensionUnsupported
	}
	var bind struct {
		HostKey    []byte
		Session    []byte
		Signature  []byte
		Forwarding bool
	}
	if err := ssh.Unmarshal(contents, &bind); err != nil {
		return nil, err
	}
	if bind.Forwarding {
		s.forwarded = true
		s.refuse("bind", "forwarded")
		return nil, errRefused
	}
	answer, err := s.upstream.Extension(name, contents)
	if err != nil {
		return nil, err
	}
	if key, err := ssh.ParsePublicKey(bind.HostKey); err == nil {
		s.to = ssh.FingerprintSHA256(key)
	}
	return answer, nil
}

// What follows is never asked for: agentMessages lets none of it through. It would change the agent.

func (s *agentSession) Add(agent.AddedKey) error       { return errRefused }
func (s *agentSession) Remove(ssh.PublicKey) error     { return errRefused }
func (s *agentSession) RemoveAll() error               { return errRefused }
func (s *agentSession) Lock([]byte) error              { return errRefused }
func (s *agentSession) Unlock([]byte) error            { return errRefused }
func (s *agentSession) Signers() ([]ssh.Signer, error) { return nil, errRefused }

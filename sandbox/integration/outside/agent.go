package outside

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cove/fetch/oci"
	"cove/sandbox/integration"
	"cove/sandbox/programs"
	"cove/sandbox/spec"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// The messages of the agent's protocol that have a meaning here.
const (
	msgFailure          = 5
	msgList             = 11
	msgListed           = 12
	msgSign             = 13
	msgSigned           = 14
	msgExtension        = 27
	msgExtensionFailure = 28
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
func openAgent(ctx context.Context, s *spec.SSHAgent, p *programs.Programs) (*sshAgent, error) {
	a := &sshAgent{socket: string(s.Socket), chosen: map[string]string{}}
	conn, err := dialUnix(ctx, a.socket)
	if err != nil {
		return nil, &integration.MissingError{Name: "host.ssh_agent", Why: fmt.Sprintf("connect to your ssh agent at %q: %v", s.Socket, err),
			Do: "`eval \"$(ssh-agent)\"` starts another one in this shell, and `ssh-add` gives it your keys"}
	}
	defer conn.Close()
	// It may ask its user to unlock it first, or never answer.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(askTime)); err != nil {
		return nil, err
	}
	keys, err := agent.NewClient(conn).List()
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, fmt.Errorf("host.ssh_agent: ask your ssh agent for its keys: %w", err)
	}
	for _, want := range s.Keys {
		if err := a.choose(want, keys); err != nil {
			return nil, err
		}
	}
	if s.Confirm {
		a.asker, err = newAsker(p, string(s.Askpass))
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
	for {
		message, err := s.next()
		if err != nil {
			return // the client has gone, or has sent what is no message
		}
		answer := s.answer(message)
		if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil {
			return
		}
	}
}

var errBadMessage = errors.New("not a message of the agent's protocol")

// next reads one message: its length, and that many bytes, of which the first is its kind.
func (s *agentSession) next() ([]byte, error) {
	var size [4]byte
	if err := s.client.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s.client, size[:1]); err != nil {
		return nil, err
	}
	if err := s.client.SetReadDeadline(time.Now().Add(messageTime)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s.client, size[1:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 1 || n > maxMessage {
		s.refuse("message", "too-long")
		return nil, errBadMessage
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(s.client, message); err != nil {
		return nil, err
	}
	return message, s.client.SetWriteDeadline(time.Now().Add(answerTime))
}

// answer does what a message asks for, if it may be asked for; nobody takes apart what nobody will use.
func (s *agentSession) answer(message []byte) []byte {
	var answer []byte
	var err error
	switch kind := message[0]; kind {
	case msgList:
		answer, err = s.list()
	case msgSign:
		answer, err = s.sign(message)
	case msgExtension:
		answer, err = s.extension(message)
	default:
		what := refusedMessages[kind]
		if what == "" {
			what = fmt.Sprintf("message %d", kind)
		}
		s.refuse(what, "never")
		err = errRefused
	}
	if err != nil {
		return []byte{msgFailure}
	}
	return answer
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
	session   []byte // and its session with that server
	forwarded bool   // what comes is another machine's
}

var errRefused = errors.New("refused")

// refuse notes what is not done.
func (s *agentSession) refuse(what, why string) {
	e := s.client.event("ssh-agent", what)
	e.Reason = why
	s.tell(e)
}

// list has the chosen keys alone.
func (s *agentSession) list() ([]byte, error) {
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
	var some []byte
	n := uint32(0)
	for _, k := range all {
		if _, ok := s.chosen[string(k.Blob)]; ok {
			n++
			some = append(some, ssh.Marshal(struct {
				Blob    []byte
				Comment string
			}{k.Blob, k.Comment})...)
		}
	}
	return append(binary.BigEndian.AppendUint32([]byte{msgListed}, n), some...), err
}

func (s *agentSession) sign(message []byte) ([]byte, error) {
	var ask struct {
		Key   []byte `sshtype:"13"`
		Data  []byte
		Flags uint32
	}
	if err := ssh.Unmarshal(message, &ask); err != nil {
		return nil, err
	}
	key := &agent.Key{Blob: ask.Key}
	e := s.client.event("ssh-agent", "sign")
	comment, chosen := s.chosen[string(ask.Key)]
	e.On, e.Text = fingerprint(key), oci.Clean(comment)
	if s.forBound(ask.Data, ask.Key) {
		e.To = s.to
	}
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
	sig, err := s.upstream.SignWithFlags(key, ask.Data, agent.SignatureFlags(ask.Flags))
	if err != nil {
		e.Error = oci.Clean(err.Error())
	}
	s.tell(e)
	if err != nil {
		return nil, err
	}
	return append([]byte{msgSigned}, ssh.Marshal(struct{ Signature []byte }{ssh.Marshal(sig)})...), nil
}

// forBound says whether what is to be signed lets somebody in where the client is bound to, and nowhere else: it is a request to be let in
// by this key (RFC 4252, section 7), of that session. Whoever has bound themselves to one server may ask for a signature for another.
func (s *agentSession) forBound(data, key []byte) bool {
	const userauthRequest = 50
	var request struct {
		Session               []byte
		Kind                  byte
		User, Service, Method string
		Signed                bool
		Algorithm             string
		Key                   []byte
		Rest                  []byte `ssh:"rest"` // the server's key, in OpenSSH's publickey-hostbound-v00@openssh.com
	}
	return s.to != "" && ssh.Unmarshal(data, &request) == nil && request.Kind == userauthRequest &&
		bytes.Equal(request.Session, s.session) && bytes.Equal(request.Key, key)
}

// question is what the caller is asked before a signature.
func (s *agentSession) question(e integration.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Allow the sandbox %s to sign with the ssh key %s?\n\nKey: %s\nProgram inside: %s", s.name, e.Text, e.On, e.Program)
	if e.To != "" {
		fmt.Fprintf(&b, "\nFor the server with the key: %s", e.To)
	} else {
		b.WriteString("\nFor what: not known (a text, or any server)")
	}
	return b.String()
}

// provesSession says whether a server has signed that a session is with it: not every agent that takes a binding looks.
func provesSession(key ssh.PublicKey, session, signature []byte) bool {
	var sig ssh.Signature
	return len(key.Marshal()) <= maxHostKey && ssh.Unmarshal(signature, &sig) == nil && key.Verify(session, &sig) == nil
}

// maxHostKey bounds what is computed with: it has room for RSA's 16384 bits, of which OpenSSH takes no more.
const maxHostKey = 4 << 10

// extension passes on to which server the client is bound, and nothing else. The agent checks it by the server's own
// signature; it holds keys with destination constraints to it, and refuses those on a connection that is not bound. What is
// bound as forwarded is asked for by another machine, which was granted nothing.
func (s *agentSession) extension(message []byte) ([]byte, error) {
	var ask struct {
		Name     string `sshtype:"27"`
		Contents []byte `ssh:"rest"`
	}
	if err := ssh.Unmarshal(message, &ask); err != nil {
		return nil, err
	}
	if ask.Name != bindExtension {
		s.refuse("extension "+oci.Short(ask.Name), "never")
		return nil, errRefused
	}
	var bind struct {
		HostKey    []byte
		Session    []byte
		Signature  []byte
		Forwarding bool
	}
	if err := ssh.Unmarshal(ask.Contents, &bind); err != nil {
		return []byte{msgExtensionFailure}, nil
	}
	if bind.Forwarding {
		s.forwarded = true
		s.refuse("bind", "forwarded")
		return []byte{msgExtensionFailure}, nil
	}
	answer, err := s.upstream.Extension(ask.Name, ask.Contents)
	switch {
	case errors.Is(err, agent.ErrExtensionUnsupported):
		return nil, err
	case err != nil:
		return []byte{msgExtensionFailure}, nil
	}
	s.to, s.session = "", bind.Session
	if key, err := ssh.ParsePublicKey(bind.HostKey); err == nil && provesSession(key, bind.Session, bind.Signature) {
		s.to = ssh.FingerprintSHA256(key)
	}
	return answer, nil
}

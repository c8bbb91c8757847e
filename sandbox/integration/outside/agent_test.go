package outside

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"cove/sandbox/integration"
	"cove/sandbox/programs"
	"cove/sandbox/spec"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// caller is an ssh agent outside that keeps what it is told, with two keys.
type caller struct {
	socket        string
	keyring       agent.Agent
	chosen, other ssh.PublicKey

	mu   sync.Mutex
	told [][]byte // messages without their length
}

func newCaller(t testing.TB) *caller {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &caller{socket: filepath.Join(dir, "a"), keyring: binder{agent.NewKeyring().(agent.ExtendedAgent)}}
	for _, k := range []struct {
		key     *ssh.PublicKey
		comment string
	}{{&c.chosen, "chosen"}, {&c.other, "other"}} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		*k.key = signer.PublicKey()
		if err := c.keyring.Add(agent.AddedKey{PrivateKey: private, Comment: k.comment}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", c.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(c.keyring, struct {
					io.Reader
					io.Writer
				}{&listener{conn: conn, c: c}, conn})
			}()
		}
	}()
	return c
}

// binder takes every binding for good, as some agents do.
type binder struct{ agent.ExtendedAgent }

func (binder) Extension(name string, _ []byte) ([]byte, error) {
	if name != bindExtension {
		return nil, agent.ErrExtensionUnsupported
	}
	return []byte{6}, nil // SSH_AGENT_SUCCESS
}

// listener keeps whole messages on their way.
type listener struct {
	conn net.Conn
	c    *caller
	all  []byte
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.conn.Read(p)
	l.all = append(l.all, p[:n]...)
	for len(l.all) >= 4 {
		size := int(binary.BigEndian.Uint32(l.all))
		if len(l.all) < 4+size {
			break
		}
		l.c.mu.Lock()
		l.c.told = append(l.c.told, bytes.Clone(l.all[4:4+size]))
		l.c.mu.Unlock()
		l.all = l.all[4+size:]
	}
	return n, err
}

// wrong says what of the agent's messages it should never have heard.
func (c *caller) wrong() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.told {
		switch {
		case len(m) == 1 && m[0] == msgList:
		case len(m) > 5 && m[0] == msgSign && bytes.HasPrefix(m[5:], c.chosen.Marshal()):
		case len(m) > 5 && m[0] == msgExtension && bytes.HasPrefix(m[5:], []byte(bindExtension)):
		default:
			return errors.New("the agent was told " + string(m))
		}
	}
	keys, err := c.keyring.List()
	if err == nil && len(keys) != 2 {
		err = errors.New("the agent's keys have changed")
	}
	return err
}

// inside is the proxy before that agent, as a sandbox has it.
type inside struct {
	*opened
	socket string
	mu     sync.Mutex
	events []integration.Event
}

func newInside(t testing.TB, c *caller, change func(*spec.SSHAgent)) *inside {
	t.Helper()
	s := &spec.SSHAgent{Socket: spec.Path(c.socket), Keys: []spec.SSHKey{{Comment: "chosen"}}}
	if change != nil {
		change(s)
	}
	in := &inside{socket: filepath.Join(filepath.Dir(c.socket), "i")}
	o, err := Integrations{}.Open(t.Context(), &spec.Spec{Name: "box", Integrations: &spec.Integrations{SSHAgent: s}}, func(e integration.Event) {
		in.mu.Lock()
		in.events = append(in.events, e)
		in.mu.Unlock()
	})
	if err != nil {
		t.Fatal(err)
	}
	in.opened = o.(*opened)
	l, err := net.Listen("unix", in.socket)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if err := in.Serve(spec.AgentSocket, f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return in
}

func (in *inside) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", in.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// reasons are what was refused, and why.
func (in *inside) reasons() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []string
	for _, e := range in.events {
		if !e.Allowed {
			out = append(out, e.What+": "+e.Reason)
		}
	}
	return out
}

// TestAgent: of two keys one is listed and signs; nothing else reaches the agent.
func TestAgent(t *testing.T) {
	// What a client does wrong is for the log of the sandbox, and not for the terminal that cove was called on.
	var printed bytes.Buffer
	log.SetOutput(&printed)
	defer func() {
		log.SetOutput(os.Stderr)
		if printed.Len() > 0 {
			t.Errorf("printed: %s", &printed)
		}
	}()
	c := newCaller(t)
	in := newInside(t, c, nil)
	a := agent.NewClient(in.dial(t))
	keys, err := a.List()
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0].Blob, c.chosen.Marshal()) {
		t.Fatalf("keys %v, %v", keys, err)
	}
	sig, err := a.Sign(c.chosen, []byte("data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.chosen.Verify([]byte("data"), sig); err != nil {
		t.Error(err)
	}
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	for what, err := range map[string]error{
		"sign: not-chosen":                     func() error { _, err := a.Sign(c.other, []byte("data")); return err }(),
		"add: never":                           a.Add(agent.AddedKey{PrivateKey: private}),
		"remove: never":                        a.Remove(c.chosen),
		"remove-all: never":                    a.RemoveAll(),
		"lock: never":                          a.Lock([]byte("x")),
		"unlock: never":                        a.Unlock([]byte("x")),
		`extension "query@openssh.com": never`: func() error { _, err := a.Extension("query@openssh.com", nil); return err }(),
		"bind: forwarded":                      bind(a, true),
		"list: forwarded":                      func() error { _, err := a.List(); return err }(),
		"sign: forwarded":                      func() error { _, err := a.Sign(c.chosen, []byte("data")); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: was done", what)
		}
		if !slices.Contains(in.reasons(), what) {
			t.Errorf("%s: not in the log: %q", what, in.reasons())
		}
	}
	if err := c.wrong(); err != nil {
		t.Error(err)
	}
}

func bind(a agent.ExtendedAgent, forwarding bool) error {
	return bindTo(a, []byte("key"), []byte("session"), []byte("signature"), forwarding)
}

func bindTo(a agent.ExtendedAgent, key, session, signature []byte, forwarding bool) error {
	_, err := a.Extension(bindExtension, ssh.Marshal(struct {
		HostKey, Session, Signature []byte
		Forwarding                  bool
	}{key, session, signature, forwarding}))
	return err
}

// TestAgentServer: a server is named in the log, and to who is asked, only where the signature is of use there alone, and the server has
// said itself that the session is with it.
func TestAgentServer(t *testing.T) {
	c := newCaller(t)
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	server, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	host := server.PublicKey()
	session, other := []byte("the session with it"), []byte("the session with another")
	signed := func(session []byte) []byte {
		sig, err := server.Sign(rand.Reader, session)
		if err != nil {
			t.Fatal(err)
		}
		return ssh.Marshal(sig)
	}
	login := func(session []byte, key ssh.PublicKey) []byte {
		return ssh.Marshal(struct {
			Session               []byte
			Kind                  byte
			User, Service, Method string
			Signed                bool
			Algorithm             string
			Key                   []byte
		}{session, 50, "git", "ssh-connection", "publickey", true, key.Type(), key.Marshal()})
	}
	to := ssh.FingerprintSHA256(host)
	for _, test := range []struct {
		name            string
		signature, data []byte
		to              string
	}{
		{"to log in there", signed(session), login(session, c.chosen), to},
		{"hostbound", signed(session), append(login(session, c.chosen), ssh.Marshal(struct{ HostKey []byte }{host.Marshal()})...), to},
		{"to log in elsewhere", signed(session), login(other, c.chosen), ""},
		{"with another key", signed(session), login(session, c.other), ""},
		{"of a file", signed(session), []byte("SSHSIG\x00\x00\x00\x04file"), ""},
		{"of nothing", signed(session), nil, ""},
		{"a session of another's", signed(other), login(session, c.chosen), ""},
		{"no signature", []byte("signature"), login(session, c.chosen), ""},
	} {
		in := newInside(t, c, nil)
		a := agent.NewClient(in.dial(t))
		if err := bindTo(a, host.Marshal(), session, test.signature, false); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Sign(c.chosen, test.data); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(in.Close(), os.Remove(in.socket)); err != nil {
			t.Error(err)
		}
		if e := in.events[len(in.events)-1]; e.What != "sign" || !e.Allowed || e.To != test.to {
			t.Errorf("%s: %+v, want to %q", test.name, e, test.to)
		}
	}
}

// TestAgentKeys: which key is meant must be clear, and it must be there.
func TestAgentKeys(t *testing.T) {
	c := newCaller(t)
	for name, test := range map[string]struct {
		key spec.SSHKey
		why string // "" is none
	}{
		"comment":     {spec.SSHKey{Comment: "other"}, ""},
		"fingerprint": {spec.SSHKey{Fingerprint: ssh.FingerprintSHA256(c.other)}, ""},
		"no comment":  {spec.SSHKey{Comment: "nobody's"}, `host.ssh_agent: your ssh agent has no key with the comment "nobody's"`},
		"no key":      {spec.SSHKey{Fingerprint: "SHA256:x"}, "host.ssh_agent: your ssh agent has no key SHA256:x"},
	} {
		_, err := openAgent(t.Context(), &spec.SSHAgent{Socket: spec.Path(c.socket), Keys: []spec.SSHKey{test.key}}, programs.New(nil))
		if got := text(err); got != test.why {
			t.Errorf("%s: %q, want %q", name, got, test.why)
		}
	}
	_, private, _ := ed25519.GenerateKey(rand.Reader)
	if err := c.keyring.Add(agent.AddedKey{PrivateKey: private, Comment: "other"}); err != nil {
		t.Fatal(err)
	}
	_, err := openAgent(t.Context(), &spec.SSHAgent{Socket: spec.Path(c.socket), Keys: []spec.SSHKey{{Comment: "other"}}}, programs.New(nil))
	if want := `host.ssh_agent: 2 keys of your ssh agent have the comment "other"`; text(err) != want {
		t.Errorf("%q, want %q", text(err), want)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestAgentCertificate: a certificate is used with the key that it is for.
func TestAgentCertificate(t *testing.T) {
	c := newCaller(t)
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	key, _ := ssh.NewPublicKey(public)
	authority, _ := ssh.NewSignerFromKey(private)
	cert := &ssh.Certificate{Key: key, CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	for _, k := range []agent.AddedKey{{PrivateKey: private, Comment: "mine"}, {PrivateKey: private, Certificate: cert, Comment: "mine"}} {
		if err := c.keyring.Add(k); err != nil {
			t.Fatal(err)
		}
	}
	in := newInside(t, c, func(s *spec.SSHAgent) { s.Keys = []spec.SSHKey{{Fingerprint: ssh.FingerprintSHA256(key)}} })
	keys, err := agent.NewClient(in.dial(t)).List()
	if err != nil || len(keys) != 2 {
		t.Errorf("%v, %v", keys, err)
	}
}

// TestAgentBounds: a message that is too long ends the connection, one that never ends does so in time, and more clients than
// are answered at once keep nobody from being answered later.
func TestAgentBounds(t *testing.T) {
	in := newInside(t, newCaller(t), nil)
	for name, sent := range map[string]string{"empty": "\x00\x00\x00\x00", "huge": "\xff\xff\xff\xff\x0d", "too long": "\x00\x04\x00\x01\x0d"} {
		conn := in.dial(t)
		_, _ = conn.Write([]byte(sent))
		if name == "empty" {
			_, _ = conn.Write([]byte{msgList})
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) && err == nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	var idle []net.Conn
	for range maxClients {
		idle = append(idle, in.dial(t))
	}
	late := in.dial(t)
	answered := make(chan error, 1)
	go func() { _, err := agent.NewClient(late).List(); answered <- err }()
	select {
	case err := <-answered:
		t.Errorf("%d clients at once: %v", maxClients+1, err)
	case <-time.After(200 * time.Millisecond):
	}
	_ = idle[3].Close()
	if err := <-answered; err != nil {
		t.Errorf("after one has gone: %v", err)
	}
	if err := in.Close(); err != nil { // which ends those that are idle
		t.Error(err)
	}
}

// TestAgentConfirm: the caller is asked outside each time, a no is a no for a while, and what the program says is not shown.
func TestAgentConfirm(t *testing.T) {
	c := newCaller(t)
	dir := filepath.Dir(c.socket)
	script := "#!/bin/sh\n[ \"$SSH_ASKPASS_PROMPT\" = confirm ] || exit 3\n[ -t 0 ] && exit 3\n(: </dev/tty) 2>/dev/null && exit 3\n" +
		"printf '%s\\n' \"$1\" >>" + dir + "/asked\nexit $(cat " + dir + "/answer)\n"
	if err := errors.Join(os.WriteFile(dir+"/askpass", []byte(script), 0o700), os.WriteFile(dir+"/answer", []byte("0"), 0o600)); err != nil {
		t.Fatal(err)
	}
	in := newInside(t, c, func(s *spec.SSHAgent) { s.Confirm, s.Askpass = true, spec.Path(dir+"/askpass") })
	a := agent.NewClient(in.dial(t))
	if _, err := a.Sign(c.chosen, nil); err != nil {
		t.Error("yes:", err)
	}
	if err := os.WriteFile(dir+"/answer", []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sign(c.chosen, nil); err == nil {
		t.Error("no: signed")
	}
	if err := os.WriteFile(dir+"/answer", []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sign(c.chosen, nil); err == nil {
		t.Error("asked again at once: signed")
	}
	asked, err := os.ReadFile(dir + "/asked")
	if n := bytes.Count(asked, []byte("Allow the sandbox box to sign with the ssh key chosen?")); err != nil || n != 2 {
		t.Errorf("asked %d times: %q, %v", n, asked, err)
	}
	_, err = openAgent(context.Background(), &spec.SSHAgent{Socket: spec.Path(c.socket), Confirm: true, Askpass: "/nowhere/askpass"}, programs.New(nil))
	if e := (&integration.MissingError{}); !errors.As(err, &e) {
		t.Errorf("nobody to ask: %v", err)
	}
}

// FuzzAgent: whatever a client says, the agent hears nothing but what may pass, and a good client is answered afterwards.
func FuzzAgent(f *testing.F) {
	c := newCaller(f)
	in := newInside(f, c, nil)
	frame := func(m []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(m))), m...) }
	sign := func(k ssh.PublicKey) []byte {
		return frame(ssh.Marshal(struct {
			Kind byte `sshtype:"13"`
			Key  []byte
			Data []byte
			Flag uint32
		}{Key: k.Marshal(), Data: []byte("data")}))
	}
	for _, m := range [][]byte{frame([]byte{msgList}), sign(c.chosen), sign(c.other), append(sign(c.other), sign(c.chosen)...), frame([]byte{19}), frame([]byte{22, 0, 0, 0, 1, 'x'}),
		{0xff, 0xff, 0xff, 0xff, 13}, {0, 0, 0, 9, 13, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, frame(append([]byte{27, 0, 0, 0, 24}, bindExtension...))} {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn, err := net.Dial("unix", in.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = conn.Write(sent)
		_ = conn.(*net.UnixConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%q: no end", sent)
		}
		good, err := net.Dial("unix", in.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer good.Close()
		_ = good.SetDeadline(time.Now().Add(20 * time.Second))
		if keys, err := agent.NewClient(good).List(); err != nil || len(keys) != 1 {
			t.Fatalf("%q: then %v, %v", sent, keys, err)
		}
		if err := c.wrong(); err != nil {
			t.Fatalf("%q: %v", sent, err)
		}
		c.mu.Lock()
		c.told = nil
		c.mu.Unlock()
		in.mu.Lock()
		in.events = nil
		in.mu.Unlock()
	})
}

// TestAgentSilent: an agent that does not answer is waited for as long as the caller likes.
func TestAgentSilent(t *testing.T) {
	dir := shortDir(t)
	unixServer(t, dir+"/a", func(conn *net.UnixConn) { _, _ = io.Copy(io.Discard, conn) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := openAgent(ctx, &spec.SSHAgent{Socket: spec.Path(dir + "/a"), Keys: []spec.SSHKey{{Comment: "x"}}}, programs.New(nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

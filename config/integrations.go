package config

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Integrations are what of the caller's own session can be used inside: the table [host].
type Integrations struct {
	SSHAgent SSHAgent
	Git      Git
	Browser  bool // web pages are opened in the caller's browser
	Notify   bool // notifications are shown on the caller's desktop
	Wayland  bool
	X11      string   // "", untrusted, trusted
	Audio    string   // "", play, record
	GPU      []string // dri, nvidia, or VENDOR/CLASS=NAME of a CDI file
}

// Any says whether something was asked for.
func (i Integrations) Any() bool {
	return len(i.SSHAgent.Keys) > 0 || i.Git.Identity || len(i.Git.Credentials) > 0 || i.Browser || i.Notify || i.Wayland || i.X11 != "" || i.Audio != "" || len(i.GPU) > 0
}

// Git is what of the caller's git goes inside.
type Git struct {
	Identity    bool     // user.name and user.email
	Credentials []string // HOST[:PORT] whose passwords can be asked for, over https
}

// SSHAgent are the keys of the caller's ssh agent that sign for who asks inside.
type SSHAgent struct {
	Keys    []SSHKey
	Confirm bool // each time the caller is asked first, outside
}

// SSHKey names a key of an agent: by its fingerprint, or by the comment that the agent has for it.
type SSHKey struct {
	Text        string // as it was written
	Fingerprint string // SHA256:..., as ssh-keygen -l prints it; "" where Text is a comment
}

// String is the key as it is shown: a file by what it held when it was read.
func (k SSHKey) String() string {
	if k.Fingerprint != "" {
		return k.Fingerprint
	}
	return k.Text
}

// setSSHKeys reads the files among the keys at once: what is agreed to is a key, not a file's name.
func setSSHKeys(p *Profile, c *change) {
	list, ok := c.list(`["SHA256:...", "~/.ssh/id_ed25519.pub"]`)
	var all []SSHKey
	for i, s := range list {
		k, err := parseSSHKey(s, c.base, p.home, c.origin(elementOf(c.key, i)))
		switch {
		case err != nil:
			c.bad(elementOf(c.key, i), s, "%v", bare(err))
			ok = false
		case c.add && slices.ContainsFunc(p.Integrations.SSHAgent.Keys, func(o SSHKey) bool { return o.String() == k.String() }):
			continue // asked for in the file, and again by hand
		case slices.ContainsFunc(all, func(o SSHKey) bool { return o.String() == k.String() }):
			c.bad(elementOf(c.key, i), s, "is already in the list")
			ok = false
		}
		all = append(all, k)
	}
	if ok {
		replace(p, c, &p.Integrations.SSHAgent.Keys, all)
	}
}

// setSSHConfirm is asked for by whoever has a say, and taken back by nobody who has less of one than the user.
func setSSHConfirm(p *Profile, c *change) {
	if c.value == false && p.Integrations.SSHAgent.Confirm && c.origin(c.key).Kind == FromProfile {
		return
	}
	c.bool(p, &p.Integrations.SSHAgent.Confirm)
}

func setGitIdentity(p *Profile, c *change) { c.bool(p, &p.Integrations.Git.Identity) }

func setBrowser(p *Profile, c *change) { c.bool(p, &p.Integrations.Browser) }

func setNotify(p *Profile, c *change) { c.bool(p, &p.Integrations.Notify) }

func setWayland(p *Profile, c *change) { c.bool(p, &p.Integrations.Wayland) }

// The values of Integrations.X11.
const (
	Untrusted = "untrusted"
	Trusted   = "trusted"
)

func setX11(p *Profile, c *change) {
	if s, ok := c.choice("kind of client", "none", Untrusted, Trusted); ok {
		p.Integrations.X11 = strings.TrimPrefix(s, "none")
		c.from(p)
	}
}

// The values of Integrations.Audio.
const (
	PlaySound   = "play"
	RecordSound = "record" // besides playing
)

func setAudio(p *Profile, c *change) {
	if s, ok := c.choice("use of sound", "none", PlaySound, RecordSound); ok {
		p.Integrations.Audio = strings.TrimPrefix(s, "none")
		c.from(p)
	}
}

func setGPU(p *Profile, c *change) {
	list, ok := c.list(`["dri"]`)
	var all []string
	for i, s := range list {
		switch {
		case !isGPU(s):
			c.bad(elementOf(c.key, i), s, `want "dri", "nvidia", or a device of a CDI file such as "nvidia.com/gpu=all"`)
			ok = false
		case c.add && slices.Contains(p.Integrations.GPU, s):
			continue
		case slices.Contains(all, s):
			c.bad(elementOf(c.key, i), s, "is already in the list")
			ok = false
		}
		all = append(all, s)
	}
	if ok {
		replace(p, c, &p.Integrations.GPU, all)
	}
}

// isGPU takes a word, or a device's full name as CDI has it.
func isGPU(s string) bool {
	if s == "dri" || s == "nvidia" {
		return true
	}
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, slash := strings.Cut(kind, "/")
	return ok && slash && vendor != "" && class != "" && name != "" && len(s) < 256 && only(vendor+class, letters+capitals+digits+"._-") && only(name, letters+capitals+digits+"._:-")
}

func setGitCredentials(p *Profile, c *change) {
	list, ok := c.list(`["github.com"]`)
	have := p.Integrations.Git.Credentials
	var all []string
	for i, s := range list {
		switch err := checkGitHost(s); {
		case err != nil:
			c.bad(elementOf(c.key, i), s, "%v", err)
			ok = false
		case c.add && slices.Contains(have, s):
			continue
		case slices.Contains(all, s):
			c.bad(elementOf(c.key, i), s, "is already in the list")
			ok = false
		}
		all = append(all, s)
	}
	if ok {
		replace(p, c, &p.Integrations.Git.Credentials, all)
	}
}

// checkGitHost takes a host as git writes it in what it asks a credential helper (git-credential(1)): NAME[:PORT].
func checkGitHost(s string) error {
	name, port, hasPort := strings.Cut(s, ":")
	switch {
	case s == "":
		return errors.New("is empty")
	case strings.Contains(s, "/"):
		return errors.New("want a host such as github.com, without https:// and without a path")
	case strings.ToLower(name) != name:
		return fmt.Errorf("a host is written in lower case: %q", strings.ToLower(s))
	case strings.Contains(name, "*"):
		return errors.New("each host is named by itself: a password of another must not be had by a pattern")
	case name == "" || len(name) > 253 || !only(name, letters+digits+".-") || strings.ContainsRune(".-", rune(name[0])):
		return errors.New("is not a host such as github.com")
	}
	if hasPort {
		if _, err := parsePort(port); err != nil {
			return err
		}
	}
	return nil
}

const fingerprintPrefix = "SHA256:"

// parseSSHKey takes a fingerprint, the file of a public key, or else a comment.
func parseSSHKey(text, base, home string, by Origin) (SSHKey, error) {
	k := SSHKey{Text: text}
	switch {
	case text == "":
		return k, errors.New("is empty")
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return k, errors.New("holds what cannot be printed")
	case strings.HasPrefix(text, fingerprintPrefix):
		sum, err := base64.RawStdEncoding.Strict().DecodeString(text[len(fingerprintPrefix):])
		if err != nil || len(sum) != sha256.Size {
			return k, errors.New("is no fingerprint: SHA256: and 43 characters, as `ssh-add -l` prints them")
		}
		k.Fingerprint = text
		return k, nil
	case strings.HasPrefix(text, "MD5:"):
		return k, errors.New("MD5 is no longer believed; `ssh-add -l` prints the SHA256: of each key")
	case !strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "~") && !strings.HasPrefix(text, "./") && !strings.HasPrefix(text, "../"):
		return k, nil
	}
	file, err := parseSource(text, base, home)
	if err != nil {
		return k, err
	}
	data, err := readNamed(file, by)
	if err != nil {
		return k, err
	}
	k.Fingerprint, err = fingerprintOf(data)
	return k, err
}

// fingerprintOf is that of the key in a file as ssh-keygen(1) writes it: TYPE BASE64 [COMMENT], on one line.
func fingerprintOf(data []byte) (string, error) {
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return "", errors.New("is a private key; the public one, which is meant, is in the file beside it that ends with .pub")
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	fields := bytes.Fields(lines[0])
	if len(lines) != 1 || len(fields) < 2 {
		return "", errors.New("is not one public key, as ssh-keygen writes it")
	}
	blob, err := base64.StdEncoding.DecodeString(string(fields[1]))
	// The key says its own type first (RFC 4253, section 6.6).
	if err != nil || len(blob) < 4 || uint64(len(blob)-4) < uint64(binary.BigEndian.Uint32(blob)) ||
		!bytes.Equal(blob[4:4+binary.BigEndian.Uint32(blob)], fields[0]) {
		return "", errors.New("is not a public key, as ssh-keygen writes it")
	}
	sum := sha256.Sum256(blob)
	return fingerprintPrefix + base64.RawStdEncoding.EncodeToString(sum[:]), nil
}

// integrationGrants asks for each of the keys and so on by itself.
func (p *Profile) integrationGrants(grant func(key, kind, format string, args ...any) *Grant) {
	agent := p.Integrations.SSHAgent
	asked := ""
	if agent.Confirm {
		asked = ", asking you each time"
	}
	for i, k := range agent.Keys {
		grant(elementOf("host.ssh_agent.keys", i), GrantHost,
			"sign with the key %s of your ssh agent%s: whoever runs inside can log in as you wherever that key is let in", quotePlain(k.String()), asked)
	}
	p.sessionGrants(grant)
}

// sessionGrants are those of git and the desktop.
func (p *Profile) sessionGrants(grant func(key, kind, format string, args ...any) *Grant) {
	in := p.Integrations
	if in.Git.Identity {
		grant("host.git.identity", GrantHost, "commit in your name: read user.name and user.email of your git")
	}
	for i, host := range in.Git.Credentials {
		grant(elementOf("host.git.credentials", i), GrantHost,
			"get the password or token that your git has for https://%s: whoever runs inside can do there what you can, and keep it", quotePlain(host))
	}
	if in.Browser {
		grant("host.browser", GrantHost,
			"open web pages in your browser, of any address: what is written into one is sent there, and your browser is logged in where you are")
	}
	if in.Notify {
		grant("host.notify", GrantHost, "show notifications on your desktop, under the sandbox's name")
	}
	for i, name := range in.GPU {
		grant(elementOf("host.gpu", i), GrantHost, "use the GPU %s, whose driver is much more of the kernel to attack", quotePlain(name))
	}
	switch in.Audio {
	case PlaySound:
		grant("host.audio", GrantHost, "play sound")
	case RecordSound:
		grant("host.audio", GrantHost, "play sound, and hear your microphone and what other programs play, at any time")
	}
	if in.Wayland {
		grant("host.wayland", GrantHost,
			"open windows on your Wayland desktop, and read and write its clipboard while one of them has the focus; what else it may is for your compositor to say")
	}
	switch in.X11 {
	case Untrusted:
		grant("host.x11", GrantHost, "open windows on your X11 display, as a client that your X server keeps from the windows and keys of others")
	case Trusted:
		grant("host.x11", GrantHost, "be a client of your X11 display like any other: read every key that you type and all that is on the screen, in every window, and type and click by itself")
	}
}

func (p *Profile) showIntegrations(put func(key string, value any)) {
	keys := []string{}
	for _, k := range p.Integrations.SSHAgent.Keys {
		keys = append(keys, k.Text)
	}
	put("host.ssh_agent.keys", keys)
	put("host.ssh_agent.confirm", p.Integrations.SSHAgent.Confirm)
	put("host.git.identity", p.Integrations.Git.Identity)
	put("host.git.credentials", list(p.Integrations.Git.Credentials))
	put("host.browser", p.Integrations.Browser)
	put("host.notify", p.Integrations.Notify)
	put("host.wayland", p.Integrations.Wayland)
	put("host.gpu", list(p.Integrations.GPU))
	put("host.audio", cmp.Or(p.Integrations.Audio, "none"))
	put("host.x11", cmp.Or(p.Integrations.X11, "none"))
}

// checkIntegrations refuses what would be about nothing.
func (p *Profile) checkIntegrations(wrong func(key, format string, args ...any)) {
	if o := p.OriginOf("host.ssh_agent.confirm"); p.Integrations.SSHAgent.Confirm && len(p.Integrations.SSHAgent.Keys) == 0 && o.Kind != FromUser {
		wrong("host.ssh_agent.confirm", "%s: there is nothing to ask about: %s names no key", p.NameOf("host.ssh_agent.confirm"), "host.ssh_agent.keys")
	}
}

package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Integrations are what of the caller's own session can be used inside: the table [host].
type Integrations struct {
	SSHAgent SSHAgent
}

// Any says whether something was asked for.
func (i Integrations) Any() bool { return len(i.SSHAgent.Keys) > 0 }

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
		k, err := parseSSHKey(s, c.base, p.home)
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

const fingerprintPrefix = "SHA256:"

// parseSSHKey takes a fingerprint, the file of a public key, or else a comment.
func parseSSHKey(text, base, home string) (SSHKey, error) {
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
	data, err := readOwned(file, true)
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
}

func (p *Profile) showIntegrations(put func(key string, value any)) {
	keys := []string{}
	for _, k := range p.Integrations.SSHAgent.Keys {
		keys = append(keys, k.Text)
	}
	put("host.ssh_agent.keys", keys)
	put("host.ssh_agent.confirm", p.Integrations.SSHAgent.Confirm)
}

// checkIntegrations refuses what would be about nothing.
func (p *Profile) checkIntegrations(wrong func(key, format string, args ...any)) {
	if o := p.OriginOf("host.ssh_agent.confirm"); p.Integrations.SSHAgent.Confirm && len(p.Integrations.SSHAgent.Keys) == 0 && o.Kind != FromUser {
		wrong("host.ssh_agent.confirm", "%s: there is nothing to ask about: %s names no key", p.NameOf("host.ssh_agent.confirm"), "host.ssh_agent.keys")
	}
}

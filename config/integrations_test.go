package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	publicKey   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDYzvPfZ3mSr0hb1B9JzWXAUBfFQOxqGNYgyiGGfqzRA me@laptop\n"
	fingerprint = "SHA256:dK8IRXEXubABSK1VzMS+UBl5eeXZUsdX6ETAXD+2Fis" // of publicKey, by ssh-keygen -l
)

// TestParseSSHKey: a fingerprint and a file mean a key by what it is; what is neither is a comment.
func TestParseSSHKey(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"id.pub": publicKey, "id": "-----BEGIN OPENSSH PRIVATE KEY-----\n", "two.pub": publicKey + publicKey, "other.pub": strings.Replace(publicKey, "ed25519 ", "rsa ", 1),
		"empty.pub": "", "cut.pub": publicKey[:30], "long.pub": "ssh-ed25519 /////w==\n", "options.pub": "no-pty " + publicKey,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{ // the key, or "!" and the error
		"me@laptop":          "me@laptop",
		"two words":          "two words",
		"./id.pub":           fingerprint,
		dir + "/id.pub":      fingerprint,
		"~/id.pub":           fingerprint,
		fingerprint:          fingerprint,
		"./id":               "!is a private key",
		"./two.pub":          "!is not one public key",
		"./other.pub":        "!is not a public key",
		"./empty.pub":        "!is not one public key",
		"./cut.pub":          "!is not a public key",
		"./long.pub":         "!is not a public key",
		"./options.pub":      "!is not a public key",
		"./none.pub":         "!no such file",
		"":                   "!is empty",
		"SHA256:":            "!is no fingerprint",
		fingerprint + "=":    "!is no fingerprint",
		"SHA256:*":           "!is no fingerprint",
		"MD5:00:11":          "!MD5 is no longer believed",
		"a\x1b[31m":          "!cannot be printed",
		"a\xff":              "!cannot be printed",
		"right\u202eto left": "!cannot be printed",
	} {
		k, err := parseSSHKey(text, dir, dir, Origin{})
		got := k.String()
		if err != nil {
			got = "!" + err.Error()
		}
		if !strings.HasPrefix(want, "!") && got != want || strings.HasPrefix(want, "!") && !strings.Contains(got, want[1:]) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestSSHAgentProfile: what a project's profile says of the agent is a grant, key by key; it cannot take the question back.
func TestSSHAgentProfile(t *testing.T) {
	p := newRoom(t).profile("[host]\nssh_agent = { keys = [\"one\", \"" + fingerprint + "\"], confirm = true }\n")
	var texts []string
	for _, g := range p.Grants() {
		texts = append(texts, g.Text)
	}
	if all := strings.Join(texts, "\n"); len(texts) != 2 || !strings.Contains(all, `the key "one" of your ssh agent, asking you each time: `) || !strings.Contains(all, fingerprint) {
		t.Errorf("grants %q", texts)
	}
	if err := p.Set("host.ssh_agent.confirm", false, Origin{Kind: FromProfile}); err != nil || !p.Integrations.SSHAgent.Confirm {
		t.Errorf("a profile takes the question back: %v", err)
	}
	if err := p.Set("host.ssh_agent.confirm", false, Origin{Kind: FromFlag}); err != nil || p.Integrations.SSHAgent.Confirm {
		t.Errorf("a flag does not: %v", err)
	}
	if err := p.Add("host.ssh_agent.keys", []string{"one", "three"}, Origin{Kind: FromFlag}); err != nil || len(p.Integrations.SSHAgent.Keys) != 3 {
		t.Errorf("%v, %v", p.Integrations.SSHAgent, err)
	}
}

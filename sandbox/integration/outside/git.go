package outside

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"cove/fetch/oci"
	"cove/sandbox/integration"
	"cove/sandbox/programs"
	"cove/sandbox/spec"
)

// git is the caller's own, asked in no repository: what one says of itself may be the sandbox's own word.
type git struct {
	*programs.Programs
	program string
	hosts   []string
	asking  sync.Mutex           // one question at a time: its helpers may have a window on the caller's desktop
	none    map[string]time.Time // when nothing was got of a host the last time
}

func newGit(p *programs.Programs, name string, hosts []string) (*git, error) {
	program, err := p.Find("git")
	if err != nil {
		return nil, &integration.MissingError{Name: name, Why: "there is no git here", Do: "install it; it is yours that knows who you are, and your passwords"}
	}
	return &git{Programs: p, program: program, hosts: hosts, none: map[string]time.Time{}}, nil
}

// run runs git without a repository and without a terminal: it may ask by GIT_ASKPASS or SSH_ASKPASS, on the caller's desktop.
func (g *git) run(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	return runOutside(ctx, input, append(g.Environ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR"), "GIT_TERMINAL_PROMPT=0"), g.program, args...)
}

// openGit is what goes into the sandbox's own configuration of git.
func openGit(ctx context.Context, s *spec.Spec) (*git, error) {
	want := s.Integrations.Git
	name := "host.git.credentials"
	if want.Identity {
		name = "host.git.identity"
	}
	g, err := newGit(programs.New(s.Writable()), name, want.Credentials)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	// What this stands before; git passes over a file that is not there.
	b.WriteString("[include]\n\tpath = /etc/gitconfig\n")
	if want.Identity {
		if err := g.identity(ctx, &b); err != nil {
			return nil, err
		}
	}
	for _, host := range want.Credentials {
		// The empty one takes away the helpers of the file that is included, for this host.
		fmt.Fprintf(&b, "[credential \"https://%s\"]\n\thelper =\n\thelper = %s/%s/%s\n", host, spec.IntegrationsDir, spec.ProgramsDir, spec.CredentialProgram)
	}
	s.Integrations.Files = append(s.Integrations.Files, spec.File{Target: spec.IntegrationsDir + "/" + spec.GitConfig, Kind: spec.FileWrite, Content: spec.Arg(b.String())})
	return g, nil
}

func (g *git) identity(ctx context.Context, b *strings.Builder) error {
	ctx, cancel := context.WithTimeout(ctx, messageTime)
	defer cancel()
	var lines []string
	for _, key := range []string{"name", "email"} {
		out, err := g.run(ctx, nil, "config", "--get", "user."+key)
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 1 {
			continue // it is not set (git-config(1))
		}
		if err != nil {
			return fmt.Errorf("host.git.identity: git config --get user.%s: %w", key, err)
		}
		lines = append(lines, fmt.Sprintf("\t%s = %s\n", key, gitValue(strings.TrimSuffix(string(out), "\n"))))
	}
	if lines == nil {
		return &integration.MissingError{Name: "host.git.identity", Why: "your git has neither user.name nor user.email",
			Do: "`git config --global user.name NAME` and `git config --global user.email ADDRESS` tell it"}
	}
	b.WriteString("[user]\n" + strings.Join(lines, ""))
	return nil
}

// gitValue is a value as git-config(1) has it in a file: in quotes, on one line.
func gitValue(value string) string {
	value = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, value)
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
}

// credentialTime is how long the caller's helpers may take: they may ask.
const credentialTime = time.Minute

// serve gets a password of one of the hosts (git-credential(1)): `fill` with what is asked for, and nothing is stored or erased.
func (g *git) serve(ctx context.Context, words []string, e *integration.Event) ([]string, error) {
	e.Kind, e.What = "git", "get"
	if len(words) < 1 || len(words) > 2 || strings.ContainsFunc(strings.Join(words, ""), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, &errNot{"bad-form", "want a host, and a user name if there is one"}
	}
	e.On = short(words[0])
	if !slices.Contains(g.hosts, words[0]) {
		return nil, &errNot{"not-granted", "passwords of this host were not granted"}
	}
	if len(words) == 2 && !isUserName(words[1]) {
		return nil, &errNot{"bad-form", "want a user name without spaces and quotes, of no more than 128 bytes"}
	}
	g.asking.Lock()
	defer g.asking.Unlock()
	if last := g.none[words[0]]; !last.IsZero() && time.Since(last) < quiet {
		return nil, errTooMany
	}
	got, err := g.fill(ctx, words)
	if err != nil {
		g.none[words[0]] = time.Now()
		return nil, err
	}
	e.Text = oci.Clean(got[0])
	return got, nil
}

// isUserName refuses what is no user name but a text for the caller: git says it where it asks for the password (credential_ask_one).
func isUserName(s string) bool {
	return len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsPrint(r) || strings.ContainsRune(" '\"`", r)
	})
}

var errNone = &errNot{"none", "your git has no password for this host, or would have to ask for it: `git credential fill` outside tells"}

func (g *git) fill(ctx context.Context, words []string) ([]string, error) {
	input := "protocol=https\nhost=" + words[0] + "\n"
	if len(words) == 2 {
		input += "username=" + words[1] + "\n"
	}
	ctx, cancel := context.WithTimeout(ctx, credentialTime)
	defer cancel()
	out, err := g.run(ctx, []byte(input+"\n"), "credential", "fill")
	if err != nil {
		// What git says of it is for the caller, who has it in a terminal of their own: it may hold anything.
		return nil, errNone
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			got[key] = value
		}
	}
	if got["protocol"] != "https" || got["host"] != words[0] || got["password"] == "" {
		return nil, &errNot{"none", "your git has no password for this host"}
	}
	return []string{got["username"], got["password"]}, nil
}

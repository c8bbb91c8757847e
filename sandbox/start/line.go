package start

import (
	"fmt"
	"slices"
	"strings"
)

// Line is a command line's options and operands, as far as a start asks for them.
type Line interface {
	IsSet(name string) bool     // the option was typed
	String(name string) string  // its value; else the default
	Bool(name string) bool      // an option without a value
	Words(name string) []string // the values of an option that may be given several times, in order
	Operands() []string         // what stands behind the options
}

// Kind is what an option takes.
type Kind int

const (
	Text     Kind = iota // one value; the last one counts
	Words                // a value each time
	Bool                 // none
	Optional             // none, or one behind a "="; Default is the one that it stands for without
)

// Flag is an option of run and shell.
type Flag struct {
	Name    string
	Short   string // one letter; "" for none
	Kind    Kind
	Default string
	Usage   string // with what it takes in backquotes
}

// Flags are the options of run and shell: by hand, all that a profile can say and more.
var Flags = []Flag{
	{Name: "profile", Usage: "use the profile `FILE` instead of looking for a cove.toml"},
	{Name: "image", Usage: "the image `REF`: host, a registry's name:tag, oci:, oci-archive:, docker-archive: or dir:"},
	{Name: "platform", Usage: "of a multi-platform image, `OS/ARCH`[/VARIANT]"},
	{Name: "pull", Usage: "ask the registry `WHEN`: missing, always, newer, never", Default: "missing"},
	{Name: "frozen", Kind: Bool, Usage: "run nothing but what cove.lock has"},
	{Name: "offline", Kind: Bool, Usage: "ask no registry: what is missing is an error"},
	{Name: "verify-key", Kind: Words, Usage: "the image must be signed by the public key in `FILE`, or by one of several"},
	{Name: "workspace", Usage: "the project folder inside: `MODE` rw, ro, review or none"},
	{Name: "repository", Usage: "of a worktree or submodule, its git repository outside: `MODE` rw, ro or none"},
	{Name: "home", Usage: "the home folder inside: `MODE` project or temp"},
	{Name: "volume", Short: "v", Kind: Words, Usage: "mount `SRC:DST[:ro|:rw]` (a colon in a path is written \\:)"},
	{Name: "mount", Kind: Words, Usage: "mount `type=bind,src=SRC,dst=DST[,ro]`, or type=tmpfs,dst=DST[,size=N]"},
	{Name: "tmpfs", Kind: Words, Usage: "an empty file system in memory at `DST[:size=N,mode=M]`"},
	{Name: "read-only", Kind: Bool, Usage: "the root file system cannot be written"},
	{Name: "setup", Kind: Words, Usage: "instead of the profile's setup, run `COMMAND` once in a copy of the image, which is kept; \"\" for none"},
	{Name: "persist", Kind: Bool, Usage: "keep what is changed in the root file system, for this project's next run"},
	{Name: "rebuild", Kind: Bool, Usage: "set the image up anew, and drop what persist has kept"},
	{Name: "env", Short: "e", Kind: Words, Usage: "set a variable `K=V`, or with K alone pass it from outside"},
	{Name: "env-file", Kind: Words, Usage: "read variables from `FILE`, a line each: K=V, K alone, or # and a comment"},
	{Name: "workdir", Short: "w", Usage: "start in `DIR` inside"},
	{Name: "user", Short: "u", Usage: "run as `USER[:GROUP]` inside, names or numbers"},
	{Name: "network", Usage: "`MODE` none, user or host"},
	{Name: "allow", Kind: Words, Usage: "with network user, reach `NAME[:PORT]`, *.NAME, an address or a network, and nothing else"},
	{Name: "deny", Kind: Words, Usage: "with network user, never reach `NAME[:PORT]`, *.NAME, an address or a network"},
	{Name: "host-port", Kind: Words, Usage: "reach `PORT` of this machine's loopback as host.cove.internal"},
	{Name: "driver", Usage: "of network user: `DRIVER` auto, builtin, slirp4netns or pasta"},
	{Name: "publish", Short: "p", Kind: Words, Usage: "make a port reachable here: `[[ADDR:]PORT:]PORT[/udp]`, ranges FROM-TO too; or auto: whatever listens inside"},
	{Name: "cap-add", Kind: Words, Usage: "give the capability `CAP` (or all)"},
	{Name: "cap-drop", Kind: Words, Usage: "take away the capability `CAP` (or all)"},
	{Name: "security-opt", Kind: Words, Usage: "`OPTION` seccomp=FILE, or no-new-privileges[=true|false]"},
	{Name: "nested", Kind: Bool, Usage: "let sandboxes be made inside"},
	{Name: "ssh-agent", Kind: Words, Usage: "let your ssh agent sign with `KEY`: its SHA256: fingerprint, comment or .pub file"},
	{Name: "ssh-agent-confirm", Kind: Bool, Usage: "and ask you each time, by SSH_ASKPASS outside"},
	{Name: "git", Kind: Bool, Usage: "commit under your git's user.name and user.email"},
	{Name: "git-credentials", Kind: Words, Usage: "let git inside get the password that yours has for https://`HOST`[:PORT]"},
	{Name: "browser", Kind: Bool, Usage: "let web pages be opened in your browser"},
	{Name: "notify", Kind: Bool, Usage: "let notifications be shown on your desktop"},
	{Name: "wayland", Kind: Bool, Usage: "let windows be opened on your Wayland desktop"},
	{Name: "audio", Kind: Optional, Default: "play", Usage: "let sound be played; `=record`: and your microphone be heard"},
	{Name: "x11", Kind: Optional, Default: "untrusted", Usage: "let windows be opened on your X11 display; `=trusted`: by a client that may read and type everywhere"},
	{Name: "gpu", Kind: Words, Usage: "let a GPU be used: `DEVICE` dri, nvidia, or one of a CDI file such as nvidia.com/gpu=all"},
	{Name: "memory", Usage: "all of it may use `SIZE` of memory, such as 2GiB or 512m"},
	{Name: "cpus", Usage: "all of it may use `N` processors, such as 1.5"},
	{Name: "pids-limit", Usage: "all of it may have `N` processes and threads; -1: any number"},
	{Name: "timeout", Usage: "end it after `TIME`: seconds, or such as 10m"},
	{Name: "name", Usage: "call the sandbox `NAME`, for ps, exec and stop"},
	{Name: "hostname", Usage: "the `HOST` name inside"},
	{Name: "best-effort", Kind: Bool, Usage: "go on with a warning where this machine cannot give a protection"},
	{Name: "dry-run", Kind: Bool, Usage: "print the decision as JSON and start nothing"},
}

// SessionFlags are those of Flags that grant something of the caller's session: the table [host] by hand.
var SessionFlags = []string{"ssh-agent", "ssh-agent-confirm", "git", "git-credentials", "browser", "notify", "wayland", "x11", "audio", "gpu"}

// RunFlags are those that run has besides.
var RunFlags = []Flag{
	{Name: "learn-network", Kind: Optional, Default: "refuse", Usage: "refuse what the profile does not allow, or `=allow` it, and write what was asked for into it"},
	{Name: "entrypoint", Usage: "instead of the image's ENTRYPOINT, `PROGRAM` or a JSON array; \"\" for none"},
}

// TryFlags are those that try has besides.
var TryFlags = []Flag{
	{Name: "continue", Kind: Bool, Usage: "go on in the view of before, with the changes that are in it"},
}

// CommonFlags belong to every command of cove's, and may stand before its name too.
var CommonFlags = []Flag{
	{Name: "store", Usage: "keep images in `DIR` (also $COVE_STORE)"},
	{Name: "debug", Kind: Bool, Usage: "say on stderr what is done, step by step"},
	{Name: "help", Short: "h", Kind: Bool, Usage: "show this text"},
}

// UsageError is a wrong command line.
type UsageError struct {
	Text string
	Hint string // "" for the command's own help
}

func (e *UsageError) Error() string { return e.Text }

// Usagef makes one.
func Usagef(format string, args ...any) error { return &UsageError{Text: fmt.Sprintf(format, args...)} }

// line is a command line that Parse has read.
type line struct {
	values   map[string][]string
	operands []string
}

// Parse reads the arguments behind `cove run` or `cove exec`, and reports false for what package cli reads otherwise, or
// would refuse.
func Parse(command string, args []string) (Line, bool) {
	l := &line{values: map[string][]string{}}
	flags := slices.Concat(Flags, RunFlags, BoundFlags, CommonFlags)
	if command == "exec" {
		flags = slices.Concat(ExecFlags, CommonFlags)
	}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			l.operands = args[i+1:]
			return l, true
		}
		if len(arg) < 2 || arg[0] != '-' {
			l.operands = args[i:]
			return l, true
		}
		name, value, hasValue := OptionOf(arg)
		n := slices.IndexFunc(flags, func(f Flag) bool { return f.Name == name || f.Short != "" && f.Short == name })
		if n < 0 {
			return nil, false
		}
		switch f := flags[n]; {
		case f.Kind == Optional:
			return nil, false
		case f.Kind == Bool && hasValue:
			return nil, false
		case f.Kind != Bool && !hasValue:
			if i++; i == len(args) {
				return nil, false
			}
			value = args[i]
		}
		l.values[flags[n].Name] = append(l.values[flags[n].Name], value)
	}
	return l, true
}

// OptionOf takes --name, --name=value, -n, -nVALUE and -n=VALUE apart.
func OptionOf(arg string) (name, value string, hasValue bool) {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		name, value, hasValue = strings.Cut(long, "=")
		if len(name) == 1 {
			name = "-" + name // --v is not -v
		}
		return name, value, hasValue
	}
	name, value = arg[1:2], arg[2:]
	return name, strings.TrimPrefix(value, "="), value != ""
}

func (l *line) IsSet(name string) bool     { return len(l.values[name]) > 0 }
func (l *line) Bool(name string) bool      { return l.IsSet(name) }
func (l *line) Words(name string) []string { return l.values[name] }
func (l *line) Operands() []string         { return l.operands }

func (l *line) String(name string) string {
	if v := l.values[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	if n := slices.IndexFunc(Flags, func(f Flag) bool { return f.Name == name }); n >= 0 {
		return Flags[n].Default
	}
	return ""
}

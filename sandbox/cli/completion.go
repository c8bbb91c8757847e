package cli

import (
	"embed"
	"os"
	"slices"
	"strings"

	"cove/config"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// completionScripts ask `cove complete` for the words, so that they never know less than this cove.
//
//go:embed completion/cove.bash completion/cove.zsh completion/cove.fish
var completionScripts embed.FS

func (a *app) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "the script that makes a shell complete cove's command line",
		UsageText: "cove completion bash|zsh|fish",
		Action:    a.action(a.completion),
	}
}

func (a *app) completion(c *cli.Context) error {
	shells := []string{"bash", "zsh", "fish"}
	if c.Args().Len() != 1 {
		return start.Usagef("which shell? (%s)", strings.Join(shells, ", "))
	}
	shell := c.Args().First()
	if !slices.Contains(shells, shell) {
		text := "unknown shell " + quote(shell)
		if near := config.Nearest(shell, shells); near != "" {
			text += "; did you mean " + quote(near) + "?"
		}
		return start.Usagef("%s (%s)", text, strings.Join(shells, ", "))
	}
	script, err := completionScripts.ReadFile("completion/cove." + shell)
	if err != nil {
		return err
	}
	_, err = a.Stdout.Write(script)
	return err
}

// completeCommand is what the scripts call: it prints what the last of its words could become, one
// a line, and behind a tab what that is. A first line "FILES", "DIRS" or "COMMAND" (with the number of words that precede
// the command) tells the shell to complete by itself.
func (a *app) completeCommand() *cli.Command {
	return &cli.Command{Name: "complete", Hidden: true, Action: a.action(func(c *cli.Context) error {
		_, err := a.Stdout.WriteString(strings.Join(a.complete(c.Args().Slice()), ""))
		return err
	})}
}

// complete takes the words behind "cove", the last of which is the one to complete.
func (a *app) complete(words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	among, flags := a.commands(), urfaveFlags(start.CommonFlags)
	var path []string
	operands := 0
	for i := 0; i < len(words)-1; i++ {
		w := words[i]
		if w == "--" && len(path) > 0 {
			return a.completeOperand(path, words[i+1:], last)
		}
		if strings.HasPrefix(w, "-") && len(w) > 1 {
			name, _, hasValue := start.OptionOf(w)
			f, isBool := flagNamed(flags, name)
			if f != "" && !isBool && !hasValue {
				if i++; i == len(words)-1 {
					return a.completeValue(f, last)
				}
			}
			continue
		}
		if among != nil {
			found := byName(among, w)
			if found == nil {
				return nil
			}
			path, among, flags = append(path, found.Name), found.Subcommands, append(found.Flags, urfaveFlags(start.CommonFlags)...)
			continue
		}
		if takesCommand[strings.Join(path, " ")] {
			return a.completeOperand(path, words[i:], last)
		}
		operands++
	}
	switch {
	case strings.HasPrefix(last, "-") && strings.Contains(last, "="):
		name, value, _ := start.OptionOf(last)
		f, _ := flagNamed(flags, name)
		return prefixed(strings.TrimSuffix(last, value), a.completeValue(f, value))
	case strings.HasPrefix(last, "-"):
		return completeFlags(flags, last)
	case among != nil:
		return candidates(last, commandWords(among))
	}
	return a.completeOperand(path, append(make([]string, operands), last), last)
}

// prefixed puts what was typed of an option before its values: --pull= -> --pull=always.
func prefixed(prefix string, lines []string) []string {
	for i, l := range lines {
		if l == "FILES\n" || l == "DIRS\n" {
			return nil
		}
		lines[i] = prefix + l
	}
	return lines
}

func commandWords(among []*cli.Command) [][2]string {
	var out [][2]string
	for _, c := range among {
		if !c.Hidden {
			out = append(out, [2]string{c.Name, c.Usage})
		}
	}
	return out
}

func completeFlags(flags []cli.Flag, last string) []string {
	var words [][2]string
	for _, f := range flags {
		_, usage := flagHelp(f)
		for _, n := range f.Names() {
			if len(n) > 1 || last == "-" {
				words = append(words, [2]string{dashed(n), usage})
			}
		}
	}
	return candidates(last, words)
}

// completeValue is for the value of a flag.
func (a *app) completeValue(flag, last string) []string {
	words := map[string][]string{
		"pull": {"missing", "always", "newer", "never"}, "workspace": {"rw", "ro", "review", "none"}, "home": {"project", "temp"}, "repository": {"rw", "ro", "none"},
		"network": {"none", "user", "host"}, "gpu": {"dri", "nvidia"}, "audio": {"play", "record"}, "x11": {"untrusted", "trusted"}, "driver": {"auto", "slirp4netns", "pasta"},
		"color":    {"auto", "always", "never"},
		"platform": {"linux/amd64", "linux/arm64"}, "compression": {"gzip", "zstd"}, "format": {"oci-archive", "docker-archive"},
	}
	switch flag {
	case "profile", "ssh-agent", "volume", "mount", "output", "digestfile":
		return []string{"FILES\n"}
	case "store":
		return []string{"DIRS\n"}
	case "image":
		return append(candidates(last, a.imageNames()), candidates(last, [][2]string{{"host", "this machine's own /usr and /etc"}})...)
	case "env":
		var names [][2]string
		for _, e := range os.Environ() {
			name, _, _ := strings.Cut(e, "=")
			names = append(names, [2]string{name, ""})
		}
		return candidates(last, names)
	}
	if known, ok := words[flag]; ok {
		return candidates(last, plain(known))
	}
	if slices.Contains(config.DefaultCaps(), strings.ToUpper(last)) || strings.HasPrefix(flag, "cap-") {
		return candidates(strings.ToUpper(last), plain(append([]string{"ALL"}, config.DefaultCaps()...)))
	}
	return nil
}

// completeOperand is for what stands behind the options; operands are those typed so far, the last among them.
func (a *app) completeOperand(path, operands []string, last string) []string {
	first := len(operands) == 1
	switch strings.Join(path, " ") {
	case "exec":
		if first {
			return candidates(last, a.sandboxNames())
		}
		return []string{"COMMAND\n"}
	case "stop", "commit":
		if !first && path[0] == "commit" {
			return candidates(last, a.imageNames())
		}
		return candidates(last, a.sandboxNames())
	case "rmi", "image inspect", "image verify", "image save", "pull", "push":
		return candidates(last, a.imageNames())
	case "diff", "apply", "discard":
		return []string{"FILES\n"}
	case "run", "try", "shell", "unshare":
		return []string{"COMMAND\n"}
	case "import":
		return []string{"FILES\n"}
	case "trust":
		return []string{"DIRS\n"}
	case "completion":
		return candidates(last, plain([]string{"bash", "zsh", "fish"}))
	case "help":
		words := commandWords(a.commands())
		return candidates(last, append(words, topics...))
	}
	return nil
}

func plain(words []string) [][2]string {
	out := make([][2]string, len(words))
	for i, w := range words {
		out[i][0] = w
	}
	return out
}

// candidates are the words that begin with last, as lines. A word that a shell could trip over is left out.
func candidates(last string, words [][2]string) []string {
	var out []string
	for _, w := range words {
		if strings.HasPrefix(w[0], last) && w[0] != "" && escape(w[0]) == w[0] && !strings.ContainsAny(w[0], " \t'\"\\$`") {
			line := w[0]
			if w[1] != "" {
				line += "\t" + escape(w[1])
			}
			out = append(out, line+"\n")
		}
	}
	return out
}

// sandboxNames and imageNames are empty where there is nothing to ask: completing makes no store and says no error.
func (a *app) sandboxNames() [][2]string {
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return nil
	}
	running, _ := sandbox.List(dir)
	var out [][2]string
	for _, s := range running {
		out = append(out, [2]string{s.Name, s.Image})
	}
	return out
}

func (a *app) imageNames() [][2]string {
	dir, err := config.StoreDir(a.StoreDir, os.Getenv)
	if err != nil {
		return nil
	}
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	s, err := store.Open(dir)
	if err != nil {
		return nil
	}
	all, _ := s.Images()
	var out [][2]string
	for _, i := range all {
		for _, n := range i.Names {
			out = append(out, [2]string{n, short(i.Digest.String())})
		}
	}
	return out
}

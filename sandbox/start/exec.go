package start

import (
	"path/filepath"

	"cove/config"
	"cove/sandbox"
	"cove/sandbox/programs"
)

// ExecFlags are the options of exec.
var ExecFlags = []Flag{
	{Name: "env", Short: "e", Kind: Words, Usage: "set a variable `K=V`, or with K alone pass it from outside"},
	{Name: "env-file", Kind: Words, Usage: "read variables from `FILE`, a line each: K=V, K alone, or # and a comment"},
	{Name: "workdir", Short: "w", Usage: "start in `DIR` inside"},
	{Name: "user", Short: "u", Usage: "run as `USER[:GROUP]` inside, names or numbers"},
}

// Exec reads what `cove exec` is asked for: the sandbox's name, and what its command has of its own. An error is a *UsageError, or a
// file's that cannot be read.
func Exec(l Line) (name string, in sandbox.ExecInput, err error) {
	words := l.Operands()
	if len(words) > 1 && words[1] == "--" {
		words = append(words[:1:1], words[2:]...)
	}
	switch len(words) {
	case 0:
		return "", in, Usagef("which sandbox? (`cove ps` lists those that run)")
	case 1:
		return "", in, Usagef("which command in %s?", config.Quote(words[0]))
	}
	in = sandbox.ExecInput{Argv: words[1:], Workdir: l.String("workdir"), User: l.String("user")}
	if l.IsSet("workdir") && !filepath.IsAbs(in.Workdir) {
		return "", in, Usagef("--workdir %s: want an absolute path inside", config.Quote(in.Workdir))
	}
	variables, err := Variables(l)
	if err != nil {
		return "", in, err
	}
	for _, v := range variables {
		if v.Name == "" {
			return "", in, Usagef("--env %s: names no variable", config.Quote("="+v.Value))
		}
		if v.Pass {
			value, there := programs.LookupEnv(v.Name)
			if !there {
				continue
			}
			v.Value = value
		}
		in.Env = append(in.Env, v.Name+"="+v.Value)
	}
	return words[0], in, nil
}

package sandbox

import (
	"slices"
	"strings"
	"testing"

	"cove/config"
	"cove/sandbox/spec"
)

// TestPromptName: nothing that a folder is called does anything in a prompt.
func TestPromptName(t *testing.T) {
	for dir, want := range map[string]string{
		"": "cove", "/": "cove", "/src/web_2.0": "web_2.0", "/x/проект": "проект",
		"/x/$(id)`id`'\"%n\\u\x1b[31m": "--id--id----n-u--31m", "/x/\xff\xfe": "--", "/x/\u202egnp": "-gnp",
		"/x/" + strings.Repeat("é", 40): strings.Repeat("é", 32),
	} {
		if got := promptName(dir); got != want {
			t.Errorf("%q: %q, want %q", dir, got, want)
		}
	}
}

// TestPrompt: what the command is decides, and who has set something keeps it.
func TestPrompt(t *testing.T) {
	shell := func(change func(*Input), argv ...string) (env map[string]string, got []string) {
		in := input(func(in *Input) { in.Shell, in.Argv = true, argv })
		if change != nil {
			change(&in)
		}
		p := plan(t, in).Process
		env = map[string]string{}
		for _, e := range p.Env {
			name, value, _ := strings.Cut(string(e), "=")
			env[name] = value
		}
		for _, a := range p.Argv {
			got = append(got, string(a))
		}
		return env, got
	}
	if env, argv := shell(nil, "zsh", "-l"); env["ZDOTDIR"] != promptDir || !slices.Equal(argv, []string{"zsh", "-l"}) {
		t.Errorf("zsh: %v, %q", env, argv)
	}
	if env, argv := shell(nil, "/usr/bin/fish", "-l"); env["ZDOTDIR"] != "" || len(argv) != 4 || argv[2] != "--init-command" {
		t.Errorf("fish: %v, %q", env, argv)
	}
	if _, argv := shell(nil, "fish", "-c", "x"); len(argv) != 3 {
		t.Errorf("a fish of one command: %q", argv)
	}
	me := func(in *Input) { in.Profile.User = "me" }
	if env, _ := shell(me, "sh"); env["PS1"] != "(My-Project-) ${USER:-root}@cove:$PWD$ " {
		t.Errorf("me: %v", env)
	}
	own := func(in *Input) {
		in.Profile.Env = config.Env{Set: map[string]string{"PS1": "> ", "PROMPT_COMMAND": "", "ZDOTDIR": "/z"}}
	}
	if env, _ := shell(own, "zsh"); env["PS1"] != "> " || env["PROMPT_COMMAND"] != "" || env["ZDOTDIR"] != "/z" {
		t.Errorf("set by the profile: %v", env)
	}
	if p := plan(t, input()).Process; slices.ContainsFunc(p.Env, func(e spec.Arg) bool { return strings.HasPrefix(string(e), "PS1=") }) {
		t.Errorf("run: %v", p.Env)
	}
}

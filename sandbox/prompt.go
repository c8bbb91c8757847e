package sandbox

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A shell shows where one is: "(project) root@cove:/src# ". What it takes for that differs by shell, and each way leaves
// the image's and the user's own files alone, which are read as ever:
//
//   - sh, dash, ash, ksh take PS1 from the environment (sh(1)); bash does until one of its files says otherwise, as
//     Debian's /etc/bash.bashrc. So bash puts the name before whatever prompt it has, by PROMPT_COMMAND.
//   - zsh reads .zshenv in ZDOTDIR first. Ours gives the folder back, and has a function called before each prompt.
//   - fish knows no variable for it; its function is wrapped after its files were read (fish(1), --init-command).

// promptDir is where zsh finds our .zshenv.
const promptDir = "/run/.cove"

// defaultHostname is the name that a shell's prompt shows behind the user's. It is the same in every sandbox that was given no
// name: what one run writes down of its host, in a log or a build, the next one does too.
const defaultHostname = "cove"

// promptName is the project's name as a prompt can hold it: none of its letters means anything to a shell or a terminal.
func promptName(dir string) string {
	name := "cove"
	if dir != "" && dir != "/" {
		name = path.Base(dir)
	}
	name = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-+@", r) {
			return r
		}
		return '-'
	}, name)
	if utf8.RuneCountInString(name) > 32 {
		name = string([]rune(name)[:32])
	}
	return name
}

// prompt changes the command and the environment of an interactive shell. What the image, the profile or a flag has set
// stays as it is.
func (p *planner) prompt(argv, env []string) ([]string, []string) {
	name := "(" + promptName(p.profile.Dir) + ") "
	mark := "$ "
	if user, _, _ := strings.Cut(p.spec.Process.User, ":"); user == "0" || user == "root" {
		mark = "# "
	}
	env = setDefault(env, "PS1", name+"${USER:-root}@"+p.spec.Hostname+":$PWD"+mark)
	// A prompt may be made anew each time: the name is looked for whenever one is shown.
	env = setDefault(env, "PROMPT_COMMAND", `case $PS1 in *"`+name+`"*) ;; *) PS1="`+name+`$PS1" ;; esac`)
	switch base := strings.TrimPrefix(path.Base(argv[0]), "-"); {
	case base == "zsh":
		env = setDefault(env, "ZDOTDIR", promptDir)
	case base == "fish" && !slices.ContainsFunc(argv[1:], func(a string) bool {
		return !slices.Contains([]string{"-l", "--login", "-i", "--interactive"}, a)
	}):
		argv = append(slices.Clone(argv), "--init-command", fishPrompt(name))
	}
	return argv, env
}

func setDefault(env []string, name, value string) []string {
	if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
		return env
	}
	return append(env, name+"="+value)
}

// zshPrompt is the .zshenv. In a home that is kept zsh keeps its history too, which by itself it does not.
func zshPrompt(name string, kept bool) string {
	text := `unset ZDOTDIR
typeset +x PS1
PS1='` + name + `%n@%m:%~%# '
_cove_prompt() { [[ $PS1 == *'` + name + `'* ]] || PS1='` + name + `'$PS1 }
precmd_functions+=(_cove_prompt)
zsh-newuser-install() { : }
`
	if kept {
		text += "HISTFILE=~/.zsh_history HISTSIZE=10000 SAVEHIST=10000\n"
	}
	return text + "[[ ! -r ~/.zshenv ]] || . ~/.zshenv\n"
}

// fishPrompt keeps $status for the prompt that it wraps.
func fishPrompt(name string) string {
	return `functions -q fish_prompt; and functions -c fish_prompt __cove_prompt; ` +
		`function __cove_status; return $argv[1]; end; ` +
		`function fish_prompt; set -l was $status; echo -n '` + name + `'; __cove_status $was; functions -q __cove_prompt; and __cove_prompt; end`
}

package cli

import (
	"strings"

	"cove/config"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// call is a command line, taken apart: the command's words, then its options in one spelling,
// "--", and its operands. urfave alone cannot take `-v A --volume B` (two names of one option),
// an option behind an operand, or -eK=V.
type call struct {
	words []string
	args  []string
}

func (c *call) name() string { return strings.Join(c.words, " ") }

// takesCommand names the commands whose operands are another program's command line: their own options end at the first
// word that is none.
var takesCommand = map[string]bool{"run": true, "try": true, "shell": true, "exec": true, "unshare": true, "complete": true}

func resolve(commands []*cli.Command, args []string) (*call, error) {
	front, rest, err := splitOptions(urfaveFlags(start.CommonFlags), args, true)
	if err != nil {
		if version(args) {
			return &call{words: []string{"version"}, args: []string{"version"}}, nil
		}
		if e := err.(*start.UsageError); e.Hint == "" {
			e.Hint = "`cove help` lists the commands"
		}
		return nil, err
	}
	if len(rest) == 0 {
		if len(front) == 1 && front[0] == "--help=true" {
			return &call{words: []string{"help"}, args: []string{"help"}}, nil
		}
		rest = []string{hereName}
	}
	c := &call{}
	var found *cli.Command
	among := commands
	for among != nil {
		if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
			if len(rest) > 0 && (rest[0] == "--help" || rest[0] == "-h") {
				return &call{words: []string{"help"}, args: append([]string{"help", "--"}, c.words...)}, nil
			}
			return nil, start.Usagef("%s: which one? (%s)", c.name(), strings.Join(names(among), ", "))
		}
		if found = byName(among, rest[0]); found == nil {
			return nil, unknownCommand(c.name(), rest[0], among)
		}
		c.words, rest, among = append(c.words, found.Name), rest[1:], found.Subcommands
	}
	opts, operands, err := splitOptions(found.Flags, rest, takesCommand[c.name()])
	if err != nil {
		if e := err.(*start.UsageError); e.Hint == "" {
			e.Hint = "`cove help " + c.name() + "` lists the options"
		}
		return nil, err
	}
	c.args = append(append(append(append(c.args, c.words...), front...), opts...), "--")
	c.args = append(c.args, operands...)
	return c, nil
}

func version(args []string) bool {
	return len(args) == 1 && (args[0] == "--version" || args[0] == "-V")
}

// unknownCommand is for a word that is none of a command's, or of cove's where of is "".
func unknownCommand(of, word string, among []*cli.Command) error {
	e := &start.UsageError{Text: "unknown command " + quote(strings.TrimSpace(of+" "+escape(word))), Hint: "`cove help` lists the commands"}
	if of != "" {
		e.Hint = "there are: " + strings.Join(names(among), ", ")
	} else if hint := otherCommand(word, among); hint != "" {
		e.Hint = hint
		return e
	}
	if near := config.Nearest(word, names(among)); near != "" {
		e.Text += "; did you mean " + quote(near) + "?"
	}
	return e
}

func byName(among []*cli.Command, name string) *cli.Command {
	for _, c := range among {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// names are the commands that are told to people.
func names(among []*cli.Command) []string {
	var out []string
	for _, c := range among {
		if !c.Hidden {
			out = append(out, c.Name)
		}
	}
	return out
}

// splitOptions parts a command's arguments into options, each as "--name=value", and operands.
// With early the options end at the first operand; "--" ends them always.
func splitOptions(flags []cli.Flag, args []string, early bool) (opts, operands []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return opts, append(operands, args[i+1:]...), nil
		case len(arg) < 2 || arg[0] != '-':
			if early {
				return opts, args[i:], nil
			}
			operands = append(operands, arg)
			continue
		}
		name, value, hasValue := start.OptionOf(arg)
		f, isBool := flagNamed(flags, name)
		takes := f != "" && isOptional(flags, f)
		switch {
		case f == "":
			return nil, nil, unknownOption(arg, flags)
		case isBool && !hasValue:
			value = "true"
		case isBool && !takes && value != "true" && value != "false":
			return nil, nil, start.Usagef("%s: takes no value (or true, false), not %s", dashed(name), quote(value))
		case !isBool && !hasValue:
			if i++; i == len(args) {
				return nil, nil, start.Usagef("%s: needs a value", dashed(name))
			}
			value = args[i]
		}
		opts = append(opts, "--"+f+"="+value)
	}
	return opts, operands, nil
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + escape(name)
}

// isOptional tells an option that may stand without its value.
func isOptional(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		if g, ok := f.(*cli.GenericFlag); ok && f.Names()[0] == name {
			_, optionally := g.Value.(*optional)
			return optionally
		}
	}
	return false
}

// flagNamed finds the first name of the flag that has this one, and whether it stands without a value.
func flagNamed(flags []cli.Flag, name string) (first string, isBool bool) {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				_, isBool = f.(*cli.BoolFlag)
				return f.Names()[0], isBool || isOptional(flags, f.Names()[0])
			}
		}
	}
	return "", false
}

func unknownOption(arg string, flags []cli.Flag) error {
	shown, _, _ := strings.Cut(arg, "=")
	text := "unknown option " + quote(shown)
	if hint := knownElsewhere(arg, flags); hint != "" {
		return &start.UsageError{Text: text, Hint: hint}
	}
	var known []string
	for _, f := range flags {
		known = append(known, f.Names()...)
	}
	word := strings.TrimLeft(shown, "-")
	near := config.Nearest(word, known)
	if near != "" && (len(word) > 1 || near == word) { // any letter is near to any other
		text += "; did you mean " + dashed(near) + "?"
	}
	return &start.UsageError{Text: text}
}

package cli

import (
	"slices"

	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// words is the value of an option that may be given several times. urfave's own StringSlice passes
// what it holds through JSON when an option has two names, which is no place for a path of any bytes.
type words struct{ list []string }

// again is what String says so that Set, which urfave calls with it for the option's other name,
// knows its own words. No argument holds a NUL.
const again = "\x00"

// Set implements flag.Value: one more word.
func (w *words) Set(word string) error {
	if word != again {
		w.list = append(w.list, word)
	}
	return nil
}

// String implements flag.Value.
func (w *words) String() string {
	if w == nil || len(w.list) == 0 {
		return ""
	}
	return again
}

// wordsFlag is an option that may be given several times.
func wordsFlag(name, usage string, aliases ...string) cli.Flag {
	return &cli.GenericFlag{Name: name, Aliases: aliases, Usage: usage, Value: &words{}}
}

// optional is the value of an option that may stand without one.
type optional struct{ without, value string }

// Set implements flag.Value; without a value it is called with "true".
func (o *optional) Set(value string) error {
	if value == "true" {
		value = o.without
	}
	o.value = value
	return nil
}

// String implements flag.Value.
func (o *optional) String() string {
	if o == nil {
		return ""
	}
	return o.value
}

// IsBoolFlag lets package flag take it without a value.
func (o *optional) IsBoolFlag() bool { return true }

// urfaveFlags are the options as urfave knows them.
func urfaveFlags(tables ...[]start.Flag) []cli.Flag {
	var out []cli.Flag
	for _, f := range slices.Concat(tables...) {
		var short []string
		if f.Short != "" {
			short = []string{f.Short}
		}
		switch f.Kind {
		case start.Bool:
			out = append(out, &cli.BoolFlag{Name: f.Name, Aliases: short, Usage: f.Usage})
		case start.Optional:
			out = append(out, &cli.GenericFlag{Name: f.Name, Aliases: short, Usage: f.Usage, Value: &optional{without: f.Default}})
		case start.Words:
			out = append(out, wordsFlag(f.Name, f.Usage, short...))
		default:
			out = append(out, &cli.StringFlag{Name: f.Name, Aliases: short, Usage: f.Usage, Value: f.Default})
		}
	}
	return out
}

// line is a command line that urfave has parsed.
type line struct{ *cli.Context }

var _ start.Line = line{}

// Words returns what was given for an option that may be given several times.
func (l line) Words(name string) []string {
	if w, ok := l.Generic(name).(*words); ok {
		return w.list
	}
	return nil
}

// Operands returns what stands behind the options.
func (l line) Operands() []string { return l.Args().Slice() }

package cli

import "github.com/urfave/cli/v2"

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

// wordsOf returns what was given for such an option, in order.
func wordsOf(c *cli.Context, name string) []string {
	if w, ok := c.Generic(name).(*words); ok {
		return w.list
	}
	return nil
}

package cli

import (
	"errors"
	"fmt"
	"strings"

	"cove/config"
)

// printError prints an error once: every mistake of a profile on its own line, what was joined below the
// first, then the hint for it.
func (a *app) printError(err error) {
	var b strings.Builder
	var profile *config.ProfileError
	if errors.As(err, &profile) {
		for _, m := range profile.Mistakes {
			fmt.Fprintf(&b, "cove: %s\n", escape(m.String()))
		}
	} else {
		for i, line := range escapeLines(err.Error()) {
			if i == 0 {
				fmt.Fprintf(&b, "cove: %s\n", line)
			} else if line != "" {
				fmt.Fprintf(&b, "      %s\n", line)
			}
		}
	}
	if h := a.hintFor(err); h != "" {
		b.WriteString(hintText(h))
	}
	_, _ = a.stderr.WriteString(b.String())
}

func (a *app) printUsage(e *usageError) {
	hint := e.hint
	if hint == "" && a.command != "" {
		hint = "see `cove help " + a.command + "`"
	}
	text := "cove: " + strings.Join(escapeLines(e.text), "\n      ") + "\n"
	if a.command != "" {
		text = "cove: " + a.command + ": " + strings.Join(escapeLines(e.text), "\n      ") + "\n"
	}
	if hint != "" {
		text += hintText(hint)
	}
	_, _ = a.stderr.WriteString(text)
}

func hintText(h string) string {
	return "cove: hint: " + strings.Join(escapeLines(h), "\n      ") + "\n"
}

// warn says that less is done than was wished.
func (a *app) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stderr, "cove: %s\n", escape(fmt.Sprintf(format, args...)))
}

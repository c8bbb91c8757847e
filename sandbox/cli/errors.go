package cli

import (
	"errors"
	"fmt"
	"strings"

	"cove/config"
	"cove/sandbox/start"
)

// printError prints an error once: every mistake of a profile on its own line, what was joined below the
// first, then the hint for it.
func (a *app) printError(err error) {
	var b strings.Builder
	var profile *config.ProfileError
	if errors.As(err, &profile) {
		for _, l := range profile.Lines() {
			fmt.Fprintf(&b, "cove: %s\n", escape(l))
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
	_, _ = a.Stderr.WriteString(b.String())
}

func (a *app) printUsage(e *start.UsageError) {
	hint := e.Hint
	if hint == "" && a.Command != "" {
		hint = "see `cove help " + a.Command + "`"
	}
	text := "cove: " + strings.Join(escapeLines(e.Text), "\n      ") + "\n"
	if a.Command != "" {
		text = "cove: " + a.Command + ": " + strings.Join(escapeLines(e.Text), "\n      ") + "\n"
	}
	if hint != "" {
		text += hintText(hint)
	}
	_, _ = a.Stderr.WriteString(text)
}

func hintText(h string) string {
	return "cove: hint: " + strings.Join(escapeLines(h), "\n      ") + "\n"
}

// warn says that less is done than was wished.
func (a *app) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Stderr, "cove: %s\n", escape(fmt.Sprintf(format, args...)))
}

package oci

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Clean makes text of a stranger's fit to be printed: what is not printable is written as Go
// would quote it, so that no escape sequence reaches a terminal.
func Clean(s string) string {
	const most = 4096
	if len(s) > most {
		s = s[:most] + "..."
	}
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || r != ' ' && !strconv.IsPrint(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Short quotes a stranger's word, or the start of one: documents and tars hold words of megabytes.
func Short(s string) string {
	const most = 256
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

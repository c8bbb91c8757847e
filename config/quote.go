package config

import (
	"strconv"
	"unicode/utf8"
)

// showName is a file name or a key for a message: as it is when it cannot surprise a terminal, else quoted.
func showName(name string) string {
	if name == "" || !utf8.ValidString(name) {
		return strconv.Quote(name)
	}
	for _, r := range name {
		if !Visible(r) {
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}

// quotePlain quotes a value for a question the user must answer: everything beyond ASCII is escaped, for a Cyrillic
// letter or a change of direction makes a path look like another one.
func quotePlain(value string) string { return strconv.QuoteToASCII(value) }

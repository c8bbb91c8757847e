package config

import (
	"strconv"
	"unicode/utf8"
)

// showName is a file name or a key for a message: as it is when it cannot surprise a terminal, else quoted.
func showName(name string) string {
	if name == "" || !utf8.ValidString(name) {
		return Quote(name)
	}
	for _, r := range name {
		if !Visible(r) {
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}

// Quote quotes a value as people write it, unless something in it is not seen: strconv.Quote leaves letters and marks of
// that kind as they are.
func Quote(value string) string {
	q := strconv.Quote(value)
	for _, r := range q {
		if !Visible(r) {
			return strconv.QuoteToASCII(value)
		}
	}
	return q
}

// quotePlain quotes a value for a question the user must answer: everything beyond ASCII is escaped, for a Cyrillic
// letter or a change of direction makes a path look like another one.
func quotePlain(value string) string { return strconv.QuoteToASCII(value) }

package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// keyOf appends one part to a full key, quoted when it is not a bare key: keys that differ never look the same.
func keyOf(parent, part string) string {
	if !isBare(part) {
		part = Quote(part)
	}
	if parent == "" {
		return part
	}
	return parent + "." + part
}

func elementOf(array string, i int) string { return fmt.Sprintf("%s[%d]", array, i) }

func isBare(part string) bool {
	for i := range len(part) {
		c := part[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return part != ""
}

// unescape is a quoted key as the decoder understands it. A wrong escape stays as it is; the decoder will tell.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	var b strings.Builder
	short := map[byte]string{'b': "\b", 't': "\t", 'n': "\n", 'f': "\f", 'r': "\r", 'e': "\x1b", '"': `"`, '\\': `\`}
	long := map[byte]int{'x': 2, 'u': 4, 'U': 8}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 >= len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if r, ok := short[text[i]]; ok {
			b.WriteString(r)
			continue
		}
		n := long[text[i]]
		if n == 0 || i+n >= len(text) {
			b.WriteString(text[i-1 : i+1])
			continue
		}
		r, err := strconv.ParseUint(text[i+1:i+1+n], 16, 32)
		if err != nil || !utf8.ValidRune(rune(r)) {
			b.WriteString(text[i-1 : i+1])
			continue
		}
		b.WriteRune(rune(r))
		i += n
	}
	return b.String()
}

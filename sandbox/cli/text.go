package cli

import (
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"

	"cove/config"
)

// escape makes text safe for a terminal: whatever is not printable, or no UTF-8, is written as Go writes it in
// a string. Spaces stay, and so does everything that people write.
func escape(s string) string {
	clean := true
	for i, r := range s {
		if !printable(s, i, r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case printable(s, i, r):
			b.WriteRune(r)
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

func printable(s string, i int, r rune) bool {
	if r == utf8.RuneError {
		return strings.HasPrefix(s[i:], "\uFFFD")
	}
	return config.Visible(r)
}

// escapeLines is escape for text of several lines that is our own.
func escapeLines(s string) []string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = escape(l)
	}
	return lines
}

// quote is for a value in a message.
func quote(s string) string { return config.Quote(s) }

// lineWriter puts "cove: " before what a slog handler writes, one record a time.
type lineWriter struct{ w io.Writer }

func (l *lineWriter) Write(p []byte) (int, error) {
	_, err := io.WriteString(l.w, "cove: debug: "+escape(strings.TrimSuffix(string(p), "\n"))+"\n")
	return len(p), err
}

func dropTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

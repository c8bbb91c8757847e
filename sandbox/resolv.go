package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"cove/sandbox/spec"
)

// resolvText is the resolv.conf(5) of a sandbox whose name servers are dns: of the host's it has the search domains and the options,
// since short names are to mean inside what they mean outside. Its name servers are asked by the sandbox's.
func resolvText(dns []spec.IP, host string) string {
	var out strings.Builder
	for _, server := range dns {
		fmt.Fprintf(&out, "nameserver %s\n", server)
	}
	search, options := resolvWords(host)
	if len(search) > 0 {
		fmt.Fprintf(&out, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&out, "options %s\n", strings.Join(options, " "))
	}
	return out.String()
}

// resolvWords are the search domains and the options of a resolv.conf(5), as glibc reads it: keywords begin their line, the last list of
// domains counts, and options add up.
func resolvWords(conf string) (search, options []string) {
	for line := range strings.Lines(conf) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			continue
		}
		switch words[0] {
		case "search":
			search = slices.DeleteFunc(words[1:], func(w string) bool { return !isDomain(w) })
		case "domain":
			search = slices.DeleteFunc(words[1:2], func(w string) bool { return !isDomain(w) })
		case "options":
			for _, w := range words[1:] {
				if isOption(w) && !slices.Contains(options, w) {
					options = append(options, w)
				}
			}
		}
	}
	return search, options
}

// isDomain tells what a search list can hold; systemd-resolved writes "." where it is empty.
func isDomain(word string) bool {
	return strings.IndexFunc(word, func(r rune) bool {
		return r < 0x80 && !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	}) < 0
}

// isOption tells options that mean the same inside. trust-ad says of the host's name server that it is near and validates; the
// sandbox's does not pass on whether an answer was.
func isOption(word string) bool {
	return word != "trust-ad" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-:") == ""
}

package cli

import "strings"

// keysHelp is what the help texts say of each key of a profile, by the key's full name: the sample in `cove help profile`,
// and in `cove help trust` of the table that is the user's own.
func keysHelp() map[string]string {
	out := map[string]string{}
	for _, name := range []string{"profile", "trust"} {
		prose, _ := helpTexts.ReadFile("help/" + name + ".txt")
		sampleKeys(string(prose), out)
	}
	return out
}

// sampleKeys reads the comments of a sample: the one on a key's or a table's line, and those on the lines below.
func sampleKeys(text string, into map[string]string) {
	table, last := "", ""
	for line := range strings.Lines(text) {
		code, indented := strings.CutPrefix(line, "    ")
		code, comment := cutComment(strings.TrimSpace(code))
		switch {
		case !indented:
			last = ""
		case code == "" && comment != "" && last != "":
			into[last] = strings.TrimSpace(into[last] + " " + comment)
		case strings.HasPrefix(code, "["):
			table = strings.Trim(code, "[]")
			last = table
			into[last] = comment
		default:
			name, _, isKey := strings.Cut(code, "=")
			if name = strings.TrimSpace(name); !isKey || strings.Contains(name, " ") {
				last = ""
				continue
			}
			if last = name; table != "" {
				last = table + "." + name
			}
			into[last] = comment
		}
	}
}

// cutComment parts a line of TOML at the # that begins a comment.
func cutComment(line string) (code, comment string) {
	quoted := false
	for i := range len(line) {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == '#' && !quoted:
			return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])
		}
	}
	return line, ""
}

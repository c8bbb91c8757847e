package config

import "strings"

// GitSetting is one value of a git configuration file. The section and the name in Key are in lower case, as git
// compares them: "core.worktree", "includeif.gitdir:~/x.path".
type GitSetting struct{ Key, Value string }

// ParseGitConfig reads a file as git-config(1) has it, as far as finding paths in it takes: what git would refuse gives
// some settings or none.
func ParseGitConfig(data []byte) []GitSetting {
	var all []GitSetting
	section := ""
	text := strings.TrimPrefix(string(data), "\ufeff")
	for text != "" {
		text = strings.TrimLeft(text, " \t\r\n")
		if text == "" {
			break
		}
		switch text[0] {
		case '#', ';':
			_, text, _ = strings.Cut(text, "\n")
		case '[':
			section, text = gitSection(text[1:])
		default:
			var s GitSetting
			s, text = gitSetting(text)
			if s.Key != "" {
				s.Key = section + "." + s.Key
				all = append(all, s)
			}
		}
	}
	return all
}

// gitSection reads what stands behind a "[": name] or name "sub"]. Only a subsection keeps its case.
func gitSection(text string) (name, rest string) {
	end := strings.IndexAny(text, "]\n\"")
	if end < 0 {
		return "", ""
	}
	name = strings.ToLower(strings.TrimSpace(text[:end]))
	if text[end] != '"' {
		return name, text[end+1:]
	}
	var sub strings.Builder
	for i := end + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			sub.WriteByte(text[i])
		case c == '"':
			_, rest, _ = strings.Cut(text[i:], "]")
			return name + "." + sub.String(), rest
		case c == '\n':
			return "", text[i:]
		default:
			sub.WriteByte(c)
		}
	}
	return "", ""
}

// gitSetting reads name = value up to the end of the line, which a backslash moves on. A name alone means true.
func gitSetting(text string) (GitSetting, string) {
	end := strings.IndexAny(text, "=\n#;")
	if end < 0 {
		end = len(text)
	}
	s := GitSetting{Key: strings.ToLower(strings.TrimSpace(text[:end]))}
	if end == len(text) || text[end] != '=' {
		_, rest, _ := strings.Cut(text[end:], "\n")
		return s, rest
	}
	var value strings.Builder
	quoted, kept := false, 0 // kept is how much of value does not go with the blanks at its end
	i := end + 1
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			s.Value = value.String()[:kept]
			return s, text[i+1:]
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
		case (c == '#' || c == ';') && !quoted:
			_, rest, _ := strings.Cut(text[i:], "\n")
			s.Value = value.String()[:kept]
			return s, rest
		case c == '"':
			quoted = !quoted
			kept = value.Len()
		case c == '\\' && i+1 < len(text):
			i++
			switch text[i] {
			case '\n':
			case 'n':
				value.WriteByte('\n')
			case 't':
				value.WriteByte('\t')
			case 'b':
				value.WriteByte('\b')
			default:
				value.WriteByte(text[i])
			}
			kept = value.Len()
		default:
			value.WriteByte(c)
			if quoted || c != ' ' && c != '\t' {
				kept = value.Len()
			}
		}
	}
	s.Value = value.String()[:kept]
	return s, ""
}

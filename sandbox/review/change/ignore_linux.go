package change

import (
	"io"
	"path"
	"strings"
)

// What the project's own .gitignore names is noise as a rule: build results, caches. It is folded into one line a folder in
// summaries, and never left out of anything else. The files outside are asked, not those in the view: the program inside must
// not choose what is shown of it.

// pattern is a line of a .gitignore (gitignore(5)).
type pattern struct {
	parts   []string // "**" among them stands for any number of folders
	folders bool     // it ended in a slash
	not     bool
}

// ignored are the lines by the folder of their file: a project may have thousands of these, and only those above a path speak of it.
type ignored struct {
	in    map[string][]pattern
	tried int // patterns
}

// maxIgnore bounds what is read of a .gitignore.
const maxIgnore = 1 << 20

// readIgnored reads the .gitignore of the project and of the folders in which something changed.
func (s *Set) readIgnored() *ignored {
	ig := &ignored{}
	read := map[string]bool{}
	for _, c := range s.Changes {
		v := s.record.Views[c.view]
		for dir := parentOf(c.name()); !read[dir] && below(dir, v.Path); dir = parentOf(dir) {
			read[dir] = true
			f, err := s.outside[c.view].open(join(strings.TrimPrefix(dir[len(v.Path):], "/"), ".gitignore"))
			if err == nil {
				text, _ := io.ReadAll(io.LimitReader(f, maxIgnore))
				f.Close()
				ig.add(dir, string(text))
			}
			if dir == "" {
				break
			}
		}
	}
	return ig
}

func (ig *ignored) add(at, text string) {
	if ig.in == nil {
		ig.in = map[string][]pattern{}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.TrimSuffix(line, "\n"), " \r")
		if line == "" || line[0] == '#' {
			continue
		}
		p := pattern{}
		if line[0] == '!' {
			p.not, line = true, line[1:]
		}
		line = strings.TrimPrefix(line, `\`)
		line, p.folders = strings.CutSuffix(line, "/")
		if line == "" {
			continue
		}
		anchored := strings.Contains(line, "/")
		p.parts = strings.Split(strings.TrimPrefix(line, "/"), "/")
		if !anchored {
			p.parts = append([]string{"**"}, p.parts...)
		}
		ig.in[at] = append(ig.in[at], p)
	}
}

// match returns the folder, ending in a slash, or the file by which a path is ignored; "" when it is not.
func (ig *ignored) match(name string, isDir bool) string {
	if len(ig.in) == 0 {
		return ""
	}
	parts := strings.Split(name, "/")
	for n := 1; n <= len(parts); n++ {
		folder := n < len(parts) || isDir
		if at := strings.Join(parts[:n], "/"); ig.is(at, parts[:n], folder) {
			if folder {
				at += "/"
			}
			return at
		}
	}
	return ""
}

// is tells whether the last pattern that matches ignores. Those of a file further down come later.
func (ig *ignored) is(name string, parts []string, folder bool) bool {
	for up := 1; up <= len(parts); up++ {
		name = parentOf(name)
		patterns, rel := ig.in[name], parts[len(parts)-up:]
		for i := len(patterns) - 1; i >= 0; i-- {
			p := &patterns[i]
			if p.folders && !folder {
				continue
			}
			if ig.tried++; matchParts(p.parts, rel) {
				return !p.not
			}
		}
	}
	return false
}

func matchParts(pattern, parts []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for i := 0; i <= len(parts); i++ {
				if matchParts(pattern[1:], parts[i:]) {
					return len(pattern) > 1 || i > 0 // "a/**" is what is in a, and not a
				}
			}
			return false
		}
		if len(parts) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], parts[0]); err != nil || !ok {
			return false
		}
		pattern, parts = pattern[1:], parts[1:]
	}
	return len(parts) == 0
}

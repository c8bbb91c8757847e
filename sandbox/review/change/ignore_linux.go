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
		if p.parts[len(p.parts)-1] == "**" {
			p.parts = append(p.parts, "*") // "a/**" is what is in a, and not a
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

// matchParts takes each "**" for as little as will do, and only the last one for more where what follows does not fit: that takes
// no longer than one length times the other, whatever a .gitignore and a path have been made for.
func matchParts(pattern, parts []string) bool {
	i, n := 0, 0
	last, reach := -1, 0 // the last "**" so far, and where what it stands for ends
	for n < len(parts) {
		switch {
		case i < len(pattern) && pattern[i] == "**":
			last, reach = i, n
			i++
		case i < len(pattern) && matchPart(pattern[i], parts[n]):
			i, n = i+1, n+1
		case last >= 0:
			reach++
			i, n = last+1, reach
		default:
			return false
		}
	}
	for i < len(pattern) && pattern[i] == "**" {
		i++
	}
	return i == len(pattern)
}

func matchPart(pattern, part string) bool {
	ok, err := path.Match(pattern, part)
	return ok && err == nil
}

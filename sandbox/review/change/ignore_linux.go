package change

import (
	"io"
	"path"
	"slices"
	"strings"
)

// What the project's own .gitignore names is noise as a rule: build results, caches. It is folded into one line a folder in
// summaries, and never left out of anything else. The files outside are asked, not those in the view: the program inside must
// not choose what is shown of it.

// pattern is a line of a .gitignore (gitignore(5)).
type pattern struct {
	at      string   // the folder of the file
	parts   []string // "**" among them stands for any number of folders
	folders bool     // it ended in a slash
	not     bool
}

type ignored struct{ patterns []pattern }

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
	// A file further down counts more: it comes later.
	slices.SortStableFunc(ig.patterns, func(a, b pattern) int { return strings.Count(a.at+"/", "/") - strings.Count(b.at+"/", "/") })
	return ig
}

func (ig *ignored) add(at, text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.TrimSuffix(line, "\n"), " \r")
		if line == "" || line[0] == '#' {
			continue
		}
		p := pattern{at: at}
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
		ig.patterns = append(ig.patterns, p)
	}
}

// match returns the folder, ending in a slash, or the file by which a path is ignored; "" when it is not.
func (ig *ignored) match(name string, isDir bool) string {
	if len(ig.patterns) == 0 {
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

// is tells whether the last pattern that matches ignores.
func (ig *ignored) is(name string, parts []string, folder bool) bool {
	for i := len(ig.patterns) - 1; i >= 0; i-- {
		p := &ig.patterns[i]
		if p.folders && !folder || !below(name, p.at) || name == p.at {
			continue
		}
		rel := parts
		if p.at != "" {
			rel = parts[strings.Count(p.at, "/")+1:]
		}
		if matchParts(p.parts, rel) {
			return !p.not
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

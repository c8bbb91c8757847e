package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Mistake is one thing that is wrong with what the user asked for.
type Mistake struct {
	File string // as it is shown; "" when a flag is to blame
	Line int    // from 1; 0 when the mistake has no place in the file
	Col  int    // from 1, counted in characters
	Flag string // the flag to blame, "" for a file
	Text string // what is wrong, and what would be right
}

func (m Mistake) String() string {
	switch {
	case m.Flag != "":
		return showName(m.Flag) + ": " + m.Text
	case m.File == "":
		return m.Text
	case m.Line == 0:
		return showName(m.File) + ": " + m.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", showName(m.File), m.Line, m.Col, m.Text)
}

// ProfileError is every mistake in what the user wrote: files first, in their order, then flags.
type ProfileError struct {
	File     string // absolute path of the profile, "" when none of the mistakes is in a profile
	Mistakes []Mistake
}

// maxLines bounds Lines: a hostile file must not scroll everything away.
const maxLines = 100

func (e *ProfileError) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines has one mistake a line, and how many are left out.
func (e *ProfileError) Lines() []string {
	var lines []string
	for i, m := range e.Mistakes {
		if i == maxLines {
			lines = append(lines, fmt.Sprintf("and %d mistakes more", len(e.Mistakes)-i))
			break
		}
		lines = append(lines, m.String())
	}
	return lines
}

// sortMistakes puts the mistakes of one file into the order of its lines, and drops what was said twice.
func sortMistakes(mistakes []Mistake) []Mistake {
	slices.SortStableFunc(mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return slices.Compact(mistakes)
}

// Nearest is the word of known that was probably meant by word, or "" when none is close enough.
func Nearest(word string, known []string) string { return nearest(word, known) }

// nearest is the word of known that is closest to word, or "" when none is close enough to be what was meant.
func nearest(word string, known []string) string {
	const longest = 40 // no word of ours is longer, and the distance costs its square
	if len(word) > longest {
		return ""
	}
	best, bestDistance := "", 1<<30
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if bestDistance > max(1, utf8.RuneCountInString(best)/3) && !(bestDistance == 2 && len(best) >= 4) {
		return ""
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that make b of a (optimal string
// alignment).
func distance(a, b string) int {
	s, t := []rune(a), []rune(b)
	before, last, row := make([]int, len(t)+1), make([]int, len(t)+1), make([]int, len(t)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(s); i++ {
		row[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(t)]
}

// didYouMean is the end of a message: what was probably meant, and everything that is possible.
func didYouMean(word string, known []string) string {
	text := ""
	if near := nearest(word, known); near != "" {
		text = fmt.Sprintf("; did you mean %q?", near)
	}
	return text + " (" + strings.Join(known, ", ") + ")"
}

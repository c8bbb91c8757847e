package config

import (
	"fmt"
	"strings"
)

// maxDepth bounds nesting: no profile needs more than four levels, and the decoder recurses once for each.
const maxDepth = 32

// maxKeys bounds the keys and elements of one file, for telling the place of each costs some time.
const maxKeys = 10000

// place is where a key and its value begin, as offsets into the file.
type place struct{ key, val int }

// statement is one table header, or one key with its value: what is left out when it is wrong.
type statement struct {
	start, end int    // end lies behind the newline
	header     bool   // [table] or [[table]]
	broken     bool   // the scanner could not follow it
	again      string // the key that it sets although it was set before
	at, first  int    // where it does so, and where it was set first
}

// scan is what the scanner found. Keys are in the form of keyOf.
type scan struct {
	places     map[string]place
	statements []statement
	tooDeep    int // offset of a value or key nested too deep, or beyond the number of keys; -1 when there is none

	data     string
	pos      int
	section  string          // full key of the current table
	arrays   map[string]int  // array tables and how many elements each has by now
	explicit map[string]bool // tables with a header, and keys with a value
	stmt     *statement
}

// scanTOML finds the place of every key, of every value and of every element of an array. It believes nothing: what it
// cannot follow is marked, and it goes on with the next line. Whether the file is right is for the decoder to say.
func scanTOML(data string) *scan {
	s := &scan{data: data, tooDeep: -1, places: map[string]place{}, arrays: map[string]int{}, explicit: map[string]bool{}}
	for s.pos < len(data) {
		s.skip(" \t\r\n")
		if s.peek() == '#' {
			s.skipLine()
			continue
		}
		if s.pos >= len(data) {
			break
		}
		s.statements = append(s.statements, statement{start: s.pos, header: s.peek() == '['})
		s.stmt = &s.statements[len(s.statements)-1]
		ok := s.statement()
		if !ok {
			s.stmt.broken = true
		}
		s.endStatement()
		s.stmt.end = s.pos
		if s.tooDeep >= 0 {
			break
		}
	}
	return s
}

func (s *scan) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scan) skip(set string) {
	for s.pos < len(s.data) && strings.IndexByte(set, s.data[s.pos]) >= 0 {
		s.pos++
	}
}

func (s *scan) skipLine() {
	if i := strings.IndexByte(s.data[s.pos:], '\n'); i >= 0 {
		s.pos += i + 1
		return
	}
	s.pos = len(s.data)
}

// endStatement goes to the next line, unless the statement broke at the beginning of one: an array that was not closed
// swallows what comes next, and that is to be read as what it looks like.
func (s *scan) endStatement() {
	if s.stmt.broken {
		before := strings.TrimRight(s.data[s.stmt.start:s.pos], " \t")
		if strings.HasSuffix(before, "\n") {
			return
		}
	}
	s.skipLine()
}

func (s *scan) statement() bool {
	if s.stmt.header {
		return s.header()
	}
	return s.pair(s.section, 0)
}

// header reads [a.b] or [[a.b]] and makes it the section that the next keys belong to.
func (s *scan) header() bool {
	open := s.pos
	s.pos++
	array := s.peek() == '['
	if array {
		s.pos++
	}
	parts, at, ok := s.key()
	s.skip(" \t")
	if !ok || s.peek() != ']' {
		s.section = keyOf("\x00", fmt.Sprint(open)) // nobody's: the keys below must not land in the table above
		return false
	}
	full := s.enter("", parts, at)
	last := len(parts) - 1
	full = keyOf(full, parts[last])
	if array {
		s.put(full, at[last], open)
		full = elementOf(full, s.arrays[full])
		s.arrays[full[:strings.LastIndexByte(full, '[')]]++
	} else {
		s.once(full, at[last])
	}
	s.put(full, at[last], open)
	s.section = full
	return true
}

// enter walks the parents of a key. The parent that is an array of tables means its last element.
func (s *scan) enter(full string, parts []string, at []int) string {
	for i := range len(parts) - 1 {
		full = keyOf(full, parts[i])
		s.put(full, at[i], at[i])
		if n := s.arrays[full]; n > 0 {
			full = elementOf(full, n-1)
		}
	}
	return full
}

// put notes a place, unless the key has one: the first is the one to show.
func (s *scan) put(full string, key, val int) {
	if _, ok := s.places[full]; ok {
		return
	}
	s.places[full] = place{key, val}
	if len(s.places) > maxKeys && s.tooDeep < 0 {
		s.tooDeep = key
	}
}

// once notes in the statement that a key was there before.
func (s *scan) once(full string, at int) {
	if s.explicit[full] && s.stmt.again == "" {
		s.stmt.again, s.stmt.at, s.stmt.first = full, at, s.places[full].key
	}
	s.explicit[full] = true
}

// pair reads key = value into the table named parent.
func (s *scan) pair(parent string, depth int) bool {
	parts, at, ok := s.key()
	if !ok {
		return false
	}
	full := s.enter(parent, parts, at)
	last := len(parts) - 1
	full = keyOf(full, parts[last])
	s.skip(" \t")
	if s.peek() != '=' {
		return false
	}
	s.pos++
	s.skip(" \t")
	s.once(full, at[last])
	s.put(full, at[last], s.pos)
	return s.value(full, depth)
}

// key reads a.b."c d" and says where each part begins.
func (s *scan) key() (parts []string, at []int, ok bool) {
	for {
		s.skip(" \t")
		start := s.pos
		part, ok := s.keyPart()
		if !ok {
			return nil, nil, false
		}
		parts, at = append(parts, part), append(at, start)
		if len(parts) > maxDepth {
			s.tooDeep = max(s.tooDeep, start)
			return nil, nil, false
		}
		mark := s.pos
		s.skip(" \t")
		if s.peek() != '.' {
			s.pos = mark
			return parts, at, true
		}
		s.pos++
	}
}

func (s *scan) keyPart() (string, bool) {
	switch s.peek() {
	case '"':
		start := s.pos
		if !s.line('"') {
			return "", false
		}
		return unescape(s.data[start+1 : s.pos-1]), true
	case '\'':
		start := s.pos
		if !s.line('\'') {
			return "", false
		}
		return s.data[start+1 : s.pos-1], true
	}
	start := s.pos
	for s.pos < len(s.data) && strings.IndexByte(" \t\r\n.=[]{},#\"'", s.data[s.pos]) < 0 {
		s.pos++
	}
	return s.data[start:s.pos], s.pos > start
}

// line reads a string that ends on its line.
func (s *scan) line(quote byte) bool {
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '\n':
			return false
		case c == '\\' && quote == '"':
			s.pos++
			if s.peek() == '\n' {
				return false
			}
		case c == quote:
			s.pos++
			return true
		}
	}
	s.pos = len(s.data)
	return false
}

// value reads a value, and notes the places of what is inside it.
func (s *scan) value(full string, depth int) bool {
	if depth > maxDepth && s.tooDeep < 0 {
		s.tooDeep = s.pos
	}
	if s.tooDeep >= 0 {
		return false
	}
	rest := s.data[s.pos:]
	switch {
	case strings.HasPrefix(rest, `"""`), strings.HasPrefix(rest, `'''`):
		return s.multiline(rest[0])
	case strings.HasPrefix(rest, `"`), strings.HasPrefix(rest, `'`):
		return s.line(rest[0])
	case strings.HasPrefix(rest, "["):
		return s.array(full, depth)
	case strings.HasPrefix(rest, "{"):
		return s.inline(full, depth)
	}
	// A number, a date (which may hold a blank), true or false.
	start := s.pos
	for s.pos < len(s.data) && strings.IndexByte(",]}#\r\n", s.data[s.pos]) < 0 {
		s.pos++
	}
	return strings.TrimSpace(s.data[start:s.pos]) != ""
}

// multiline reads a string in three quotes, which may end with up to two quotes more that belong to it.
func (s *scan) multiline(quote byte) bool {
	three := strings.Repeat(string(quote), 3)
	for s.pos += 3; s.pos < len(s.data); s.pos++ {
		if s.data[s.pos] == '\\' && quote == '"' {
			s.pos++
			continue
		}
		if strings.HasPrefix(s.data[s.pos:], three) {
			s.pos += 3
			for more := 0; more < 2 && s.peek() == quote; more++ {
				s.pos++
			}
			return true
		}
	}
	s.pos = len(s.data)
	return false
}

func (s *scan) array(full string, depth int) bool {
	s.pos++
	for i := 0; ; i++ {
		s.blank()
		if s.peek() == ']' {
			s.pos++
			return true
		}
		if s.pos >= len(s.data) {
			return false
		}
		element := elementOf(full, i)
		s.put(element, s.pos, s.pos)
		if !s.value(element, depth+1) {
			return false
		}
		if !s.comma(']') {
			return false
		}
	}
}

func (s *scan) inline(full string, depth int) bool {
	s.pos++
	for {
		s.blank()
		if s.peek() == '}' {
			s.pos++
			return true
		}
		if s.pos >= len(s.data) || !s.pair(full, depth+1) || !s.comma('}') {
			return false
		}
	}
}

// comma goes past the comma after an element; the closing bracket stays.
func (s *scan) comma(closing byte) bool {
	s.blank()
	if s.peek() == ',' {
		s.pos++
		return true
	}
	return s.peek() == closing
}

// blank skips what may stand between elements.
func (s *scan) blank() {
	for {
		s.skip(" \t\r\n")
		if s.peek() != '#' {
			return
		}
		s.skipLine()
	}
}

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// document is a decoded file with the places of its keys.
type document struct {
	tree     map[string]any
	scan     *scan
	text     string
	lines    []int     // where each line begins
	mistakes []Mistake // of syntax; places only, the file's name is the caller's
}

// maxSyntax is how many mistakes of syntax are told before we give up: each costs decoding the file once more.
const maxSyntax = 20

// parseTOML decodes data. A statement with a mistake in its syntax is left out, and the rest decoded again: so
// everything that is wrong is told at once.
func parseTOML(data []byte) *document {
	d := &document{text: strings.TrimPrefix(string(data), "\ufeff"), tree: map[string]any{}}
	d.scan = &scan{places: map[string]place{}, tooDeep: -1}
	if at, text := badBytes(d.text); text != "" {
		d.mistake(at, text)
		return d
	}
	d.scan = scanTOML(d.text)
	if d.scan.tooDeep >= 0 {
		d.mistake(d.scan.tooDeep, fmt.Sprintf("more than %d keys, or nested deeper than %d levels", maxKeys, maxDepth))
		return d
	}
	left := []byte(d.text)
	for len(d.mistakes) < maxSyntax {
		tree, err := decode(string(left))
		if err == nil {
			d.tree = tree
			break
		}
		if !d.leaveOut(left, err) {
			break
		}
	}
	return d
}

// decode is toml.Unmarshal, except that what it calls a bug of its own is an error too.
func decode(text string) (tree map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	tree = map[string]any{}
	err = toml.Unmarshal([]byte(text), &tree)
	return tree, err
}

// badBytes finds what no TOML file may hold. The decoder would take a NUL for the end of the file.
func badBytes(text string) (at int, message string) {
	for i, r := range text {
		if r == '\ufeff' && i == 0 { // one was taken off; the decoder would take off another
			return i, "a second byte order mark"
		}
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return i, fmt.Sprintf("byte 0x%02x is not valid UTF-8", text[i])
			}
		}
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			return i, fmt.Sprintf("control character %+q; in a string it is written \\u%04X", r, r)
		}
		if r == '\r' && !strings.HasPrefix(text[i:], "\r\n") {
			return i, "carriage return without a newline"
		}
	}
	return 0, ""
}

// leaveOut notes what the decoder said and blanks the statement that it stumbled over; false when there is nothing left
// to leave out. A header goes with all the keys below it, which would otherwise land in the table above.
func (d *document) leaveOut(left []byte, err error) bool {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		d.mistake(0, "cannot be read as TOML: "+oneLine(err.Error()))
		return false
	}
	at := max(0, min(pe.Position.Start, len(d.text)))
	which := d.blame(left, at)
	if which < 0 {
		d.mistake(at, oneLine(pe.Message))
		return false
	}
	s := d.scan.statements[which]
	switch {
	case s.again != "":
		line, _ := d.lineCol(s.first)
		d.mistake(s.at, fmt.Sprintf("%s is already set in line %d", s.again, line))
	default:
		d.mistake(at, oneLine(pe.Message))
	}
	end := which + 1
	for s.header && end < len(d.scan.statements) && !d.scan.statements[end].header {
		end++
	}
	for i := which; i < end; i++ {
		for j := d.scan.statements[i].start; j < d.scan.statements[i].end; j++ {
			if left[j] != '\n' {
				left[j] = ' '
			}
		}
	}
	return true
}

// blame is the statement that an error at an offset is about: the first one that the scanner could not follow either,
// else the one that holds the offset. It is never one that has been left out.
func (d *document) blame(left []byte, at int) int {
	found := -1
	for i, s := range d.scan.statements {
		if s.start > at {
			break
		}
		if strings.TrimSpace(string(left[s.start:s.end])) == "" {
			continue
		}
		if s.broken {
			return i
		}
		found = i
	}
	return found
}

func (d *document) mistake(at int, text string) {
	line, col := d.lineCol(at)
	d.mistakes = append(d.mistakes, Mistake{Line: line, Col: col, Text: text})
}

// lineCol counts from 1; a column is a character, as editors have it.
func (d *document) lineCol(at int) (line, col int) {
	at = max(0, min(at, len(d.text)))
	if d.lines == nil {
		d.lines = []int{0}
		for i := range len(d.text) {
			if d.text[i] == '\n' {
				d.lines = append(d.lines, i+1)
			}
		}
	}
	line, found := slices.BinarySearch(d.lines, at)
	if found {
		line++
	}
	return line, utf8.RuneCountInString(d.text[d.lines[line-1]:at]) + 1
}

// keyPlace and valuePlace are the line and column of a key, of the nearest table around it when it has none itself.
func (d *document) keyPlace(key string) (line, col int)   { return d.lineCol(d.find(key).key) }
func (d *document) valuePlace(key string) (line, col int) { return d.lineCol(d.find(key).val) }

func (d *document) find(key string) place {
	for {
		if p, ok := d.scan.places[key]; ok {
			return p
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut < 0 {
			return place{}
		}
		key = key[:cut]
	}
}

// oneLine makes a message of somebody else's safe to print: it may quote the file.
func oneLine(text string) string {
	return strings.TrimSuffix(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !Visible(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(text)), ".")
}

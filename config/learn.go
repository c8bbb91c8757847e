package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// AddAllow writes entries into network.allow of the profile's file, and network.mode where it says none. Everything else
// stays as it is, comments too. A file that is no longer as it was read is left alone.
func (p *Profile) AddAllow(entries []string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write profile %s: %w", showName(p.shownAs(p.File)), bare(err))
		}
	}()
	// Through a link, which stays one: the file is what was read.
	file, err := filepath.EvalSymlinks(p.File)
	if err != nil {
		return err
	}
	data, err := readOwned(file, false)
	if err != nil {
		return err
	}
	if hashOf(data) != p.hash {
		return errors.New("it has been changed meanwhile")
	}
	text, err := insertAllow(data, entries)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return replaceFile(file, text, info.Mode().Perm())
}

// ReplaceProfile puts a whole profile in the place of the one that is there, or of none. A link there is not followed: it is
// what is replaced.
func ReplaceProfile(file string, text []byte) error {
	err := replaceFile(file, text, 0o644)
	if err != nil {
		err = fmt.Errorf("write profile %s: %w", showName(file), bare(err))
	}
	return err
}

// replaceFile puts a file in the place of another, whole or not at all.
func replaceFile(file string, text []byte, mode os.FileMode) error {
	f, err := createBeside(file)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(file))
}

// insertAllow is a profile's text with entries added, where it has them not yet.
func insertAllow(data []byte, entries []string) ([]byte, error) {
	d := parseTOML(data)
	if len(d.mistakes) > 0 {
		return nil, errors.New(d.mistakes[0].Text)
	}
	network, isTable := d.tree["network"].(map[string]any)
	if d.tree["network"] != nil && !isTable {
		return nil, errors.New("its network is no table")
	}
	if mode, said := network["mode"]; said && mode != "user" {
		return nil, fmt.Errorf("its network.mode is %s", showValue(mode))
	}
	have, isList := network["allow"].([]any)
	if network["allow"] != nil && !isList {
		return nil, errors.New("its network.allow is no array")
	}
	var words []string
	for _, e := range entries {
		if word := tomlString(e); !slices.Contains(have, any(e)) && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	if len(words) == 0 {
		return data, nil
	}
	t := &inserter{doc: d, newline: "\n"}
	if strings.Contains(d.text, "\r\n") {
		t.newline = "\r\n"
	}
	if network["allow"] != nil {
		t.extend(d.scan.places["network.allow"].val, words)
	}
	t.set(network, words)
	out := t.text()
	// What comes out is read as the next run will read it.
	if err := t.check(out, have, entries); err != nil {
		return nil, fmt.Errorf("bug: %w", err)
	}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		out = "\ufeff" + out
	}
	return []byte(out), nil
}

// inserter collects what is to be put into a document's text, and where.
type inserter struct {
	doc     *document
	newline string
	parts   []insertion
}

type insertion struct {
	at   int
	text string
}

func (t *inserter) insert(at int, text string) { t.parts = append(t.parts, insertion{at, text}) }

func (t *inserter) text() string {
	slices.SortStableFunc(t.parts, func(a, b insertion) int { return a.at - b.at })
	var out strings.Builder
	at := 0
	for _, p := range t.parts {
		out.WriteString(t.doc.text[at:p.at])
		out.WriteString(p.text)
		at = p.at
	}
	out.WriteString(t.doc.text[at:])
	return out.String()
}

// set writes network.mode and network.allow, those of the two that the profile does not say.
func (t *inserter) set(network map[string]any, words []string) {
	var lines []string
	if network["mode"] == nil {
		lines = append(lines, `mode = "user"`)
	}
	if network["allow"] == nil {
		lines = append(lines, "allow = ["+strings.Join(words, ", ")+"]")
	}
	if len(lines) == 0 {
		return
	}
	text := t.doc.text
	place, there := t.doc.scan.places["network"]
	st := t.doc.scan.statementAt(place.key)
	switch {
	case !there:
		block := t.newline + "[network]" + t.newline + strings.Join(lines, t.newline) + t.newline
		if text != "" && !strings.HasSuffix(text, "\n") {
			block = t.newline + block
		}
		t.insert(len(text), block)
	case !st.header && text[place.val] == '{':
		list := " " + strings.Join(lines, ", ")
		if len(network) > 0 {
			list += ","
		}
		t.insert(place.val+1, list)
	case st.header:
		t.lines(st.end, "", lines)
	default: // dotted keys, of which the last is as good a place as any
		t.lines(t.doc.scan.dottedEnd("network."), "network.", lines)
	}
}

// lines inserts whole lines where one begins, or at the end of a text whose last line has none.
func (t *inserter) lines(at int, prefix string, lines []string) {
	block := ""
	for _, l := range lines {
		block += prefix + l + t.newline
	}
	if at > 0 && t.doc.text[at-1] != '\n' {
		block = t.newline + block
	}
	t.insert(at, block)
}

// extend adds elements behind the last of the array that begins at open. Where the array has a line for each, so do these.
func (t *inserter) extend(open int, words []string) {
	text := t.doc.text
	a := scanArray(text, open)
	if a.last == 0 {
		t.insert(open+1, strings.Join(words, ", "))
		return
	}
	start := strings.LastIndexByte(text[:a.closing], '\n') + 1
	if start <= a.last || strings.TrimLeft(text[start:a.closing], " \t") != "" {
		t.insert(a.last, ", "+strings.Join(words, ", "))
		return
	}
	if !a.comma {
		t.insert(a.last, ",")
	}
	// As far in as the first element, where that begins its line.
	line := strings.LastIndexByte(text[:a.first], '\n') + 1
	indent := text[line:a.first]
	if strings.Trim(indent, " \t") != "" {
		indent = text[start:a.closing] + "\t"
	}
	for _, w := range words {
		t.insert(start, indent+w+","+t.newline)
	}
}

// check reads a text as the next run will: it has the entries, and everything else that was there.
func (t *inserter) check(text string, have []any, entries []string) error {
	d := parseTOML([]byte(text))
	if len(d.mistakes) > 0 {
		return fmt.Errorf("it would not be TOML any more: %s", d.mistakes[0].Text)
	}
	network, _ := d.tree["network"].(map[string]any)
	list, _ := network["allow"].([]any)
	for _, e := range entries {
		if !slices.Contains(list, any(e)) {
			return fmt.Errorf("%s would not be in network.allow", showValue(e))
		}
	}
	if len(list) < len(have) || !slices.EqualFunc(list[:len(have)], have, reflect.DeepEqual) || network["mode"] != "user" {
		return errors.New("it would say something else")
	}
	return nil
}

// array is where an array has its first element and what is behind its last (0: it is empty), whether a comma is behind that, and where
// its closing bracket is.
type array struct {
	first, last, closing int
	comma                bool
}

// scanArray looks at an array that the scanner could follow before.
func scanArray(text string, open int) (a array) {
	s := &scan{data: text, pos: open + 1, tooDeep: -1, places: map[string]place{}, arrays: map[string]int{}, explicit: map[string]bool{}, stmt: &statement{}}
	for {
		s.blank()
		if s.peek() == ']' || s.pos >= len(text) {
			a.closing = s.pos
			return a
		}
		if a.last == 0 {
			a.first = s.pos
		}
		if !s.value("", 0) {
			a.closing = s.pos
			return a
		}
		a.last = s.pos
		s.comma(']')
		a.comma = text[s.pos-1] == ','
	}
}

// statementAt is the statement that an offset lies in.
func (s *scan) statementAt(at int) statement {
	for _, st := range s.statements {
		if st.start <= at && at < st.end {
			return st
		}
	}
	return statement{}
}

// dottedEnd is where the line after the last of the keys that begin with prefix begins.
func (s *scan) dottedEnd(prefix string) (end int) {
	for key, p := range s.places {
		if strings.HasPrefix(key, prefix) {
			end = max(end, s.statementAt(p.key).end)
		}
	}
	return end
}

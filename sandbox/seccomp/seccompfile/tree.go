package seccompfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cove/config"
)

// syntax says where the text stops being JSON.
func syntax(data []byte, err error) string {
	at := int64(len(data))
	var e *json.SyntaxError
	switch {
	case errors.As(err, &e):
		at = min(at, e.Offset)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		err = errors.New("the JSON ends too early")
	default:
		return err.Error()
	}
	before := data[:at]
	line := 1 + bytes.Count(before, []byte("\n"))
	return fmt.Sprintf("line %d, column %d: %v", line, len(before)-bytes.LastIndexByte(before, '\n')-1, err)
}

func (p *parser) wrong(at, format string, args ...any) {
	if at != "" {
		at += ": "
	}
	p.mistakes = append(p.mistakes, at+fmt.Sprintf(format, args...))
}

// unknown says that a word is none of those that are known, and which was probably meant.
func (p *parser) unknown(at, what, word string, known []string, list bool) {
	text := fmt.Sprintf("unknown %s %s", what, strconv.QuoteToASCII(word))
	// The likeness costs a look at every word that is known; nobody is shown more than the first mistakes.
	if len(p.mistakes) >= maxMistakes {
		p.wrong(at, "%s", text)
		return
	}
	if near := config.Nearest(word, known); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	if list {
		text += " (" + strings.Join(known, ", ") + ")"
	}
	p.wrong(at, "%s", text)
}

// object is a JSON object that has no members but these; nil when it is none.
func (p *parser) object(at string, tree any, known ...string) map[string]any {
	m, ok := tree.(map[string]any)
	if !ok {
		if at == "" {
			at = "the file"
		}
		p.wrong(at, "want an object, not %s", kind(tree))
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(known, name) {
			p.unknown(at, "member", name, known, true)
		}
	}
	return m
}

// array is a JSON array; null is an empty one, as Go writes it.
func (p *parser) array(at string, tree any) []any {
	list, ok := tree.([]any)
	if !ok && tree != nil {
		p.wrong(at, "want an array, not %s", kind(tree))
	}
	return list
}

func (p *parser) texts(at string, tree any) []string {
	var out []string
	for i, one := range p.array(at, tree) {
		out = append(out, p.text(element(at, i), one))
	}
	return out
}

func (p *parser) text(at string, tree any) string {
	s, ok := tree.(string)
	if !ok {
		p.wrong(at, "want a string, not %s", kind(tree))
	}
	return s
}

// number is a whole number from 0 to limit.
func (p *parser) number(at string, tree any, limit uint64) uint64 {
	text, ok := tree.(json.Number)
	if !ok {
		p.wrong(at, "want a number, not %s", kind(tree))
		return 0
	}
	n, err := strconv.ParseUint(text.String(), 10, 64)
	if err != nil || n > limit {
		p.wrong(at, "%s is not a whole number from 0 to %d", text, limit)
		return 0
	}
	return n
}

func kind(tree any) string {
	switch tree.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	case []any:
		return "an array"
	}
	return "an object"
}

func element(at string, i int) string { return fmt.Sprintf("%s[%d]", at, i) }

func member(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

package draft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// decodeJSONC reads an object of JSON with comments and commas before a closing bracket, as editors write it.
func decodeJSONC(data []byte) (map[string]any, error) {
	plain, err := plainJSON(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(plain[:min(int(syntax.Offset), len(plain))], []byte("\n")), err)
		}
		return nil, err
	}
	if tree == nil {
		return nil, errors.New("is null, and no object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something stands behind the object's end")
	}
	return tree, nil
}

// plainJSON has blanks where comments and the commas before a closing bracket were, so that places stay.
func plainJSON(data []byte) ([]byte, error) {
	out := bytes.Clone(data)
	comma := -1 // the last one, when nothing came behind it
	var last byte
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '"':
			comma, last = -1, c
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case c == '/' && i+1 < len(out) && (out[i+1] == '/' || out[i+1] == '*'):
			end, err := commentEnd(out, i)
			if err != nil {
				return nil, err
			}
			for ; i < end; i++ {
				if out[i] != '\n' {
					out[i] = ' '
				}
			}
			i--
		case c == ',':
			if comma = i; last == '[' || last == '{' || last == ',' || last == 0 {
				comma = -1 // one that ends nothing is wrong
			}
			last = c
		case c == '}' || c == ']':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma, last = -1, c
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			comma, last = -1, c
		}
	}
	return out, nil
}

func commentEnd(data []byte, at int) (int, error) {
	if data[at+1] == '/' {
		if n := bytes.IndexByte(data[at:], '\n'); n >= 0 {
			return at + n, nil
		}
		return len(data), nil
	}
	n := bytes.Index(data[at+2:], []byte("*/"))
	if n < 0 {
		return 0, fmt.Errorf("line %d: a comment has no end", 1+bytes.Count(data[:at], []byte("\n")))
	}
	return at + 2 + n + 2, nil
}

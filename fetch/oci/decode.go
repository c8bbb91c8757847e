package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Decode reads a document that has one meaning for everybody. encoding/json takes the last of the keys that are
// the same, or that differ only in case, and takes "LAYERS" for "layers"; other readers take the first, or
// neither. A document that uses that could be checked as one thing and run as another, and is refused.
//
// In the objects that are structs of v no two keys may be alike but for case, and none may be alike to a field's
// without being it. In others, which hold names of the image's maker, no two may be the same.
func Decode(data []byte, v any) error {
	if err := checkKeys(data, reflect.TypeOf(v)); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// What no document of an image has: so deep, and so many keys and values. Read into memory those of a
// document of 4 MiB can take a hundred.
const (
	maxNesting = 64
	maxWords   = 100_000
)

// frame is an object or an array that is being read.
type frame struct {
	t      reflect.Type      // what it is read into, or nil
	fields map[string]field  // of a struct, by folded name
	seen   map[string]string // of an object: keys, by what they are compared by
	key    string            // of an object: the key whose value comes next
	isKey  bool              // of an object: a key comes next
	fold   bool
}

type field struct {
	name string
	t    reflect.Type
}

// checkKeys looks at the keys of a document. It stops at what is no JSON, which the decoder tells of.
func checkKeys(data []byte, t reflect.Type) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var stack []*frame
	for words := 0; ; words++ {
		token, err := d.Token()
		if err != nil {
			return nil
		}
		if words == maxWords {
			return fmt.Errorf("holds more than %d keys and values", maxWords)
		}
		var top *frame
		if len(stack) > 0 {
			top = stack[len(stack)-1]
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if top != nil && top.isKey {
			top.isKey = false
			if err := top.add(token.(string)); err != nil {
				return err
			}
			continue
		}
		at := t
		if top != nil {
			at = top.next()
			top.isKey = top.seen != nil
		}
		if delim, ok := token.(json.Delim); ok {
			if len(stack) == maxNesting {
				return fmt.Errorf("nested more than %d times", maxNesting)
			}
			stack = append(stack, newFrame(at, delim == '{'))
		}
	}
}

func newFrame(t reflect.Type, object bool) *frame {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	f := &frame{t: t}
	if object {
		f.seen, f.isKey = map[string]string{}, true
		if t != nil && t.Kind() == reflect.Struct {
			f.fold, f.fields = true, map[string]field{}
			addFields(f.fields, t)
		}
	}
	return f
}

func addFields(fields map[string]field, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			addFields(fields, f.Type)
		case f.IsExported() && name != "-":
			if name == "" {
				name = f.Name
			}
			fields[fold(name)] = field{name, f.Type}
		}
	}
}

// add notes a key.
func (f *frame) add(key string) error {
	f.key = key
	by := key
	if f.fold {
		by = fold(key)
		if known, ok := f.fields[by]; ok && known.name != key {
			return fmt.Errorf("key %s is %q but for case, and means different things to different readers", Short(key), known.name)
		}
	}
	if other, twice := f.seen[by]; twice {
		if other == key {
			return fmt.Errorf("key %s occurs twice in one object", Short(key))
		}
		return fmt.Errorf("keys %s and %s differ only in case", Short(other), Short(key))
	}
	f.seen[by] = key
	return nil
}

// next is what the value that comes is read into.
func (f *frame) next() reflect.Type {
	if f.t == nil {
		return nil
	}
	switch f.t.Kind() {
	case reflect.Struct:
		if known, ok := f.fields[fold(f.key)]; ok {
			return known.t
		}
	case reflect.Map, reflect.Slice, reflect.Array:
		return f.t.Elem()
	}
	return nil
}

// fold is a key as encoding/json compares it: every letter by the least of those that are the same but for case.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, s)
}

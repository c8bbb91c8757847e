// Package wire puts values into bytes and back for two processes of the same program: field after field, without names,
// so that whoever reads must have the very types of who wrote.
//
// It stands beside encoding/json for the messages of a start, of which every one is the first of its type in its process:
// package json then looks at each type for its names, its tags and its best encoder, and keeps that for the next time.
// Here a type is walked through as it is.
//
// Of Go's types it knows bool, the integers, floats, strings, slices, arrays, maps, structs and pointers, where nil is
// told from empty. What Decode reads may be hostile: it returns an error, and allocates no more than a multiple of what
// it was given.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
)

// Append appends v, or what v points to, to b. A type that it does not know is a bug of ours, and a panic.
func Append(b []byte, v any) []byte {
	return appendValue(b, reflect.Indirect(reflect.ValueOf(v)))
}

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.Float32, reflect.Float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v.Float()))
	case reflect.String:
		return append(binary.AppendUvarint(b, uint64(v.Len())), v.String()...)
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0)
		}
		return appendValue(append(b, 1), v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return append(b, 0)
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(b, v.Bytes()...)
		}
		return appendElements(b, v)
	case reflect.Array:
		return appendElements(b, v)
	case reflect.Map:
		if v.IsNil() {
			return append(b, 0)
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		for entry := v.MapRange(); entry.Next(); {
			b = appendValue(appendValue(b, entry.Key()), entry.Value())
		}
		return b
	case reflect.Struct:
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
		return b
	}
	panic("bug: package wire does not know " + v.Type().String())
}

func appendElements(b []byte, v reflect.Value) []byte {
	for i := range v.Len() {
		b = appendValue(b, v.Index(i))
	}
	return b
}

var (
	errShort = errors.New("message ends early")
	errDeep  = errors.New("message is nested too deeply")
)

// Decode reads what Append has written of a value of v's type into what v points to, which must be its zero value.
func Decode(b []byte, v any) error {
	r := &reader{rest: b, budget: 64*len(b) + 4096}
	if err := r.value(reflect.ValueOf(v).Elem()); err != nil {
		return err
	}
	if len(r.rest) > 0 {
		return fmt.Errorf("message has %d bytes too many", len(r.rest))
	}
	return nil
}

type reader struct {
	rest   []byte
	budget int // bytes of memory that may still be taken
	depth  int // of pointers
}

// maxDepth bounds how deep pointers of a type that holds itself lead: each takes stack.
const maxDepth = 100

func (r *reader) value(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Bool:
		c, err := r.take(1)
		if err == nil {
			v.SetBool(c[0] != 0)
		}
		return err
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, size := binary.Varint(r.rest)
		if size <= 0 || v.OverflowInt(n) {
			return errShort
		}
		r.rest = r.rest[size:]
		v.SetInt(n)
		return nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		n, err := r.uvarint()
		if err != nil || v.OverflowUint(n) {
			return errShort
		}
		v.SetUint(n)
		return nil
	case reflect.Float32, reflect.Float64:
		c, err := r.take(8)
		if err == nil {
			v.SetFloat(math.Float64frombits(binary.BigEndian.Uint64(c)))
		}
		return err
	case reflect.String:
		n, err := r.uvarint()
		if err != nil {
			return err
		}
		c, err := r.take(n)
		if err == nil {
			v.SetString(string(c))
		}
		return err
	case reflect.Pointer:
		return r.pointer(v)
	case reflect.Slice:
		return r.slice(v)
	case reflect.Array:
		return r.elements(v)
	case reflect.Map:
		return r.mapping(v)
	case reflect.Struct:
		for i := range v.NumField() {
			if err := r.value(v.Field(i)); err != nil {
				return err
			}
		}
		return nil
	}
	panic("bug: package wire does not know " + v.Type().String())
}

func (r *reader) pointer(v reflect.Value) error {
	c, err := r.take(1)
	if err != nil || c[0] == 0 {
		return err
	}
	if err := r.spend(1, v.Type().Elem()); err != nil {
		return err
	}
	if r.depth++; r.depth > maxDepth {
		return errDeep
	}
	defer func() { r.depth-- }()
	v.Set(reflect.New(v.Type().Elem()))
	return r.value(v.Elem())
}

func (r *reader) slice(v reflect.Value) error {
	n, there, err := r.count()
	if err != nil || !there {
		return err
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		c, err := r.take(n)
		if err == nil {
			v.SetBytes(append([]byte{}, c...))
		}
		return err
	}
	if err := r.spend(n, v.Type().Elem()); err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
	return r.elements(v)
}

func (r *reader) elements(v reflect.Value) error {
	for i := range v.Len() {
		if err := r.value(v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) mapping(v reflect.Value) error {
	n, there, err := r.count()
	if err != nil || !there {
		return err
	}
	t := v.Type()
	v.Set(reflect.MakeMap(t))
	for range n {
		if err := errors.Join(r.spend(1, t.Key()), r.spend(1, t.Elem())); err != nil {
			return err
		}
		key, elem := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if err := r.value(key); err != nil {
			return err
		}
		if err := r.value(elem); err != nil {
			return err
		}
		v.SetMapIndex(key, elem)
	}
	return nil
}

// count reads the length of what may be nil.
func (r *reader) count() (n uint64, there bool, err error) {
	n, err = r.uvarint()
	if err != nil || n == 0 {
		return 0, false, err
	}
	return n - 1, true, nil
}

// spend allows for n values of a type, or says that the message is too short to hold them.
func (r *reader) spend(n uint64, t reflect.Type) error {
	size := uint64(max(t.Size(), 16))
	if n > uint64(r.budget)/size {
		return errShort
	}
	r.budget -= int(n * size)
	return nil
}

func (r *reader) uvarint() (uint64, error) {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		return 0, errShort
	}
	r.rest = r.rest[size:]
	return n, nil
}

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.rest)) {
		return nil, errShort
	}
	c := r.rest[:n]
	r.rest = r.rest[n:]
	return c, nil
}

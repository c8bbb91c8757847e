package change

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
)

// A journal and a state have an element for each file. They are written and read one element at a time: the text of all of
// them, twice in memory, took more than what it is made of.

// member is one of a JSON object's.
type member struct {
	name  string
	value any
	list  iter.Seq[any] // in place of value: the elements of a list
}

// elements are those of a list, for a member.
func elements[T any](of iter.Seq[T]) iter.Seq[any] {
	return func(yield func(any) bool) {
		for e := range of {
			if !yield(e) {
				return
			}
		}
	}
}

// writeJSON replaces a file by one that is on the disk, whole.
func writeJSON(name string, members ...member) error {
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	if err = encode(w, members); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// encode ends each value with a new line, as an Encoder does. What cannot be written is told by Flush.
func encode(w *bufio.Writer, members []member) error {
	e := json.NewEncoder(w)
	before := "{"
	for _, m := range members {
		fmt.Fprintf(w, "%s%q:", before, m.name)
		before = ","
		if m.list == nil {
			if err := e.Encode(m.value); err != nil {
				return err
			}
			continue
		}
		between := "["
		for v := range m.list {
			_, _ = w.WriteString(between)
			between = ","
			if err := e.Encode(v); err != nil {
				return err
			}
		}
		if between == "[" {
			_, _ = w.WriteString(between)
		}
		_, _ = w.WriteString("]")
	}
	_, _ = w.WriteString("}\n")
	return nil
}

// errEnough ends the reading of a file of which no more is wanted.
var errEnough = errors.New("enough")

// readJSON reads an object. f decodes the value of each member into what it returns, nil for a member that it does not know, or
// does so itself and returns errDecoded. Where there is no file it is not called.
func readJSON(name string, f func(member string, d *json.Decoder) (into any, err error)) (err error) {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer file.Close()
	err = decode(json.NewDecoder(bufio.NewReaderSize(file, 64<<10)), f)
	if err == errEnough {
		err = nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // what is empty is no object either
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// errDecoded says that a member's value was decoded already.
var errDecoded = errors.New("decoded")

func decode(d *json.Decoder, f func(member string, d *json.Decoder) (any, error)) error {
	if err := delim(d, '{'); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		into, err := f(key.(string), d) // which in an object it is
		if err == errDecoded {
			continue
		}
		if into == nil {
			into = &json.RawMessage{}
		}
		if err == nil {
			err = d.Decode(into)
		}
		if err != nil {
			return err
		}
	}
	if err := delim(d, '}'); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.Join(errors.New("there is more behind its end"), err)
	}
	return nil
}

func delim(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err == nil && t != want {
		err = fmt.Errorf("%v in place of %v", t, want)
	}
	return err
}

// eachOf calls f with each element of a list that comes next, which may be null.
func eachOf[T any](d *json.Decoder, f func(T)) error {
	if t, err := d.Token(); err != nil || t == nil {
		return err
	} else if t != json.Delim('[') {
		return fmt.Errorf("%v in place of a list", t)
	}
	for d.More() {
		var one T
		if err := d.Decode(&one); err != nil {
			return err
		}
		f(one)
	}
	return delim(d, ']')
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

package change

import (
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What an element at a time wrote is what was there, and what a cove wrote that did it at once is read too.
func TestJournalAndState(t *testing.T) {
	dir := t.TempDir()
	id := &ident{Mode: 0o100644, Ino: 1 << 60, Size: 3, Mtime: tree.Time{Sec: 1, Nsec: 2}, Ctime: tree.Time{Sec: -1}}
	j := &journal{Version: journalVersion, ID: "0a", Phase: applying, Began: 7, dir: dir}
	for _, name := range []spec.Path{"a", "b\xff<", ""} {
		j.Steps = append(j.Steps, &step{n: len(j.Steps), Path: name, Rel: name, Kind: Changed, New: id})
	}
	j.Steps[1].Old = &was{ident: *id, Xattrs: map[string][]byte{"user.x": {0}}, Saved: "s"}
	s := &state{applied: map[string]*ident{"a": id, "gone": nil}, ours: map[string]*ident{"\xfe": id}, began: 7}
	write(t, filepath.Join(applyDir(dir), "log"), "")
	for name, make := range map[string]func() error{
		"one by one": func() error {
			if err := j.write(); err != nil {
				return err
			}
			return s.write(dir)
		},
		"at once": func() error {
			steps, _ := json.Marshal(j.Steps)
			write(t, j.path("journal.json"), `{"version":1,"id":"0a","phase":"applying","began":7,"folders":null,"paths":null,"steps":`+string(steps)+"}\n")
			i, _ := json.Marshal(id)
			write(t, filepath.Join(applyDir(dir), "state.json"), fmt.Sprintf(`{"version":1,"began":7,"applied":[{"path":"a","ident":%s},{"path":"gone"}],"ours":[{"path":{"bytes":"/g=="},"ident":%s}]}`, i, i))
			return nil
		},
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		gotState, got, err := readState(dir, 7)
		if err != nil || got == nil {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		if !reflect.DeepEqual(gotState, s) {
			t.Errorf("%s: %+v, want %+v", name, gotState, s)
		}
		if got.ID != j.ID || got.Phase != j.Phase || !reflect.DeepEqual(got.Steps, j.Steps) {
			t.Errorf("%s: %+v, want %+v", name, got, j)
		}
		if other, got, err := readState(dir, 8); err != nil || got != nil || len(other.applied) != 0 || len(other.ours) != 1 {
			t.Errorf("%s: of a view that is gone: %+v, %v, %v", name, other, got, err)
		}
	}
}

// What is damaged is told, and never taken for less than it was.
func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	all := func(*journal) bool { return true }
	for text, want := range map[string]string{
		"": "unexpected EOF", "[]": "in place of {", `{"version":1,"steps":[`: "unexpected EOF", `{"version":1,"steps":[{}]`: "unexpected EOF", `{"version":1,"steps":{}}`: "in place of a list",
		`{"version":1,"steps":[{"path":1}]}`: "cannot unmarshal", `{"version":1,"steps":[]} x`: "more behind its end", `{"version":1,"steps":[]}{}`: "more behind its end",
		`{"version":2,"steps":{"other":1}}`: "of format 2",
	} {
		write(t, filepath.Join(applyDir(dir), "journal.json"), text)
		if j, err := readJournal(dir, all); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", text, j, err, want)
		}
	}
	write(t, filepath.Join(applyDir(dir), "state.json"), `{"version":2,"applied":{}}`)
	if _, _, err := readState(dir, 1); err == nil || !strings.Contains(err.Error(), "of format 2") {
		t.Error(err)
	}
}

// The steps of an apply that is over are not read by who only wants to know whether it was cut short.
func TestJournalStepsUnread(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(applyDir(dir), "journal.json"), `{"version":1,"phase":"applied","began":7,"steps":[this is not read`)
	if _, j, err := readState(dir, 7); err != nil || j != nil {
		t.Errorf("%v, %v", j, err)
	}
	if _, err := readJournal(dir, (*journal).undoable); err == nil {
		t.Error("an undo has read it")
	}
}

// What is written is not gathered first.
func TestWriteJSONAsItComes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	made, most := 0, 0
	list := func() iter.Seq[any] {
		return func(yield func(any) bool) {
			for range 10_000 {
				if info, err := os.Stat(name + ".new"); err == nil {
					most = max(most, made-int(info.Size()))
				}
				text := strings.Repeat("x", 100)
				if made += len(text); !yield(text) {
					return
				}
			}
		}
	}
	if err := writeJSON(name, member{name: "list", list: list()}); err != nil {
		t.Fatal(err)
	}
	if most > 128<<10 {
		t.Errorf("%d of %d bytes were waiting", most, made)
	}
}

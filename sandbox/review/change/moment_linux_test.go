package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"cove/sandbox/spec"
)

// moments is a context that is asked between the steps of an apply, where others can do something too.
type moments struct {
	context.Context
	then func() bool // true: it has done its part
	over bool
}

func (m *moments) Err() error {
	if !m.over {
		m.over = m.then()
	}
	return m.Context.Err()
}

// once runs a script outside as soon as a file there has some text; "" is for one that is not there.
func (v *view) once(file, text, script string) *moments {
	return &moments{Context: context.Background(), then: func() bool {
		b, _ := os.ReadFile(v.project + "/" + file)
		if string(b) != text {
			return false
		}
		v.outside(script)
		return true
	}}
}

// What others write while an apply or an undo is at work is theirs, and neither the next apply nor an undo overwrites it.
func TestWrittenMeanwhile(t *testing.T) {
	for _, c := range []struct{ name, file, text, outside string }{
		{"in the file", "a", "A\n", "echo mine >> a"},
		{"in place of the file", "a", "A\n", "echo mine > x; mv x a"},
		{"where it was deleted", "b", "", "echo mine > b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newView(t, spec.RootOverlay, "echo a > a; echo b > b; echo c > c; echo d > d")
			v.write("echo A > a; rm b c d")
			s := v.open()
			m := v.once(c.file, c.text, c.outside)
			if _, err := s.Apply(m, Options{}); err != nil || !m.over {
				t.Fatal(err, m.over)
			}
			s.Close()
			want := v.dump(v.project)
			s = v.open()
			var conflict *ConflictError
			if _, err := s.Undo(context.Background(), Options{}); !errors.As(err, &conflict) {
				t.Errorf("an undo: %v", err)
			}
			s.Close()
			differ(t, "an undo", v.dump(v.project), want)
			v.write("echo more > a; echo more > b")
			s = v.open()
			if _, err := s.Apply(context.Background(), Options{Paths: []string{c.file}}); !errors.As(err, &conflict) {
				t.Errorf("an apply: %v", err)
			}
			differ(t, "an apply", v.dump(v.project), want)
		})
	}
}

// A folder that somebody puts in the place of cove's is theirs, and keeps its mode.
func TestFolderMeanwhile(t *testing.T) {
	v := newView(t, spec.RootOverlay, "echo z > z")
	v.write("mkdir new; chmod 777 new; rm z")
	s := v.open()
	m := &moments{Context: context.Background(), then: func() bool {
		if _, err := os.Lstat(v.project + "/new"); err != nil {
			return false
		}
		v.outside("mv new moved; mkdir -m 700 new")
		return true
	}}
	res, err := s.Apply(m, Options{})
	if err != nil || !m.over || len(res.Skipped) != 1 || res.Skipped[0].Path != "new" {
		t.Errorf("%+v, %v", res, err)
	}
	if info, err := os.Lstat(v.project + "/new"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// interrupted does something of which the context ends as soon as a path outside is there, or is not.
func (v *view) interrupted(path string, isThere bool, f func(*Set, context.Context) error) {
	v.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := Open(ctx, v, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	defer s.Close()
	err = f(s, &moments{Context: ctx, then: func() bool {
		_, err := os.Lstat(v.project + "/" + path)
		if (err == nil) == isThere {
			cancel()
		}
		return (err == nil) == isThere
	}})
	if !errors.Is(err, context.Canceled) {
		v.t.Errorf("%s: %v", path, err)
	}
	v.leftovers()
}

// What is interrupted is gone on with: an apply takes over the rest, a folder's mode too, and an undo takes back the rest.
func TestInterrupted(t *testing.T) {
	const (
		project = "mkdir gone; for i in 1 2 3; do echo $i > gone/$i; echo $i > $i; done; chmod 750 gone; setfattr -n user.a -v b gone"
		inside  = "mkdir new; mkdir new/empty; chmod 751 new new/empty; for i in 1 2 3; do echo new > new/$i; echo changed > $i; done; rm -r gone"
	)
	for _, kind := range kinds {
		for _, when := range []string{"new", "new/empty"} {
			t.Run(fmt.Sprint("apply/", kind, "/", when), func(t *testing.T) {
				t.Parallel()
				v := newView(t, kind, project)
				want := v.write(inside)
				v.interrupted(when, true, func(s *Set, ctx context.Context) error { _, err := s.Apply(ctx, Options{}); return err })
				v.apply(Options{})
				differ(t, "gone on", v.dump(v.project), want)
			})
		}
		for when, isThere := range map[string]bool{"new/empty": false, "gone": true} {
			t.Run(fmt.Sprint("undo/", kind, "/", when), func(t *testing.T) {
				t.Parallel()
				v := newView(t, kind, project)
				before := v.dump(v.project)
				v.write(inside)
				v.apply(Options{})
				v.interrupted(when, isThere, func(s *Set, ctx context.Context) error { _, err := s.Undo(ctx, Options{}); return err })
				v.undo()
				differ(t, "taken back", v.dump(v.project), before)
			})
		}
	}
}

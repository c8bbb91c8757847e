package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// What changed outside since the view was made is told, and nothing is done; what did not is applied.
func TestConflict(t *testing.T) {
	const project = "mkdir -p d/e empty; echo one > a; echo two > d/x; echo 1 > d/e/1; ln -s a link; echo k > keep; touch -d 2001-01-01 keep"
	for _, c := range []struct {
		name, inside, outside string
		conflicts             string // of the paths, in a line
	}{
		{"content, outside another file", "echo A > a", "echo X > keep", ""},
		{"content", "echo A > a", "echo X > a", "a"},
		{"content with its time set back", "echo A > a", "echo XXX > a; touch -d 2001-01-01 a", "a"},
		{"its mode", "echo A > a", "chmod 600 a", "a"},
		{"replaced by what is older", "echo A > a", "cp -p keep new; mv new a", "a"},
		{"deleted, changed outside", "rm a", "echo X > a", "a"},
		{"both deleted", "rm a", "rm a", ""},
		{"both made", "echo A > new", "echo X > new", "new"},
		{"both made, the same", "echo A > new", "echo A > new", ""},
		{"made, and a folder outside", "echo A > new", "mkdir new; echo X > new/x", "new/x"},
		{"a folder, and a file outside", "mkdir new; echo A > new/a", "echo X > new", "new"},
		{"changed, deleted outside", "echo A > d/x", "rm d/x", "d/x"},
		{"changed, moved outside", "echo A > d/x", "mkdir m; mv d/x m/x", "d/x"},
		{"a folder deleted, something new in it", "rm -r d", "echo X > d/new", "d/new"},
		{"a folder made anew, something new in it", "rm -r d; mkdir d; echo A > d/a", "echo X > d/new", "d/new"},
		{"link", "ln -sf keep link", "ln -sf d link", "link"},
		{"a folder's mode", "chmod 700 d", "chmod 750 d", "d"},
		{"renamed", "mv a b", "echo X > a", "a"},
		{"renamed onto what came", "mv a b", "echo X > b", "b"},
		{"read, listed, run outside", "echo A > a", "cat a; ls d; stat d", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range kinds {
				t.Run(string(kind), func(t *testing.T) {
					t.Parallel()
					v := newView(t, kind, project)
					v.write(c.inside)
					v.outside(c.outside)
					before := v.dump(v.project)
					s := v.open()
					_, err := s.Apply(context.Background(), Options{})
					var conflict *ConflictError
					var got []string
					if errors.As(err, &conflict) {
						for _, one := range conflict.Conflicts {
							got = append(got, string(one.Path))
						}
					} else if err != nil && !errors.Is(err, ErrNothing) {
						t.Fatal(err)
					}
					want := c.conflicts
					if kind == spec.RootCopy && strings.HasPrefix(c.name, "changed, ") {
						// A copy does not say what was below; but what the program has written is the newer one.
						want = ""
					}
					if strings.Join(got, " ") != want {
						t.Fatalf("conflicts %q, want %q; the changes are\n%s", got, want, v.changes())
					}
					if want == "" {
						return
					}
					differ(t, "after a conflict", v.dump(v.project), before)
					if kind != spec.RootOverlay {
						return // from here on they are alike
					}
					s.Close()
					s = v.open()
					merged := v.merged()
					if _, err := s.Apply(context.Background(), Options{Force: true}); err != nil {
						t.Fatal(err)
					}
					differ(t, "forced", v.dump(v.project), merged)
					s.Close()
					v.undo()
					differ(t, "taken back", v.dump(v.project), before)
					s = v.open()
					if _, err := s.Apply(context.Background(), Options{}); !errors.As(err, &conflict) {
						t.Errorf("once it is taken back it is no conflict any more: %v", err)
					}
				})
			}
		})
	}
}

// What cove itself has put outside is no conflict, nor what happens to what was applied.
func TestNoConflictWithOurselves(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			v := newView(t, kind, "mkdir d; echo 1 > d/1; echo 2 > d/2; ln d/1 d/same")
			v.write("echo A > d/1; echo B > d/2; echo N > d/n")
			v.apply(Options{Paths: []string{"d/1"}})
			// The sandbox goes on with what was applied, and the user too.
			v.write("echo AA > d/1")
			v.apply(Options{Paths: []string{"d/1"}})
			v.outside("echo mine >> d/1")
			v.apply(Options{})
			v.outside("[ \"$(cat d/1)\" = 'AA\nmine' ]; [ $(cat d/2) = B ]; [ $(cat d/n) = N ]")
			if got := v.changes(); got != "" {
				t.Errorf("changes:\n%s", got)
			}
			v.write("echo AAA > d/1")
			s := v.open()
			var conflict *ConflictError
			if _, err := s.Apply(context.Background(), Options{}); !errors.As(err, &conflict) {
				t.Errorf("what the user wrote after the apply is overwritten: %v", err)
			}
		})
	}
}

// An undo takes back what is as it was left, and nothing else.
func TestUndoConflict(t *testing.T) {
	v := newView(t, spec.RootOverlay, "echo one > a; echo two > b")
	v.write("echo A > a; rm b; mkdir new; echo n > new/n")
	v.apply(Options{})
	v.outside("echo mine > a; echo mine > b; echo mine > new/mine")
	before := v.dump(v.project)
	s := v.open()
	_, err := s.Undo(context.Background(), Options{})
	var conflict *ConflictError
	if !errors.As(err, &conflict) || len(conflict.Conflicts) != 2 {
		t.Fatalf("%v", err)
	}
	differ(t, "after a conflict", v.dump(v.project), before)
	res, err := s.Undo(context.Background(), Options{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Skipped) != 1 || res.Skipped[0].Path != "new" {
		t.Errorf("skipped %v, want the folder with something in it", res.Skipped)
	}
	v.outside("[ $(cat a) = one ]; [ $(cat b) = two ]; [ $(ls new) = mine ]")
}

// While files come to their places others work in the project: what they write at that moment stays, and is told.
func TestRace(t *testing.T) {
	for _, force := range []bool{false, true} {
		v := newView(t, spec.RootOverlay, "mkdir d; for i in $(seq 300); do echo $i > d/$i; done")
		v.write("for i in $(seq 300); do echo inside $i > d/$i; done")
		stop := make(chan struct{})
		wrote := make(chan map[string]string)
		go func() {
			did := map[string]string{}
			for n := 0; ; n++ {
				select {
				case <-stop:
					wrote <- did
					return
				default:
				}
				i := n%300 + 1
				name, text := fmt.Sprintf("%s/d/%d", v.project, i), fmt.Sprintf("outside %d\n", n)
				// As an editor does it: a new file under the old name.
				if os.WriteFile(v.project+"/new", []byte(text), 0o644) == nil && os.Rename(v.project+"/new", name) == nil {
					did[name] = text
				}
				time.Sleep(200 * time.Microsecond)
			}
		}()
		time.Sleep(5 * time.Millisecond)
		s := v.open()
		res, err := s.Apply(context.Background(), Options{Force: force})
		close(stop)
		did := <-wrote
		var conflict *ConflictError
		if err != nil && !errors.As(err, &conflict) && !errors.Is(err, errConflict) {
			t.Fatal(err)
		}
		// Each file is one's or the other's. What the apply says that it has done it did; the other may have come after.
		for i := 1; i <= 300; i++ {
			name := fmt.Sprintf("%s/d/%d", v.project, i)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(b); got != fmt.Sprintf("inside %d\n", i) && got != did[name] && got != fmt.Sprintf("%d\n", i) {
				t.Errorf("%s: %q", name, got)
			}
		}
		if res != nil {
			t.Logf("force %v: %d done, %d skipped", force, len(res.Done), len(res.Skipped))
			for _, sk := range res.Skipped {
				b, err := os.ReadFile(v.project + "/" + string(sk.Path))
				if err != nil || strings.HasPrefix(string(b), "inside") {
					t.Errorf("%q was skipped (%s), and holds %q", sk.Path, sk.Why, b)
				}
			}
		}
		v.leftovers()
	}
}

// No link leads an apply out of the project, also one that comes in the moment in which it is applied.
func TestLinksOutside(t *testing.T) {
	v := newView(t, spec.RootOverlay, "mkdir -p d/e; echo 1 > d/e/1")
	victim := t.TempDir()
	if err := os.Mkdir(victim+"/e", 0o755); err != nil {
		t.Fatal(err)
	}
	v.write("for i in $(seq 200); do echo $i > d/e/$i; done; rm d/e/1")
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = unix.Symlink(victim, v.project+"/other")
			_ = unix.Renameat2(unix.AT_FDCWD, v.project+"/other", unix.AT_FDCWD, v.project+"/d", unix.RENAME_EXCHANGE)
			time.Sleep(100 * time.Microsecond)
			_ = unix.Renameat2(unix.AT_FDCWD, v.project+"/other", unix.AT_FDCWD, v.project+"/d", unix.RENAME_EXCHANGE)
			time.Sleep(100 * time.Microsecond)
		}
	}()
	for range 5 {
		s, err := Open(context.Background(), v, nil)
		if err != nil {
			continue // the project is in motion
		}
		_, _ = s.Apply(context.Background(), Options{Force: true})
		s.Close()
	}
	close(stop)
	<-ended
	names, err := os.ReadDir(victim + "/e")
	if err != nil || len(names) > 0 {
		t.Errorf("%v, written outside of the project: %v", err, names)
	}
}

package change

import (
	"os"
	"strings"
	"testing"
	"time"

	"cove/sandbox/review"
	"cove/sandbox/spec"
)

// What is mounted inside a project is a view of its own, and its changes are the project's.
func TestViews(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			// What is mounted: here a folder elsewhere stands for it.
			in := newView(t, kind, "mkdir d; echo 1 > d/1; echo 2 > 2")
			v := newView(t, kind, "mkdir -p sub/mounted; echo a > a; echo s > sub/s")
			if err := os.Remove(v.project + "/sub/mounted"); err != nil {
				t.Fatal(err)
			}
			v.r.Views = append(v.r.Views, review.View{Path: "sub/mounted", Lower: in.project, Upper: in.r.Views[0].Upper})
			v.write("echo A > a; rm sub/s; [ ! -e sub/mounted ] || rmdir sub/mounted")
			in.write("echo 1 more > d/1; rm 2; echo n > n")
			if kind == spec.RootCopy {
				v.outside("mkdir sub/mounted") // which the copy does not have
			}
			if got, want := v.changes(), "changed a\ndeleted sub/mounted/2\nchanged sub/mounted/d/1\nadded sub/mounted/n\ndeleted sub/s\n"; got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			before, want := in.dump(in.project), in.merged()
			v.apply(Options{Paths: []string{"sub"}})
			differ(t, "applied", in.dump(in.project), want)
			if got := v.changes(); got != "changed a\n" {
				t.Errorf("left:\n%s", got)
			}
			v.undo()
			differ(t, "taken back", in.dump(in.project), before)
			v.outside("[ $(cat sub/s) = s ]")
		})
	}
}

// An apply is not taken back in other folders than it was made in: a later view may be of others.
func TestUndoOfOtherViews(t *testing.T) {
	in := newView(t, spec.RootOverlay, "echo 1 > 1; echo 2 > 2")
	other := newView(t, spec.RootOverlay, "echo 1 > 1")
	v := newView(t, spec.RootOverlay, "echo a > a; mkdir mounted other")
	views := append(v.r.Views, review.View{Path: "mounted", Lower: in.project, Upper: in.r.Views[0].Upper})
	v.r.Views = views
	in.write("rm 2; echo 1 more > 1")
	v.apply(Options{})
	before := other.dump(other.project) + in.dump(in.project)
	v.r.Began = time.Now()
	for name, now := range map[string][]review.View{
		"one less": views[:1],
		"another":  {views[0], {Path: "other", Lower: other.project, Upper: other.r.Views[0].Upper}},
	} {
		v.r.Views = now
		s := v.open()
		if _, err := s.Undo(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "mounted") {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
		differ(t, name, other.dump(other.project)+in.dump(in.project), before)
	}
	v.r.Views = views
	v.undo()
	in.outside("[ $(cat 2) = 2 ]; [ $(cat 1) = 1 ]")
}

// Many files that are all alike are no reason to take long.
func TestManyAlike(t *testing.T) {
	v := newView(t, spec.RootOverlay, "mkdir d; cd d; seq 1000 3999 | split -l1 -a3 - f")
	v.write("rm -r d; mkdir n; cd n; seq 4000 6999 | split -l1 -a3 - g")
	s := v.open()
	if len(s.Changes) != 6002 {
		t.Errorf("%d changes", len(s.Changes))
	}
}

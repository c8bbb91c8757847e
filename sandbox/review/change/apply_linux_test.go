package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

func (v *view) apply(opts Options) *Result {
	v.t.Helper()
	s := v.open()
	defer s.Close()
	res, err := s.Apply(context.Background(), opts)
	if errors.Is(err, ErrNothing) {
		return &Result{}
	}
	if err != nil {
		v.t.Fatal(err)
	}
	for _, sk := range res.Skipped {
		v.t.Fatalf("%q skipped: %s", sk.Path, sk.Why)
	}
	return res
}

func (v *view) undo() {
	v.t.Helper()
	s := v.open()
	defer s.Close()
	if _, err := s.Undo(context.Background(), Options{}); err != nil && !errors.Is(err, ErrNoApply) {
		v.t.Fatal(err)
	}
}

// Random trees with random changes: what is applied makes the project what the view is; an undo makes it what it was, and the
// changes are there again; and nothing is a change after an apply.
func TestLaw(t *testing.T) {
	seeds := int64(8)
	if n, err := strconv.ParseInt(os.Getenv("COVE_TEST_SEEDS"), 10, 64); err == nil {
		seeds = n // for a night
	} else if testing.Short() {
		seeds = 3
	}
	for seed := int64(1); seed <= seeds; seed++ {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%d/%s", seed, kind), func(t *testing.T) {
				t.Parallel()
				v := newView(t, kind, "")
				// In fuse-overlayfs 1.10 what is written under one name shows under the others of that file below, until it ends.
				v.inside(insideRequest{Bare: true, At: v.project, Seed: seed, NoLinks: kind == spec.RootFuse})
				v = v.again(kind)
				before := v.dump(v.project)
				v.inside(insideRequest{Seed: seed + 1000})
				want := v.merged() // mounted anew
				list := v.changes()
				v.apply(Options{})
				v.leftovers()
				differ(t, "applied", v.dump(v.project), want)
				if got := v.changes(); got != "" {
					t.Fatalf("changes after an apply:\n%s", got)
				}
				differ(t, "the view after it was applied", v.merged(), want)
				v.undo()
				differ(t, "undone", v.dump(v.project), before)
				differ(t, "the view after the undo", v.merged(), want)
				if got := v.changes(); got != list {
					t.Fatalf("changes after an undo:\n%sbefore:\n%s", got, list)
				}
				v.apply(Options{})
				differ(t, "applied again", v.dump(v.project), want)
				s := v.open()
				if err := s.Settle(); err != nil {
					t.Fatal(err)
				}
				s.Close()
				differ(t, "the view once it is settled", v.merged(), want)
			})
		}
	}
}

// A project on another file system than the store: what is replaced is copied first, and cannot be moved away.
func TestElsewhere(t *testing.T) {
	const other = "/dev/shm"
	var a, b unix.Stat_t
	if err := unix.Stat(other, &a); err != nil {
		skip(t, err.Error())
	}
	if err := unix.Stat(t.TempDir(), &b); err != nil {
		t.Fatal(err)
	}
	if a.Dev == b.Dev {
		skip(t, "everything is on one file system")
	}
	elsewhere = other
	defer func() { elsewhere = "" }()
	for seed := int64(1); seed <= 4; seed++ {
		v := newView(t, spec.RootOverlay, "")
		v.inside(insideRequest{Bare: true, At: v.project, Seed: seed})
		v = v.again(spec.RootOverlay)
		before := v.dump(v.project)
		v.inside(insideRequest{Seed: seed + 1000})
		want := v.merged()
		v.apply(Options{})
		v.leftovers()
		differ(t, "applied", v.dump(v.project), want)
		v.undo()
		differ(t, "undone", v.dump(v.project), before)
	}
	v := newView(t, spec.RootOverlay, manyFiles)
	before := v.dump(v.project)
	want := v.write(manyChanges)
	for n := 1; v.killed(false, time.Duration(10*n)*time.Millisecond); n++ {
		v.eachOldOrNew(before, want)
	}
	differ(t, "finished", v.dump(v.project), want)
	for n := 1; v.killed(true, time.Duration(10*n)*time.Millisecond); n++ {
		v.eachOldOrNew(before, want)
	}
	v.leftovers()
	differ(t, "taken back", v.dump(v.project), before)
}

// The folder itself has a mode too.
func TestOwnMode(t *testing.T) {
	for _, kind := range kinds {
		v := newView(t, kind, "echo 1 > a")
		v.write("chmod 711 .")
		if got := v.changes(); got != "mode \n" {
			t.Errorf("%s: %q", kind, got)
		}
		v.apply(Options{})
		v.outside("[ $(stat -c %a .) = 711 ]")
		v.undo()
		v.outside("[ $(stat -c %a .) = 700 ]")
		v.apply(Options{Paths: []string{""}})
		v.outside("[ $(stat -c %a .) = 711 ]")
	}
}

// again makes the view anew, of the project as it is.
func (v *view) again(kind spec.RootKind) *view {
	v.t.Helper()
	n := newView(v.t, kind, "cp -aT "+v.project+" . 2>/dev/null || cp -aT "+v.project+" .")
	return n
}

// One path after the other leads to the same as all at once.
func TestLawByPath(t *testing.T) {
	for seed := int64(1); seed <= 4; seed++ {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%d/%s", seed, kind), func(t *testing.T) {
				t.Parallel()
				v := newView(t, kind, "")
				// In fuse-overlayfs 1.10 what is written under one name shows under the others of that file below, until it ends.
				v.inside(insideRequest{Bare: true, At: v.project, Seed: seed, NoLinks: kind == spec.RootFuse})
				v = v.again(kind)
				v.inside(insideRequest{Seed: seed + 2000})
				want := v.merged() // mounted anew
				for n := 0; ; n++ {
					s := v.open()
					if len(s.Changes) == 0 {
						s.Close()
						break
					}
					c := s.Changes[n%len(s.Changes)]
					if testing.Verbose() {
						t.Logf("%s %q", c.Kind, c.Path)
					}
					res, err := s.Apply(context.Background(), Options{Paths: []string{c.name()}})
					if err != nil {
						t.Fatalf("%s %q: %v", c.Kind, c.Path, err)
					}
					if len(res.Done) == 0 {
						t.Fatalf("%s %q: %v", c.Kind, c.Path, res.Skipped)
					}
					s.Close()
					if n > 500 {
						t.Fatal("no end")
					}
				}
				differ(t, "applied", v.dump(v.project), want)
			})
		}
	}
}

// What is discarded, path by path, leaves the project's own in the view.
func TestLawDiscard(t *testing.T) {
	for seed := int64(1); seed <= 5; seed++ {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%d/%s", seed, kind), func(t *testing.T) {
				t.Parallel()
				v := newView(t, kind, "")
				// In fuse-overlayfs 1.10 what is written under one name shows under the others of that file below, until it ends.
				v.inside(insideRequest{Bare: true, At: v.project, Seed: seed, NoLinks: kind == spec.RootFuse})
				v = v.again(kind)
				before := v.dump(v.project)
				v.inside(insideRequest{Seed: seed + 3000})
				for n := 0; ; n++ {
					s := v.open()
					if len(s.Changes) == 0 {
						s.Close()
						break
					}
					c := s.Changes[(n*7)%len(s.Changes)]
					if _, err := s.Discard(context.Background(), []string{c.name()}); err != nil {
						t.Fatalf("%s %q: %v", c.Kind, c.Path, err)
					}
					s.Close()
					if n > 500 {
						t.Fatal("no end")
					}
				}
				differ(t, "the view", v.merged(), before)
				differ(t, "the project", v.dump(v.project), before)
			})
		}
	}
}

// leftovers fails where an apply has left a file of its own.
func (v *view) leftovers() {
	v.t.Helper()
	for line := range strings.Lines(v.dump(v.project)) {
		if strings.Contains(line, ".cove-") {
			v.t.Fatalf("left over: %s", line)
		}
	}
}

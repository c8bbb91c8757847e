package review

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cove/sandbox/spec"
	"cove/userns"
)

var one = userns.Single(uint32(os.Geteuid()), uint32(os.Getegid()), 0, 0)

// project is a store and a project with an odd name, and what is wanted of it.
func project(t *testing.T) (string, Want) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "p\xff \n")
	for _, d := range []string{p, filepath.Join(dir, "store"), filepath.Join(p, "sub")} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "store"), Want{Project: p, IDMap: one, Kind: spec.RootOverlay, Paths: []string{"", "sub"}, By: "box"}
}

func begin(t *testing.T, store string, w Want) *Session {
	t.Helper()
	s, err := Use(context.Background(), store, w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// looksSo is no closer look.
func looksSo(*Session) bool { return true }

// What is changed stays, for one at a time; what is not goes with its sandbox.
func TestUse(t *testing.T) {
	store, w := project(t)
	if _, err := Open(store, w.Project); !errors.Is(err, ErrNone) {
		t.Errorf("open of none: %v", err)
	}
	before := time.Now()
	s := begin(t, store, w)
	r := s.Record()
	if !s.Fresh() || s.Changed() || r.Began.After(time.Now()) || before.Sub(r.Began) > time.Second || len(r.Views) != 2 ||
		r.Views[1].Path != "sub" || r.Views[1].Lower != w.Project+"/sub" {
		t.Errorf("%+v", s)
	}
	if info, err := os.Stat(r.Views[0].Upper); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the upper directory: %v, %v", info, err)
	}
	var inUse *InUseError
	if _, err := Use(context.Background(), store, w); !errors.As(err, &inUse) || inUse.By != "box" {
		t.Errorf("a second one: %v", err)
	}
	if _, err := Open(store, w.Project); !errors.As(err, &inUse) || inUse.By != "box" {
		t.Errorf("open: %v", err)
	}
	if list, err := List(store); err != nil || len(list) != 1 || !list[0].InUse || list[0].By != "box" || list[0].Project != w.Project {
		t.Errorf("%+v, %v", list, err)
	}
	if err := s.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(store, "reviews")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	s = begin(t, store, w)
	if err := os.WriteFile(s.Record().Views[1].Upper+"/new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.By = "other"
	s = begin(t, store, w)
	if s.Fresh() || !s.Changed() || usedBy(s.Dir()) != "other" {
		t.Errorf("again: %+v", s)
	}
	if err := errors.Join(s.Discard(context.Background()), s.Close()); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(store, "reviews")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// The project's folder itself may be changed, too.
func TestChangedFolder(t *testing.T) {
	store, w := project(t)
	s := begin(t, store, w)
	defer s.Close()
	if err := os.Chmod(s.Record().Views[0].Upper, 0o777); err != nil {
		t.Fatal(err)
	}
	if !s.Changed() {
		t.Error("another mode is no change")
	}
}

// A view in which there are changes is not worked in as another one.
func TestUseAsAnother(t *testing.T) {
	store, w := project(t)
	s := begin(t, store, w)
	if err := os.WriteFile(s.Record().Views[0].Upper+"/new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(context.Background()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Want){
		"ids":   func(w *Want) { w.IDMap = userns.Single(one.UIDs[0].HostID, one.GIDs[0].HostID, 5, 5) },
		"kind":  func(w *Want) { w.Kind = spec.RootFuse },
		"paths": func(w *Want) { w.Paths = []string{""} },
	} {
		other := w
		change(&other)
		var e *OtherError
		if _, err := Use(context.Background(), store, other); !errors.As(err, &e) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s, err := Open(store, w.Project); err != nil || usedBy(s.Dir()) != "box" {
		t.Errorf("it is locked, or another's: %v", err)
	}
}

// A record that cannot be read, or is of another cove's making, is told and never taken for none.
func TestRecordOfAnother(t *testing.T) {
	store, w := project(t)
	s := begin(t, store, w)
	s.Close()
	file := filepath.Join(s.Dir(), "record.json")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"version": strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		"project": strings.Replace(string(good), `"bytes":"`, `"bytes":"L2`, 1),
		"empty":   "",
		"cut":     string(good[:len(good)/2]),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(store, w.Project); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Use(context.Background(), store, w); err == nil {
			t.Errorf("%s: it is used", name)
		}
		if out, err := Sweep(context.Background(), store, true, false, looksSo); err != nil || len(out.Views) != 1 || len(out.Removed) != 0 {
			t.Errorf("%s: swept %+v, %v", name, out, err)
		}
		if v := (&VersionError{}); name == "version" {
			if _, err := Open(store, w.Project); !errors.As(err, &v) || v.Version != 2 {
				t.Errorf("%v", err)
			}
		}
	}
}

// Whatever a kill leaves: the next one makes it anew, and a sweep removes it. What was applied stays to be taken back.
func TestLeftovers(t *testing.T) {
	store, w := project(t)
	for name, again := range map[string]bool{"used": true, "swept": false} {
		s := begin(t, store, w)
		if err := errors.Join(os.Mkdir(s.Dir()+"/apply", 0o700), os.WriteFile(s.Record().Views[0].Upper+"/new", nil, 0o600),
			os.Remove(s.Dir()+"/record.json"), s.Close()); err != nil {
			t.Fatal(err)
		}
		if again {
			s = begin(t, store, w)
			if !s.Fresh() || s.Changed() {
				t.Errorf("%s: %+v", name, s)
			}
			if err := s.Leave(context.Background()); err != nil {
				t.Fatal(err)
			}
		} else {
			dry, err := Sweep(context.Background(), store, false, true, looksSo)
			if err != nil || dry.Leftovers != 1 || dry.Bytes == 0 {
				t.Errorf("%s: %+v, %v", name, dry, err)
			}
			out, err := Sweep(context.Background(), store, false, false, looksSo)
			if err != nil || out.Leftovers != 1 || out.Bytes != dry.Bytes {
				t.Errorf("%s: %+v, %v", name, out, err)
			}
		}
		if left, err := os.ReadDir(s.Dir()); err != nil || len(left) != 1 || left[0].Name() != "apply" {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
		if err := os.Remove(s.Dir() + "/apply"); err != nil {
			t.Fatal(err)
		}
	}
}

// A sweep takes a view with changes only when its project is gone, and it was asked to; one that is in use never.
func TestSweep(t *testing.T) {
	store, w := project(t)
	sweep := func(gone bool) (stay, removed int) {
		t.Helper()
		out, err := Sweep(context.Background(), store, gone, false, looksSo)
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Views), len(out.Removed)
	}
	s := begin(t, store, w)
	if stay, removed := sweep(true); stay != 1 || removed != 0 {
		t.Errorf("in use: %d, %d", stay, removed)
	}
	s.Close()
	if stay, removed := sweep(false); stay != 0 || removed != 1 {
		t.Errorf("unchanged: %d, %d", stay, removed)
	}
	s = begin(t, store, w)
	if err := errors.Join(os.WriteFile(s.Record().Views[0].Upper+"/new", nil, 0o600), s.Close()); err != nil {
		t.Fatal(err)
	}
	if stay, removed := sweep(true); stay != 1 || removed != 0 {
		t.Errorf("changed: %d, %d", stay, removed)
	}
	if err := os.RemoveAll(w.Project); err != nil {
		t.Fatal(err)
	}
	if stay, removed := sweep(false); stay != 1 || removed != 0 {
		t.Errorf("gone, not asked: %d, %d", stay, removed)
	}
	if stay, removed := sweep(true); stay != 0 || removed != 1 {
		t.Errorf("gone: %d, %d", stay, removed)
	}
}

func TestShown(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/above/p/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	mount := func(dev, root, point string) Mount { return Mount{Dev: dev, Root: root, Point: point} }
	table := []Mount{
		mount("8:1", "/", "/"),
		mount("8:1", "/srv/p", "/other"),                         // the project's own folder under another name
		mount("8:1", dir+"/above", "/again"),                     // the folder above it
		mount("8:2", "/", dir+"/above/p/sub"),                    // something that is mounted in it
		mount("8:2", "/deep", "/elsewhere"),                      // and a part of that
		mount("8:3", "/", "/unrelated"),                          //
		mount("8:1", dir+"/above/p", "/unrelated/holds/the/one"), // and the project in the midst of another
	}
	for source, want := range map[string][]string{
		dir + "/above/p":        {""},
		dir + "/above/p/x":      {""},
		dir + "/above":          {"p", "p/sub"},
		dir:                     {"above/p", "above/p/sub"},
		dir + "/above/p/sub":    {""},
		dir + "/above/pp":       nil,
		"/elsewhere":            {""},
		"/elsewhere/x":          {""},
		"/unrelated":            {"holds/the/one"},
		"/unrelated/holds/them": nil,
	} {
		got := Shown(table, source, dir+"/above/p")
		// Below a place that is read-only with all that is mounted there nothing more need be named.
		want = slices.DeleteFunc(slices.Clone(want), func(at string) bool { return strings.HasSuffix(at, "/sub") })
		if !slices.Equal(got, want) {
			t.Errorf("%s shows %q, want %q", source, got, want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte("22 1 8:1 / / rw - ext4 /dev/sda rw\n"), "/a b")
	f.Add([]byte("22 1 8:1 /a\\040b\\134 /c\\011 rw master:1 - ext4 x rw\n"), "/")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		mounts, err := parseMounts(b)
		if err == nil {
			regions(mounts, "/")
		}
		// Whatever a mount point is called, it is read as the kernel writes it.
		escaped := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(name)
		if got := unescape(escaped); got != name {
			t.Errorf("%q was read as %q", name, got)
		}
	})
}

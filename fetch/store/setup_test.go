package store

import (
	"os"
	"testing"
	"time"

	"cove/fetch/oci"
)

// An image that was set up stays as long as what it was made of has a name, somebody asks for it, or it is used.
func TestCollectSetups(t *testing.T) {
	s, m := open(t), testMap(t)
	put := func(name Name, setup *Setup) Handle {
		a, err := s.Begin(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		defer a.End()
		name.Platform = "linux/amd64"
		rec := &Record{Manifest: name.Manifest, ConfigID: oci.FromString("config"), Platform: name.Platform, IDMap: m, Setup: setup}
		if err := a.PutRecord(rec, name, name.Ref); err != nil {
			t.Fatal(err)
		}
		return Handle{name.Manifest, m.Key()}
	}
	base, other := oci.FromString("base"), oci.FromString("other")
	all := func() {
		put(Name{Ref: "docker.io/library/debian:12", Manifest: base}, nil)
		put(Name{Ref: SetupName("a"), Manifest: oci.FromString("a"), Base: base}, &Setup{Base: base, Text: []string{"a"}})
		put(Name{Ref: SetupName("b"), Manifest: oci.FromString("b"), Base: base}, &Setup{Base: base, Text: []string{"b"}})
		put(Name{Ref: SetupName("c"), Manifest: oci.FromString("c"), Base: other}, &Setup{Base: other, Text: []string{"c"}})
	}
	names := func() (out string) {
		list, err := s.names()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"docker.io/library/debian:12", SetupName("a"), SetupName("b"), SetupName("c")} {
			for _, n := range list {
				if n.Ref == want {
					out += want[len(want)-1:]
				}
			}
		}
		return out
	}
	wantsA := func(u *Setup) bool { return u.Text[0] == "a" }
	for _, c := range []struct {
		wanted func(*Setup) bool
		dry    bool
		left   string
		setups int
	}{
		{nil, true, "2abc", 1}, {nil, false, "2ab", 1}, {wantsA, true, "2abc", 2}, {wantsA, false, "2a", 2},
		{func(*Setup) bool { return false }, false, "2", 3},
	} {
		all()
		s.SetupWanted = c.wanted
		removed, err := s.Collect(ctx, c.dry)
		if err != nil || names() != c.left || removed.Setups != c.setups || !c.dry && len(removed.Images) != c.setups {
			t.Errorf("%+v: left %q, %+v, %v", c, names(), removed, err)
		}
	}
	// What is being made stays while it is: somebody is about to run from it.
	s.SetupWanted = func(*Setup) bool { return false }
	all()
	work, err := s.BeginSetup(ctx, "b", func() { t.Error("waits for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(ctx, false); err != nil || names() != "2b" {
		t.Errorf("while it is made: left %q, %v", names(), err)
	}
	work.End()
	if _, err := s.Collect(ctx, false); err != nil || names() != "2" {
		t.Errorf("when it was made: left %q, %v", names(), err)
	}
	// What changes are kept of stays, though nobody asks for it.
	s.SetupWanted = func(*Setup) bool { return false }
	all()
	p := Persist{Project: "/p", Image: "debian:12", Platform: "linux/amd64"}
	r, _, err := s.OpenPersist(ctx, p, m)
	if err == nil {
		err = s.Keep(r, Persisted{Persist: p, Manifest: oci.FromString("b")})
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Lock.Close()
	if _, err := s.Collect(ctx, false); err != nil || names() != "2b" {
		t.Errorf("beside what is kept: left %q, %v", names(), err)
	}
	if _, err := s.DropPersisted(ctx, "/p", false); err != nil {
		t.Fatal(err)
	}
	// With its name the image takes all of them, but what runs.
	s.SetupWanted = nil
	all()
	release, err := s.Use(Handle{oci.FromString("a"), m.Key()})
	if err != nil {
		t.Fatal(err)
	}
	removed, err := s.Remove(ctx, "docker.io/library/debian:12")
	if err != nil || names() != "" || len(removed.Kept) != 1 || len(removed.Images) != 3 {
		t.Errorf("removed %+v, %v, left %q", removed, err, names())
	}
	release()
	if removed, err = s.Collect(ctx, false); err != nil || len(removed.Images) != 1 {
		t.Errorf("later: %+v, %v", removed, err)
	}
}

// One works at a time; who waits is told so. Logs go with what they are of, and not while it is made.
func TestSetupWork(t *testing.T) {
	s := open(t)
	first, err := s.BeginSetup(ctx, "k", func() { t.Error("waits for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(first.Log, []byte("log"), 0o600); err != nil {
		t.Fatal(err)
	}
	waits, done := make(chan struct{}), make(chan error)
	go func() {
		second, err := s.BeginSetup(ctx, "k", func() { close(waits) })
		if err == nil {
			second.End()
		}
		done <- err
	}()
	<-waits
	if _, err := s.Collect(ctx, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.Log); err != nil {
		t.Errorf("collected while it is written: %v", err)
	}
	select {
	case <-done:
		t.Error("two at once")
	case <-time.After(100 * time.Millisecond):
	}
	first.End()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := s.Collect(ctx, false); err != nil {
		t.Fatal(err)
	}
	if left, _ := listDir(s.path("setups")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

package store

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cove/fetch/oci"
)

// made opens what is kept as a sandbox does that is the first.
func made(t *testing.T, s *Store, p Persist) *Run {
	t.Helper()
	r, have, err := s.OpenPersist(ctx, p, testMap(t))
	if err != nil || have != nil {
		t.Fatalf("a new one: %v, %v", have, err)
	}
	if err := s.Keep(r, Persisted{Persist: p, Manifest: oci.FromString("image"), Kind: "overlay"}); err != nil {
		t.Fatal(err)
	}
	return r
}

// What is kept is one project's, one image's and one sandbox's at a time, and stays.
func TestPersist(t *testing.T) {
	s := open(t)
	p := Persist{Project: "/p", Image: "debian:12", Platform: "linux/amd64"}
	r := made(t, s, p)
	if err := os.WriteFile(r.Upper+"/kept", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.SetHolder(Holder{ID: "1", Name: "one"}); err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, _, err := s.OpenPersist(ctx, p, testMap(t)); !errors.As(err, &inUse) || inUse.Holder.Name != "one" {
		t.Errorf("a second one at the same time: %v", err)
	}
	if _, err := s.DropPersisted(ctx, "/p", false); !errors.As(err, &inUse) {
		t.Errorf("drop what is in use: %v", err)
	}
	r.Lock.Close()
	again, have, err := s.OpenPersist(ctx, p, testMap(t))
	if err != nil || have == nil || have.Manifest != oci.FromString("image") {
		t.Fatalf("again: %v, %v", have, err)
	}
	if _, err := os.Stat(again.Upper + "/kept"); err != nil {
		t.Error(err)
	}
	again.Lock.Close()
	for _, other := range []Persist{{"/q", p.Image, p.Platform}, {p.Project, "debian:13", p.Platform}, {p.Project, p.Image, "linux/arm64"}, {"/pdebian:1", "2", p.Platform}} {
		o := made(t, s, other)
		if o.Dir == r.Dir {
			t.Errorf("%v has the directory of %v", other, p)
		}
		o.Lock.Close()
	}
	// Neither a sweep nor a collection takes any of it.
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(ctx, false); err != nil {
		t.Fatal(err)
	}
	all, err := s.Persists(ctx)
	if err != nil || len(all) != 5 || !all[0].Gone || all[0].Bytes == 0 {
		t.Errorf("kept: %+v, %v", all, err)
	}
	if dry, err := s.DropPersisted(ctx, "/p", true); err != nil || len(dry) != 3 {
		t.Errorf("would drop %+v, %v", dry, err)
	}
	if gone, err := s.DropPersisted(ctx, "/p", false); err != nil || len(gone) != 3 {
		t.Errorf("dropped %+v, %v", gone, err)
	}
	if all, _ = s.Persists(ctx); len(all) != 2 {
		t.Errorf("left: %+v", all)
	}
}

// What was only begun holds nothing of anybody's; what cannot be read may.
func TestPersistHalf(t *testing.T) {
	s := open(t)
	p := Persist{Project: t.TempDir(), Image: "debian:12", Platform: "linux/amd64"}
	r, _, err := s.OpenPersist(ctx, p, testMap(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Upper+"/half", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if removed, err := s.Collect(ctx, false); err != nil || removed.Leftovers != 0 {
		t.Errorf("a collection beside its making: %+v, %v", removed, err)
	}
	r.Lock.Close() // killed
	r = made(t, s, p)
	if _, err := os.Stat(r.Upper + "/half"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was only begun is there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, persistedName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Lock.Close()
	if _, _, err := s.OpenPersist(ctx, p, testMap(t)); err == nil {
		t.Error("what cannot be read was taken for nothing")
	}
	if _, err := s.Collect(ctx, false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.Upper); err != nil {
		t.Errorf("and removed: %v", err)
	}
	if err := os.Remove(filepath.Join(r.Dir, persistedName)); err != nil {
		t.Fatal(err)
	}
	if removed, err := s.Collect(ctx, false); err != nil || removed.Leftovers != 1 {
		t.Errorf("a collection of what was only begun: %+v, %v", removed, err)
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
}

// A sandbox whose parent was killed is waited for: its lock is free before its processes are gone.
func TestPersistWaitsForInit(t *testing.T) {
	s := open(t)
	p := Persist{Project: t.TempDir(), Image: "debian:12", Platform: "linux/amd64"}
	r := made(t, s, p)
	init := exec.Command("sleep", "60")
	if err := init.Start(); err != nil {
		t.Fatal(err)
	}
	if err := r.SetHolder(Holder{Name: "dying", Init: init.Process.Pid}); err != nil {
		t.Fatal(err)
	}
	r.Lock.Close()
	const life = 300 * time.Millisecond
	go func() {
		time.Sleep(life)
		_ = init.Process.Kill() // a zombie from here on: nobody has waited for it
	}()
	start := time.Now()
	r, have, err := s.OpenPersist(ctx, p, testMap(t))
	if err != nil || have == nil || time.Since(start) < life {
		t.Fatalf("after %v: %v, %v", time.Since(start), have, err)
	}
	_ = init.Wait()
	// Another process that has its number since is not waited for.
	if err := os.WriteFile(filepath.Join(r.Dir, holderName), []byte(`{"name":"old","init":1,"began":"not then"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Lock.Close()
	start = time.Now()
	if r, _, err = s.OpenPersist(ctx, p, testMap(t)); err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	r.Lock.Close()
}

// A path that JSON cannot hold is another one than what JSON would make of it.
func TestProjectName(t *testing.T) {
	for _, dir := range []string{"/p", "/\xff", "/\xfe", "/\"x\"", `"`, "/ü"} {
		p := Persist{Project: ProjectName(dir)}
		if p.Folder() != dir {
			t.Errorf("%q is %q, and read %q", dir, p.Project, p.Folder())
		}
	}
}

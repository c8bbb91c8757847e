package host

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cove/userns"
	"cove/userns/fdpass/wire"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Args[0] == StageName {
		os.Exit(StageMain())
	}
	os.Exit(m.Run())
}

// options are a store and a runtime folder of the test's own.
func options(t *testing.T) Options {
	dir := t.TempDir()
	return Options{StoreDir: filepath.Join(dir, "store"), RuntimeDir: filepath.Join(dir, "run")}
}

func probe(t *testing.T, opts Options) *Host {
	t.Helper()
	h, err := Probe(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestProbe(t *testing.T) {
	opts := options(t)
	h := probe(t, opts)
	text, _ := json.MarshalIndent(h, "", "  ")
	t.Logf("%s", text)
	if !h.UserNS.OK {
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatalf("user namespaces: %s", h.UserNS.Why)
		}
		t.Skip("needs user namespaces")
	}
	if h.UID != uint32(os.Geteuid()) || h.Store.FSType == "" || h.Kernel == "" {
		t.Errorf("cheap facts are missing: %s", text)
	}
	if len(h.SubIDs.UIDs) > 0 && h.Helpers.NewUIDMap != "" && h.Helpers.Weak == "" && !h.MapRange.OK {
		t.Errorf("ranges and helpers are there, and no range was mapped: %s", h.MapRange.Why)
	}
	if left, _ := os.ReadDir(opts.StoreDir); len(left) != 0 {
		t.Errorf("left in the store: %v", left)
	}
}

// A cached answer is the same and starts nothing: with an empty PATH nothing could be found to start.
func TestCache(t *testing.T) {
	opts := options(t)
	first := probe(t, opts)
	if !first.UserNS.OK {
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatalf("user namespaces: %s", first.UserNS.Why)
		}
		t.Skip("needs user namespaces")
	}
	file := filepath.Join(opts.RuntimeDir, "host")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode().Perm() != 0o600 {
		t.Errorf("the cache has mode %v", before.Mode())
	}
	start := time.Now()
	again := probe(t, opts)
	t.Logf("from the cache in %v", time.Since(start))
	if again.Tried != first.Tried {
		t.Errorf("cached %+v, tried %+v", again.Tried, first.Tried)
	}
	if after, _ := os.Stat(file); !os.SameFile(before, after) {
		t.Error("the cache was written again, so it was not believed")
	}

	var kept cached
	if err := wire.Decode(read(t, file), &kept); err != nil {
		t.Fatal(err)
	}
	kept.Tried.NativeOverlay.Why = "forged"
	forged := wire.Append(nil, kept)
	kept.Key = strings.Replace(kept.Key, "boot ", "boot x", 1)
	otherBoot := wire.Append(nil, kept)
	for name, change := range map[string]func() error{
		"writable by others":   func() error { return os.Chmod(file, 0o666) },
		"a link":               func() error { os.Rename(file, file+".x"); return os.Symlink(file+".x", file) },
		"folder open to group": func() error { return os.Chmod(opts.RuntimeDir, 0o750) },
		"cut short":            func() error { return os.WriteFile(file, forged[:len(forged)-1], 0o600) },
		"of another boot":      func() error { return os.WriteFile(file, otherBoot, 0o600) },
	} {
		os.RemoveAll(opts.RuntimeDir)
		os.Mkdir(opts.RuntimeDir, 0o700)
		if err := os.WriteFile(file, forged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := probe(t, opts); got.NativeOverlay.Why != "forged" {
			t.Fatalf("%s: the control is not read from the cache", name)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if got := probe(t, opts); got.NativeOverlay.Why == "forged" {
			t.Errorf("%s: believed", name)
		}
	}
}

func read(t *testing.T, path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHide(t *testing.T) {
	opts := options(t)
	t.Setenv("COVE_HIDE", "overlay,fuse-overlayfs,newuidmap,slirp4netns,pasta,landlock-scope")
	h := probe(t, opts)
	if h.NativeOverlay.OK || h.Fuse() || h.MapRange.OK != h.MayMap || h.LandlockScope || h.Helpers != (Helpers{}) {
		t.Errorf("not hidden: %+v", h)
	}
	t.Setenv("COVE_HIDE", "")
	if real := probe(t, opts); real.Tried != probe(t, Options{StoreDir: opts.StoreDir}).Tried {
		t.Error("what was hidden was kept in the cache")
	}
	t.Setenv("COVE_HIDE", "userns")
	if h := probe(t, opts); h.UserNS.OK || h.NativeOverlay.OK {
		t.Errorf("not hidden: %+v", h.Tried)
	}
}

// Helpers are found on PATH: without them one id is mapped, and that is said.
func TestNoHelpers(t *testing.T) {
	opts := options(t)
	t.Setenv("PATH", t.TempDir())
	h := probe(t, opts)
	if h.Helpers != (Helpers{}) {
		t.Errorf("found on an empty PATH: %+v", h.Helpers)
	}
	if h.UID == 0 || !h.UserNS.OK {
		t.Skip("root needs no helper")
	}
	if h.MapRange.OK || h.MapRange.Why == "" {
		t.Errorf("mapRange = %+v", h.MapRange)
	}
}

// What is nobody's but the caller's cannot map, and a sandbox may have put it there: it is not run, and neither hides the real helper nor
// stands in for one.
func TestPlantedHelper(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root needs no helper")
	}
	opts := options(t)
	bin := t.TempDir()
	ran := filepath.Join(bin, "ran")
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n: >"+ran+"; exit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := probe(t, opts)
	for _, path := range []string{bin + ":" + os.Getenv("PATH"), bin} {
		t.Setenv("PATH", path)
		h := probe(t, opts)
		want := before.Helpers
		if path == bin {
			want = Helpers{}
		}
		if h.Helpers.NewUIDMap != want.NewUIDMap || h.Helpers.NewGIDMap != want.NewGIDMap || h.Helpers.Weak != want.Weak {
			t.Errorf("PATH %s: %+v, want %+v", path, h.Helpers, want)
		}
		if ok := before.MapRange.OK && path != bin; h.MapRange.OK != ok {
			t.Errorf("PATH %s: mapRange %+v", path, h.MapRange)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it was run")
	}
}

// A program that is root's, and neither setuid nor with capabilities, is no helper that can map.
func TestPrivileged(t *testing.T) {
	for path, want := range map[string]bool{"/bin/sh": false, "/nowhere": false} {
		if got := privileged(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestSweep(t *testing.T) {
	store := t.TempDir()
	stale, used := filepath.Join(store, scratchPrefix+"1"), filepath.Join(store, scratchPrefix+"2")
	for _, d := range []string{stale, used, filepath.Join(store, "layers")} {
		if err := os.MkdirAll(filepath.Join(d, "work", "work"), 0o700); err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(filepath.Join(d, "work", "work"), 0)
	}
	f, err := os.Open(used)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	sweep(store)
	if _, err := os.Stat(stale); err == nil {
		t.Error("what a killed probe left is still there")
	}
	for _, d := range []string{used, filepath.Join(store, "layers")} {
		if _, err := os.Stat(d); err != nil {
			t.Errorf("swept away: %v", err)
		}
	}
}

// Two probes at once: what one has just made is not lost to the other.
func TestScratchAgainstSweep(t *testing.T) {
	store := t.TempDir()
	done := make(chan bool)
	go func() {
		for {
			select {
			case <-done:
				close(done)
				return
			default:
				sweep(store)
			}
		}
	}()
	for range 1000 {
		dir, lock, err := lockedTemp(store)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatalf("swept while held: %v", err)
		}
		lock.Close()
	}
	done <- true
	<-done
}

func TestLasting(t *testing.T) {
	good := Fact{OK: true}
	bare := &Host{}
	one := []userns.SubRange{{Start: 100000, Count: 65536}}
	able := &Host{Helpers: Helpers{NewUIDMap: "/bin/newuidmap", NewGIDMap: "/bin/newgidmap"}, SubIDs: userns.SubIDs{UIDs: one, GIDs: one}}
	weak := *able
	weak.Helpers.Weak = "/bin/newuidmap"
	for _, c := range []struct {
		h    *Host
		t    Tried
		want bool
	}{
		{bare, Tried{UserNS: good}, true},
		{bare, Tried{UserNS: Fact{Errno: int(syscall.EPERM)}}, false},
		{bare, Tried{UserNS: good, NativeOverlay: Fact{Errno: int(syscall.EINVAL)}}, true},
		{bare, Tried{UserNS: good, NativeOverlay: Fact{Errno: int(syscall.ENOSPC)}}, false},
		{bare, Tried{UserNS: good, ProcMount: Fact{Errno: int(syscall.EBADF)}}, false},
		{able, Tried{UserNS: good, MapRange: good}, true},
		{able, Tried{UserNS: good, MapRange: Fact{Why: "it ended with status 1"}}, false},
		{&weak, Tried{UserNS: good, MapRange: Fact{Why: "no power"}}, true},
	} {
		if got := c.t.lasting(c.h); got != c.want {
			t.Errorf("lasting(%+v) = %v", c.t, got)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	dir := b.TempDir()
	opts := Options{StoreDir: filepath.Join(dir, "store"), RuntimeDir: filepath.Join(dir, "run")}
	for b.Loop() {
		if _, err := Probe(context.Background(), opts); err != nil {
			b.Fatal(err)
		}
	}
}

// An overlay can lie on a folder of the store's file system, and of another that is like others; not on /proc.
func TestTryLower(t *testing.T) {
	opts := options(t)
	h := probe(t, opts)
	if !h.NativeOverlay.OK {
		t.Skip("needs native overlay")
	}
	try := func(lower string) Fact {
		t.Helper()
		f, err := h.TryLower(context.Background(), opts.StoreDir, lower)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	like := t.TempDir()
	if !likeStore(opts.StoreDir, like) {
		t.Error("two folders of one file system are not alike")
	}
	if f := try(like); !f.OK {
		t.Errorf("beside the store: %+v", f)
	}
	if likeStore(opts.StoreDir, "/proc") {
		t.Error("/proc is like the store")
	}
	if f := try("/proc"); f.OK || f.Why == "" {
		t.Errorf("/proc: %+v", f)
	}
	// What root alone can read is nobody's in the stage that root starts.
	if shm, err := os.MkdirTemp("/dev/shm", "lower"); err == nil && os.Geteuid() != 0 {
		defer os.RemoveAll(shm)
		if f := try(shm); !f.OK {
			t.Errorf("on tmpfs: %+v", f)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(opts.StoreDir, scratchPrefix+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

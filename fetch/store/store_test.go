package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cove/fetch/layer"
	"cove/fetch/layer/stage"
	"cove/fetch/oci"
	"cove/userns"
	"cove/userns/usernstest"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Args[0] == layer.StageName {
		stage.Main()
	}
	os.Exit(m.Run())
}

var ctx = context.Background()

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testMap(t *testing.T) userns.IDMap { return usernstest.IDMap(t, 0) }

func TestOpen(t *testing.T) {
	s := open(t)
	for _, d := range []string{"", "layers", "run", "blobs/sha256"} {
		st, err := os.Stat(s.path(d))
		if err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%q: %v %v", d, st.Mode(), err)
		}
	}
	if _, err := Open(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("version"), []byte("2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.Dir()); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer store: %v", err)
	}
	if _, err := Open("/dev/null/store"); err == nil || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("%v", err)
	}
}

// A folder that is gone does not cost an image that is being added.
func TestMissingFolders(t *testing.T) {
	s := open(t)
	for _, d := range []string{"names", "images", "blobs", "lists"} {
		if err := os.RemoveAll(s.path(d)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.Begin(ctx, testMap(t))
	if err != nil {
		t.Fatal(err)
	}
	defer a.End()
	data := []byte("{}")
	if err := a.PutBlob(oci.FromBytes(data), data); err != nil {
		t.Error(err)
	}
	rec := &Record{Manifest: oci.FromBytes(data), ConfigID: oci.FromBytes(data)}
	if err := a.PutRecord(rec, Name{Ref: "x", Platform: "linux/amd64", Manifest: rec.Manifest}, "x"); err != nil {
		t.Error(err)
	}
}

func TestRunDirectories(t *testing.T) {
	s := open(t)
	r, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Upper+"/f", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Upper + "/f"); err != nil {
		t.Fatalf("a running sandbox's files were swept: %v", err)
	}
	r.Lock.Close() // as its end would
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if r, err = s.NewRun(); err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(ctx, testMap(t)); err != nil {
		t.Fatal(err)
	}
	if left, _ := listDir(s.path("run")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Files of subordinate ids, in a directory that only they may write.
func TestRunOfOtherOwners(t *testing.T) {
	s, m := open(t), testMap(t)
	for _, sweep := range []bool{false, true} {
		r, err := s.NewRun()
		if err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 {
			uid, _ := m.HostUID(0)
			if err := os.Chown(r.Upper, int(uid), int(uid)); err != nil {
				t.Fatal(err)
			}
		}
		stage, err := layer.Start(ctx, m, r.Upper)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stage.Unpack(layer.UnpackRequest{}, strings.NewReader(otherOwners(t)))
		stage.Close()
		if err != nil {
			t.Fatal(err)
		}
		if sweep {
			r.Lock.Close()
			err = s.Sweep(ctx)
		} else {
			err = r.Remove(ctx, m)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("still there: %v", err)
		}
	}
}

func TestSweepKnowsWhoIsAtWork(t *testing.T) {
	s, m := open(t), testMap(t)
	a, err := s.Begin(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	tmp, err := a.TempLayer()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if left := a.Leftovers(); len(left) != 1 || left[0] != tmp {
		t.Fatalf("a pull's layer was swept: %v", left)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Collect(short, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("collected beside a pull: %v", err)
	}
	a.End() // with the layer left, as after a kill
	if err := s.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if left := a.Leftovers(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A sweep takes what is not locked yet for a leftover: who makes a directory makes another then.
func TestSweepBesideStarts(t *testing.T) {
	s, m := open(t), testMap(t)
	done := make(chan struct{})
	var sweeps sync.WaitGroup
	for range 2 {
		sweeps.Add(1)
		go func() {
			defer sweeps.Done()
			for {
				select {
				case <-done:
					return
				default:
					_ = s.Sweep(ctx)
				}
			}
		}()
	}
	for range 200 {
		r, err := s.NewRun()
		if err != nil {
			t.Error(err)
			break
		}
		if _, err := os.Stat(r.Upper); err != nil {
			t.Error(err)
		}
		if err := r.Remove(ctx, m); err != nil {
			t.Error(err)
		}
		a, err := s.Begin(ctx, m)
		if err != nil {
			t.Error(err)
			break
		}
		a.End()
	}
	close(done)
	sweeps.Wait()
}

func TestLayerLocks(t *testing.T) {
	s, m := open(t), testMap(t)
	one, two := oci.FromString("1"), oci.FromString("2")
	a, err := s.Begin(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.LockLayers(ctx, []oci.Digest{two, one, two}); err != nil {
		t.Fatal(err)
	}
	b, err := s.Begin(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := b.LockLayers(short, []oci.Digest{one}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("two make one layer: %v", err)
	}
	a.End()
	if err := b.LockLayers(ctx, []oci.Digest{one}); err != nil {
		t.Fatal(err)
	}
	b.End()
}

// A damaged or missing piece is no image, and no reason to fail.
func TestDamage(t *testing.T) {
	s, m := open(t), testMap(t)
	h := Handle{oci.FromString("m"), m.Key()}
	a, err := s.Begin(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	rec := &Record{Manifest: h.Manifest, ConfigID: oci.FromString("c"), IDMap: m, Layers: []LayerRecord{{Dir: "gone"}}}
	if err := a.PutRecord(rec, Name{Ref: "x/y:1", Platform: "linux/amd64", Manifest: h.Manifest}, "y"); err != nil {
		t.Fatal(err)
	}
	a.End()
	if _, err := s.Record(h); !errors.Is(err, ErrNotFound) {
		t.Errorf("a layer is gone: %v", err)
	}
	if images, err := s.Images(); err != nil || len(images) != 0 {
		t.Errorf("%v %v", images, err)
	}
	if n, err := s.Resolve("y", "linux/amd64"); err != nil || n.Ref != "x/y:1" {
		t.Errorf("%+v %v", n, err)
	}
	if err := os.Truncate(s.recordPath(h), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Record(h); !errors.Is(err, ErrNotFound) {
		t.Errorf("a damaged record: %v", err)
	}
	if got, err := s.Collect(ctx, false); err != nil || len(got.Images) != 1 {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := os.Stat(s.recordPath(h)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
}

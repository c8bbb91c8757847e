package stage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testSpill(t *testing.T, room int64) *spill {
	t.Helper()
	var n atomic.Int64
	n.Store(room)
	s := &spill{room: &n, file: func() (*os.File, error) { return os.CreateTemp(t.TempDir(), "") }}
	t.Cleanup(func() {
		s.close()
		if s.err != nil || n.Load() != room {
			t.Errorf("room for %d of %d entries is left, %v", n.Load(), room, s.err)
		}
	})
	return s
}

// A table in a file is what a map is, while it grows and when keys go and come back.
func TestTable(t *testing.T) {
	s := testSpill(t, 1000)
	tab, want := table{s: s}, map[uint64]uint64{}
	rng := rand.New(rand.NewPCG(1, 2))
	var keys []uint64
	for range 30_000 {
		key := rng.Uint64()
		switch rng.IntN(4) {
		case 0: // an old one
			if len(keys) > 0 {
				key = keys[rng.IntN(len(keys))]
			}
		case 1: // where the others are, up to the last slot of all
			key |= ^uint64(0xffff)
		}
		keys = append(keys, key)
		value := max(rng.Uint64()%5, 0)
		tab.set(key, value)
		if want[key] = value; value == 0 {
			delete(want, key)
		}
		if k := keys[rng.IntN(len(keys))]; tab.get(k) != want[k] {
			t.Fatalf("%x: %d, want %d", k, tab.get(k), want[k])
		}
	}
	for _, k := range keys {
		if tab.get(k) != want[k] {
			t.Fatalf("%x: %d, want %d", k, tab.get(k), want[k])
		}
	}
	if tab.file == nil || len(tab.mem) > 0 {
		t.Errorf("%d entries of %d are in memory", len(tab.mem), len(want))
	}
	tab.set(0, 7)
	if tab.get(0) != 7 {
		t.Error("no key is 0")
	}
}

// What cannot be written is told, and nothing after it is believed.
func TestSpillFails(t *testing.T) {
	var room atomic.Int64
	for _, file := range []func() (*os.File, error){
		func() (*os.File, error) { return nil, unix.ENOSPC },
		func() (*os.File, error) { return os.Open("/dev/null") },
	} {
		for _, use := range []func(*spill){
			func(s *spill) { tab := table{s: s}; tab.set(1, 1) },
			func(s *spill) { tr := trail{s: s}; tr.add(nil, strings.Repeat("x", bounds.trail)) },
		} {
			s := &spill{file: file, room: &room}
			use(s)
			if s.err == nil {
				t.Error("no error")
			}
			m := newMarks(s, 1<<20)
			if err := m.add("a", markWhiteout); !errors.Is(err, s.err) {
				t.Errorf("%v", err)
			}
			if err := m.take(markWhiteout, func(string) error { return nil }); !errors.Is(err, s.err) {
				t.Errorf("%v", err)
			}
			s.close()
		}
	}
}

// A trail is read from its end, wherever its blocks do.
func TestTrail(t *testing.T) {
	tr := trail{s: testSpill(t, 0)}
	var want []string
	var ends []int64
	for i := range 3000 {
		text := fmt.Sprint(i) + strings.Repeat("p", rand.IntN(4096))
		want = append(want, "head"+text)
		ends = append(ends, tr.add([]byte("head"), text))
	}
	for i, end := range ends {
		if got := tr.at(end); end == 0 || got != want[i] {
			t.Fatalf("record %d is %.20q, want %.20q", i, got, want[i])
		}
	}
	if tr.file == nil {
		t.Fatal("it is in memory")
	}
	for range 2 {
		var got []string
		if err := tr.back(func(r []byte) error { got = append(got, string(r)); return nil }); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%d records, want %d", len(got), len(want))
		}
	}
}

// What is marked again after it went comes once, and before what it lies in.
func TestMarks(t *testing.T) {
	m := newMarks(testSpill(t, 2), 1<<20)
	for _, p := range []string{"a", "a/b", "a/b/c", "x", "x/y"} {
		_ = m.add(p, markBorrowed)
	}
	m.drop("x", markBorrowed)
	m.forget("a/b")
	m.forget("a/b/c")
	for _, p := range []string{"a/b", "a/b/c", "a"} {
		_ = m.add(p, markBorrowed)
	}
	var got []string
	if err := m.take(markBorrowed, func(p string) error { got = append(got, p); return nil }); err != nil {
		t.Fatal(err)
	}
	if s := strings.Join(got, " "); s != "a/b/c a/b x/y a" {
		t.Error(s)
	}
	if m.any(markBorrowed) || m.has("a", markBorrowed) {
		t.Error("some are left")
	}
}

// Names come in order, however few of them fit into memory.
func TestSorter(t *testing.T) {
	defer func(names, many int) { bounds.names, bounds.many = names, many }(bounds.names, bounds.many)
	dir := t.TempDir()
	var want []string
	for i := range 3000 {
		name := fmt.Sprintf("%x\xff", rand.Uint64())[:1+rand.IntN(8)] + strings.Repeat("n", i%240)
		if f, err := os.OpenFile(dir+"/"+name, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			f.Close()
			want = append(want, name)
		}
	}
	slices.Sort(want)
	for _, b := range [][2]int{{1 << 20, 8 << 20}, {1000, 8 << 20}, {1000, 30_000}} {
		manyNames.heap = heap{}
		bounds.names, bounds.many = b[0], b[1]
		s, err := openSorted(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		most := 0
		for {
			name, err := s.peek()
			if err != nil {
				t.Fatal(err)
			}
			if name == nil {
				break
			}
			if again, _ := s.peek(); !bytes.Equal(again, name) {
				t.Fatalf("%q and then %q", name, again)
			}
			got = append(got, string(name))
			most = max(most, s.h.size())
			s.take()
		}
		s.close()
		if !slices.Equal(got, want) {
			t.Errorf("%v: %d names, want %d", b, len(got), len(want))
		}
		if most > b[1]+1000 || s.big != (b[0] == 1000) {
			t.Errorf("%v: %d bytes, large %v", b, most, s.big)
		}
	}
	manyNames.heap = heap{}
}

func TestLeast(t *testing.T) {
	for range 3000 {
		var h heap
		var want []string
		for range 1 + rand.IntN(60) {
			name := strings.Repeat("n", rand.IntN(4)) + fmt.Sprint(rand.IntN(10))
			want = append(want, name)
			h.add([]byte(name))
		}
		slices.Sort(want)
		k := rand.IntN(len(want) + 1)
		h.least(k)
		var got []string
		for _, at := range h.at {
			got = append(got, string(h.name(at)))
		}
		slices.Sort(got[:k])
		slices.Sort(got[k:])
		if !slices.Equal(got, want) {
			t.Fatalf("the %d least of %q: %q", k, want, got)
		}
	}
}

// Files with several names have them in a copy too, however many there are.
func TestCopyLinks(t *testing.T) {
	b := newBench(t, testMap(t))
	var hdrs []tar.Header
	for i := range 40 {
		hdrs = append(hdrs, file(fmt.Sprintf("a/%d", i)))
	}
	for i := range 60 {
		hdrs = append(hdrs, hard(fmt.Sprintf("b/%d", i), fmt.Sprintf("a/%d", i%40)))
	}
	from, _, _, err := b.unpack(tarOf(t, nil, hdrs...))
	if err != nil {
		t.Fatal(err)
	}
	to, _ := b.fresh()
	if _, err := b.s.Copy(from, to, b.m); err != nil {
		t.Fatal(err)
	}
	listing := b.listing()
	if _, err := b.s.List(from, listing, "a layer"); err != nil {
		t.Fatal(err)
	}
	b.checkListing(to, listing)
}

// No order of the names takes long, that in which some file systems have the latest first neither.
func TestLeastIsQuick(t *testing.T) {
	done := make(chan bool)
	go func() {
		var h heap
		for i := range 600_000 {
			h.add(fmt.Appendf(nil, "dir-%d", 1_200_000-i))
		}
		for range 4 {
			keep := len(h.at) / 4 * 3
			h.least(keep)
			h.at = h.at[:keep]
		}
		close(done)
	}()
	select {
	case <-done: // after a tenth of a second
	case <-time.After(20 * time.Second):
		t.Fatal("it takes the square of their number")
	}
}

package userns

import (
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
)

func TestAllocate(t *testing.T) {
	one := []SubRange{{100000, 65536}}
	for _, c := range []struct {
		name    string
		grants  []SubRange
		own, as uint32
		want    []Range
		err     string
	}{
		{"as root", one, 1000, 0, []Range{{0, 1000, 1}, {1, 100000, 65536}}, ""},
		{"as me", one, 1000, 1000, []Range{{0, 100000, 1000}, {1000, 1000, 1}, {1001, 101000, 64536}}, ""},
		{"as the last", one, 1000, 65535, []Range{{0, 100000, 65535}, {65535, 1000, 1}, {65536, 165535, 1}}, ""},
		{"right after the last", one, 1000, 65536, []Range{{0, 100000, 65536}, {65536, 1000, 1}}, ""},
		{"far beyond", one, 1000, 70000, []Range{{0, 100000, 65536}, {70000, 1000, 1}}, ""},
		{"several ranges", []SubRange{{100000, 10}, {500, 5}, {300000, 20}}, 1000, 12,
			[]Range{{0, 100000, 10}, {10, 500, 2}, {12, 1000, 1}, {13, 502, 3}, {16, 300000, 20}}, ""},
		{"at a range's border", []SubRange{{100000, 10}, {500, 5}}, 1000, 10,
			[]Range{{0, 100000, 10}, {10, 1000, 1}, {11, 500, 5}}, ""},
		{"an empty range inside another", []SubRange{{100, 0}, {90, 20}}, 1000, 0, []Range{{0, 1000, 1}, {1, 90, 20}}, ""},
		{"own id granted", []SubRange{{1000, 10}}, 1009, 0, nil, "holds your own id 1009"},
		{"own id just outside", []SubRange{{1000, 10}}, 1010, 0, []Range{{0, 1010, 1}, {1, 1000, 10}}, ""},
		{"overlap", []SubRange{{100, 10}, {109, 5}}, 1, 0, nil, "overlap"},
		{"the same twice", []SubRange{{100, 10}, {100, 10}}, 1, 0, nil, "overlap"},
		{"touching", []SubRange{{100, 10}, {110, 5}}, 1, 0, []Range{{0, 1, 1}, {1, 100, 10}, {11, 110, 5}}, ""},
		{"up to the last id", []SubRange{{1<<32 - 2, 1}}, 1, 0, []Range{{0, 1, 1}, {1, 1<<32 - 2, 1}}, ""},
		{"past the last id", []SubRange{{1<<32 - 2, 2}}, 1, 0, nil, "past the last id"},
		{"around the end", []SubRange{{1<<32 - 1, 1<<32 - 1}}, 1, 0, nil, "past the last id"},
		{"too many together", []SubRange{{0, 1<<32 - 2}}, 1<<32 - 2, 0, nil, "past the last id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Allocate(SubIDs{UIDs: c.grants, GIDs: c.grants}, c.own, c.own, c.as, c.as)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(m.UIDs, c.want) || !reflect.DeepEqual(m.GIDs, c.want) {
				t.Errorf("got %v, want %v", m, c.want)
			}
		})
	}
}

func TestAllocateWithoutGrants(t *testing.T) {
	some := []SubRange{{100000, 65536}}
	for _, sub := range []SubIDs{{}, {UIDs: some}, {GIDs: some}, {UIDs: some, GIDs: []SubRange{{5, 0}}}} {
		m, err := Allocate(sub, 1000, 1001, 7, 8)
		if !errors.Is(err, ErrNoSubids) || !m.Single() || m.String() != "uid 7:1000:1 gid 8:1001:1" {
			t.Errorf("Allocate(%v) = %v, %v", sub, m, err)
		}
		if m, err := AllocateRoot(sub); !errors.Is(err, ErrNoSubids) {
			t.Errorf("AllocateRoot(%v) = %v, %v", sub, m, err)
		}
	}
}

func TestAllocateExtents(t *testing.T) {
	var grants []SubRange
	for i := range uint32(339) {
		grants = append(grants, SubRange{1000 + 10*i, 10})
	}
	sub := func(g []SubRange) SubIDs { return SubIDs{UIDs: g, GIDs: g} }
	if m, err := Allocate(sub(grants), 1, 1, 0, 0); err != nil || len(m.UIDs) != 340 {
		t.Errorf("339 grants and the own id: %d ranges, %v", len(m.UIDs), err)
	}
	if _, err := Allocate(sub(grants), 1, 1, 5, 5); err == nil {
		t.Error("339 grants of which one is split: no error")
	}
	grants = append(grants, SubRange{10, 1})
	if _, err := AllocateRoot(sub(grants)); err != nil {
		t.Errorf("340 grants for root: %v", err)
	}
	grants = append(grants, SubRange{20, 1})
	if _, err := AllocateRoot(sub(grants)); err == nil {
		t.Error("341 grants for root: no error")
	}
}

// A file that grants root its own id must not make an id inside host 0.
func TestAllocateRootNeverMapsZero(t *testing.T) {
	some, zero := []SubRange{{100000, 65536}}, []SubRange{{100000, 10}, {0, 65536}}
	for _, sub := range []SubIDs{{UIDs: zero, GIDs: some}, {UIDs: some, GIDs: zero}, {UIDs: zero, GIDs: zero}} {
		if m, err := AllocateRoot(sub); err == nil {
			t.Errorf("AllocateRoot(%v) = %v", sub, m)
		}
	}
	m, err := AllocateRoot(SubIDs{UIDs: []SubRange{{5, 3}, {1, 2}}, GIDs: some})
	if err != nil || m.String() != "uid 0:5:3 3:1:2 gid 0:100000:65536" {
		t.Errorf("got %v, %v", m, err)
	}
}

// layout is what quick makes: a few grants, mostly in order and apart, sometimes not.
type layout struct {
	Grants  []SubRange
	Own, As uint32
}

func (layout) Generate(r *rand.Rand, _ int) reflect.Value {
	var l layout
	next := uint64(r.Intn(2000))
	for range r.Intn(6) {
		count := uint64(r.Intn(300))
		if r.Intn(12) == 0 {
			next = uint64(r.Uint32())
		}
		l.Grants = append(l.Grants, SubRange{uint32(next), uint32(count)})
		next += count + uint64(r.Intn(3)*r.Intn(500))
	}
	r.Shuffle(len(l.Grants), func(i, j int) { l.Grants[i], l.Grants[j] = l.Grants[j], l.Grants[i] })
	l.Own, l.As = uint32(r.Intn(3000)), uint32(r.Intn(2000))
	return reflect.ValueOf(l)
}

// Whatever was granted: a mapping has every granted id and the own one exactly once, the own one at
// `as`, no gap below the last granted one, and nothing else; and both directions agree.
func TestAllocateLaw(t *testing.T) {
	good := 0
	law := func(l layout) error {
		m, err := Allocate(SubIDs{UIDs: l.Grants, GIDs: l.Grants}, l.Own, l.Own, l.As, l.As)
		if err != nil && !errors.Is(err, ErrNoSubids) {
			return nil
		}
		good++
		if own, ok := m.HostUID(l.As); !ok || own != l.Own {
			return fmt.Errorf("%d inside is %d, %v", l.As, own, ok)
		}
		granted := map[uint32]bool{}
		for _, g := range l.Grants {
			for id := g.Start; id != g.Start+g.Count; id++ {
				granted[id] = true
			}
		}
		seen := map[uint32]bool{}
		total := len(granted) + 1
		for id := range uint32(total + 1) {
			hostID, ok := m.HostUID(id)
			below := total // the ids from 0 on without a gap
			if int(l.As) >= total {
				below = total - 1
			}
			wantMapped := int(id) < below || id == l.As
			if ok != wantMapped {
				return fmt.Errorf("%d inside is mapped: %v, of %d ids with %d at %d", id, ok, total, l.Own, l.As)
			}
			if !ok {
				continue
			}
			if seen[hostID] {
				return fmt.Errorf("host id %d twice", hostID)
			}
			seen[hostID] = true
			if hostID != l.Own && !granted[hostID] {
				return fmt.Errorf("host id %d was never granted", hostID)
			}
			if back, ok := m.ContainerUID(hostID); !ok || back != id {
				return fmt.Errorf("%d -> %d -> %d", id, hostID, back)
			}
		}
		for i := 1; i < len(m.UIDs); i++ {
			if m.UIDs[i-1].ContainerID >= m.UIDs[i].ContainerID {
				return fmt.Errorf("not in order: %v", m)
			}
		}
		return nil
	}
	f := func(l layout) bool {
		if err := law(l); err != nil {
			t.Errorf("%+v: %v", l, err)
			return false
		}
		return true
	}
	if err := quick.Check(f, &quick.Config{MaxCount: 3000}); err != nil {
		t.Error(err)
	}
	if good < 300 {
		t.Errorf("only %d layouts were good ones", good)
	}
}

func TestKey(t *testing.T) {
	base := IDMap{UIDs: []Range{{0, 1000, 1}, {1, 100000, 65536}}, GIDs: []Range{{0, 1000, 1}}}
	// The store's folders carry this name: it must not change.
	if got, want := base.Key(), "52818c6640cdd5eb"; got != want {
		t.Errorf("key %q, want %q", got, want)
	}
	if again := (IDMap{UIDs: append([]Range{}, base.UIDs...), GIDs: append([]Range{}, base.GIDs...)}); again.Key() != base.Key() {
		t.Error("equal mappings have different keys")
	}
	keys := map[string]string{}
	for _, m := range []IDMap{
		base, {},
		{UIDs: base.GIDs, GIDs: base.UIDs},
		{UIDs: base.UIDs},
		{UIDs: []Range{{0, 1000, 1}, {1, 100000, 65535}}, GIDs: base.GIDs},
		{UIDs: []Range{{0, 1000, 11}, {1, 100000, 6553}}, GIDs: base.GIDs},
	} {
		if other, ok := keys[m.Key()]; ok {
			t.Errorf("%v and %s have the same key", m, other)
		}
		keys[m.Key()] = m.String()
	}
}

func TestParseSubIDs(t *testing.T) {
	const file = "# comment\n\n  anna:100000:65536\nberta:nonsense\n1000:5:6\nanna:7:0\nanna:200000:10\nanna:100000:65536\n:1:1\n"
	got, err := ParseSubIDs(strings.NewReader(file), "anna", 1000)
	if want := []SubRange{{100000, 65536}, {5, 6}, {200000, 10}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for file, line := range map[string]string{
		"x:1:1\nanna:1":            "2:",
		"anna:-1:5":                "1:",
		"anna:1:2:3":               "1:",
		"anna:4294967296:1":        "1:",
		"anna:4294967295:1":        "1:",
		"anna:0x10:1":              "1:",
		"\n\nanna: 1:1":            "3:",
		"anna:1:99999999999999999": "1:",
	} {
		if got, err := ParseSubIDs(strings.NewReader(file), "anna", 1000); err == nil || !strings.HasPrefix(err.Error(), line) {
			t.Errorf("%q: %v, %v", file, got, err)
		}
	}
	// The name is somebody else's text: it reaches the terminal quoted.
	if _, err := ParseSubIDs(strings.NewReader("anna:\x1b[31m:1"), "anna", 1000); err == nil || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("error %q", err)
	}
	// An empty name, as of an account without one, fits no line.
	if got, err := ParseSubIDs(strings.NewReader(":1:1\n"), "", 1000); err != nil || len(got) != 0 {
		t.Errorf("an empty name: %v, %v", got, err)
	}
}

func TestParseGrants(t *testing.T) {
	got := ParseGrants(strings.NewReader("a:100000:65536\n# b:1:1\n\n7:5:0\nbad\nc:x:1\n:1:1\n 8 : 1 : 1\nd:4294901760:65536\n9:4294901760:65535"))
	want := []Grant{{"a", SubRange{100000, 65536}}, {"9", SubRange{4294901760, 65535}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func FuzzParseSubIDs(f *testing.F) {
	for _, seed := range []string{"anna:100000:65536\n", "1000:1:1\nanna:4294967294:1", "anna:4294967295:4294967295", "anna:1", "::", "anna:0:0\n\n#", "anna:1:1\r\n"} {
		f.Add(seed, "anna", uint32(1000))
	}
	f.Fuzz(func(t *testing.T, file, name string, uid uint32) {
		for _, g := range ParseGrants(strings.NewReader(file)) {
			if g.Who == "" || g.Count == 0 || uint64(g.Start)+uint64(g.Count) > 1<<32-1 || !g.Overlaps(g.SubRange) {
				t.Errorf("grant %v", g)
			}
		}
		for _, r := range parseOwn(file) {
			if r.Count == 0 || uint64(r.Start)+uint64(r.Count) > 1<<32 {
				t.Errorf("own %v", r)
			}
		}
		got, err := ParseSubIDs(strings.NewReader(file), name, uid)
		if err != nil {
			return
		}
		for _, r := range got {
			if r.Count == 0 || uint64(r.Start)+uint64(r.Count) > 1<<32-1 {
				t.Errorf("range %v", r)
			}
		}
		if m, err := Allocate(SubIDs{UIDs: got, GIDs: got}, uid, uid, 0, 0); err == nil {
			if own, ok := m.HostUID(0); !ok || own != uid {
				t.Errorf("%v: 0 inside is %d, %v", m, own, ok)
			}
		}
	})
}

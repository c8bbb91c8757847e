package cli

import (
	"fmt"
	"strings"
	"testing"

	"cove/config"
	"cove/fetch"
	"cove/fetch/oci"
)

func TestLayerChanges(t *testing.T) {
	stack := func(layers string) (config.LockedPlatform, *fetch.Resolution) {
		p, r := config.LockedPlatform{}, &fetch.Resolution{}
		for i, c := range layers {
			d := oci.FromString(string(c))
			p.Layers, r.Layers = append(p.Layers, d), append(r.Layers, fetch.ResolvedLayer{DiffID: d, Size: int64(i + 1)})
		}
		return p, r
	}
	for _, c := range []struct{ was, is, want string }{
		{"", "", "0 kept; new; gone"},
		{"abc", "abc", "3 kept; new; gone"},
		{"abc", "abd", "2 kept; new d3; gone c3"},
		{"ab", "cab", "2 kept; new c1; gone"},
		{"aab", "ab", "2 kept; new; gone a1"}, // which of the two is gone is one and the same
		{"ab", "aab", "2 kept; new a2; gone"},
		{"abc", "", "0 kept; new; gone a1 b2 c3"},
	} {
		was, before := stack(c.was)
		is, now := stack(c.is)
		kept, added, removed := layerChanges(was, is, before, now)
		got := fmt.Sprintf("%d kept; new%s; gone%s", kept, named(added), named(removed))
		if got != c.want {
			t.Errorf("%s -> %s: %s, want %s", c.was, c.is, got, c.want)
		}
		if _, _, unknown := layerChanges(was, is, nil, now); len(unknown) != len(removed) {
			t.Errorf("%s -> %s: of sizes that nobody knows: %v", c.was, c.is, unknown)
		}
	}
}

// named are layers by the letters that they were made of, with their sizes.
func named(layers []lockLayer) string {
	var b strings.Builder
	for _, l := range layers {
		for c := 'a'; c <= 'z'; c++ {
			if oci.FromString(string(c)) == l.DiffID {
				fmt.Fprintf(&b, " %c%d", c, l.Size)
			}
		}
	}
	return b.String()
}

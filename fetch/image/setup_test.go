package image

import (
	"testing"

	"cove/fetch/oci"
	"cove/fetch/store"
)

// Two that differ in anything have different keys, however they are cut.
func TestSetupKey(t *testing.T) {
	of := func(digest, platform, mapping string) *Image {
		return &Image{Digest: oci.FromString(digest), Platform: platform, handle: store.Handle{Key: mapping}}
	}
	one := of("a", "linux/amd64", "m")
	if key := one.SetupKey([]string{"x"}, ""); key != of("a", "linux/amd64", "m").SetupKey([]string{"x"}, "") || len(key) != 32 {
		t.Errorf("key %q", key)
	}
	seen := map[string]string{}
	for name, key := range map[string]string{
		"one": one.SetupKey([]string{"x y"}, ""), "two": one.SetupKey([]string{"x", "y"}, ""), "joined": one.SetupKey([]string{"x1:y"}, ""),
		"turned": one.SetupKey([]string{"y", "x"}, ""), "empty": one.SetupKey([]string{"x", "y", ""}, ""), "blank": one.SetupKey([]string{"x y "}, ""),
		"image": of("b", "linux/amd64", "m").SetupKey([]string{"x y"}, ""), "platform": of("a", "linux/arm64", "m").SetupKey([]string{"x y"}, ""),
		"apart": one.SetupKey([]string{"x y"}, "z"), "apart and not": one.SetupKey([]string{"z", "x y"}, ""),
		"mapping": of("a", "linux/amd64", "n").SetupKey([]string{"x y"}, ""), "cut": of("a", "linux/amd64m", "").SetupKey([]string{"x y"}, ""),
	} {
		if seen[key] != "" {
			t.Errorf("%s and %s are the same", name, seen[key])
		}
		seen[key] = name
	}
}

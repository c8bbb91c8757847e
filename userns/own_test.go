package userns

import (
	"reflect"
	"testing"
)

func TestOwn(t *testing.T) {
	for text, want := range map[string][]SubRange{
		"         0          0 4294967295\n":                                   {{0, 4294967295}},
		"         1     100000      65536\n         0       1000          1\n": {{0, 1}, {1, 65536}},
		"":                 nil,
		"0 0\n":            nil,
		"0 0 0\n":          nil,
		"x 0 1\n":          nil,
		"2 0 4294967295\n": nil,
	} {
		if got := parseOwn(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if own, err := OwnIDs(); err != nil || len(own.UIDs) == 0 || len(own.GIDs) == 0 {
		t.Errorf("%v, %v", own, err)
	}
}

// In a container only ids that it has can be mapped, and never its own root.
func TestWithin(t *testing.T) {
	both := func(r ...SubRange) SubIDs { return SubIDs{UIDs: r, GIDs: r} }
	container := both(SubRange{0, 1}, SubRange{1, 65536})
	for _, c := range []struct{ got, want SubIDs }{
		{both(SubRange{100000, 65536}).Within(container), SubIDs{}},
		{both(SubRange{1, 999}, SubRange{1001, 70000}).Within(container), both(SubRange{1, 999}, SubRange{1001, 64536})},
		{container.Without(0, 0), both(SubRange{1, 65536})},
		{container.Without(1000, 0), SubIDs{UIDs: []SubRange{{0, 1}, {1, 999}, {1001, 64536}}, GIDs: []SubRange{{1, 65536}}}},
		{both(SubRange{0, 4294967295}).Without(0, 0), both(SubRange{1, 4294967294})},
		{both(SubRange{0, 1}).Without(0, 0), SubIDs{}},
		{both(SubRange{1879048192, 65536}).Within(both(SubRange{0, 4294967295})), both(SubRange{1879048192, 65536})},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

package inside

import (
	"slices"
	"testing"
)

func TestProgram(t *testing.T) {
	for name, want := range map[string]bool{"xdg-open": true, "/run/cove/bin/notify-send": true, "git-credential-cove": true,
		"cove": false, "cove-init": false, "": false, "xdg-open/": false, "/xdg-open/cove": false} {
		if got := Program(name) != nil; got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// TestTitleAndText: as notify-send(1) reads its command line.
func TestTitleAndText(t *testing.T) {
	for _, test := range []struct{ args, want []string }{
		{[]string{"a"}, []string{"a"}},
		{[]string{"-u", "low", "a", "b"}, []string{"a", "b"}},
		{[]string{"-ulow", "a", "-t", "5", "b", "-e"}, []string{"a", "b"}},
		{[]string{"--urgency=low", "--icon", "x", "a"}, []string{"a"}},
		{[]string{"--wait", "a"}, []string{"a"}},
		{[]string{"--", "-a", "--b"}, []string{"-a", "--b"}},
		{[]string{"-"}, []string{"-"}},
		{[]string{}, nil},
		{[]string{"-u"}, nil},
		{[]string{"a", "b", "c"}, nil},
		{[]string{"--nothing", "a"}, nil},
	} {
		got, err := titleAndText(test.args)
		if !slices.Equal(got, test.want) || (err == nil) != (test.want != nil) {
			t.Errorf("%q: %q, %v", test.args, got, err)
		}
	}
}

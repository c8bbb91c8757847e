package early

import (
	"strings"
	"testing"
)

func TestWanted(t *testing.T) {
	for line, want := range map[string]bool{
		"cove":                         false,
		"cove run":                     false,
		"cove run true":                true,
		"cove run -- true":             true,
		"cove run --image x -- true":   true,
		"cove run --dry-run -- true":   false,
		"cove run -- sh --dry-run":     true,
		"cove run --help":              false,
		"cove shell -- true":           false,
		"cove exec run true":           false,
		"cove-init":                    false,
		"cove-init run true":           false,
		"cove-unpack run -- true":      false,
		"cove.test -test.run=. -x run": false,
	} {
		if got := wanted(strings.Fields(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	if Take() != nil {
		t.Error("a test binary started a stage")
	}
}

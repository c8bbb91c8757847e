package sandbox

import (
	"os"
	"strings"
	"testing"

	"cove/sandbox/spec"
)

// Init may ask for fuse-overlayfs once, and where the root file system is to be one.
func TestServeFuseOnlyWhenPlanned(t *testing.T) {
	ask := func(b *box) string {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.serveFuse(f); err != nil {
			return err.Error()
		}
		return ""
	}
	for _, kind := range []spec.RootKind{spec.RootHost, spec.RootOverlay, spec.RootCopy} {
		b := newBox(&spec.Spec{Root: spec.Root{Kind: kind}}, Options{FuseOverlayfs: "/bin/true"})
		if err := ask(b); !strings.Contains(err, "init asked") {
			t.Errorf("%s: %q", kind, err)
		}
	}
	b := newBox(&spec.Spec{Root: spec.Root{Kind: spec.RootFuse}}, Options{})
	if err := ask(b); err != "fuse-overlayfs is not installed" {
		t.Errorf("the first: %q", err)
	}
	if err := ask(b); !strings.Contains(err, "init asked") {
		t.Errorf("the second: %q", err)
	}
}

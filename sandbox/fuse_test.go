package sandbox

import (
	"os"
	"strings"
	"testing"

	"cove/sandbox/spec"
)

// Init may ask for fuse-overlayfs once, and where the root file system is to be one; and so for each view.
func TestServeFuseOnlyWhenPlanned(t *testing.T) {
	askFor := func(b *box, of int) string {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.serveFuse(f, of); err != nil {
			return err.Error()
		}
		return ""
	}
	ask := func(b *box) string { return askFor(b, 0) }
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
	view := func(kind spec.RootKind) spec.Mount {
		return spec.Mount{Kind: spec.MountView, Source: "/p", View: &spec.View{Kind: kind, Dir: "/s/0"}}
	}
	b = newBox(&spec.Spec{Root: spec.Root{Kind: spec.RootHost},
		Mounts: []spec.Mount{{Kind: spec.MountTmpfs}, view(spec.RootOverlay), view(spec.RootFuse)}}, Options{})
	for of, want := range map[int]string{-1: "init asked", 0: "init asked", 1: "init asked", 2: "init asked", 3: "fuse-overlayfs is not installed", 4: "init asked"} {
		if err := askFor(b, of); !strings.Contains(err, want) {
			t.Errorf("mount %d: %q", of, err)
		}
	}
	if err := askFor(b, 3); !strings.Contains(err, "init asked") {
		t.Errorf("mount 3 again: %q", err)
	}
}

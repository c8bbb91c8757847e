package rootfs

import (
	"os"
	"strings"
	"testing"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// A view is of the folder that was looked at: a link that was put on its way since is not followed.
func TestViewThroughLink(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"real", "real/project", "view", "view/upper", "view/work", "view/tree"} {
		if err := os.Mkdir(dir+"/"+d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	m := spec.Mount{Kind: spec.MountView, Source: spec.Path(dir + "/link/project"), View: &spec.View{Kind: spec.RootOverlay, Dir: spec.Path(dir + "/view")}}
	if _, err := openView(m); err == nil || !strings.Contains(err.Error(), "a link was put on its way") {
		t.Errorf("through a link: %v", err)
	}
	m.Source = spec.Path(dir + "/real/project")
	v, err := openView(m)
	if err != nil {
		t.Fatalf("without a link: %v", err)
	}
	for _, fd := range []int{v.lower, v.upper, v.work} {
		_ = unix.Close(fd)
	}
	var s Stand
	if err := s.AddProject(dir+"/link/project", "0"); err == nil || !strings.Contains(err.Error(), "a link was put on its way") {
		t.Errorf("for fuse-overlayfs: %v", err)
	}
}

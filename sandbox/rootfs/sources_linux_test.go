package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cove/sandbox/spec"
)

// An image that is a folder was looked at with its links followed: one that is put in its place later is not what was meant.
func TestFolderWithoutLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"image", "upper", "work", "secret"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := spec.Root{Kind: spec.RootOverlay, Layers: []spec.Path{spec.Path(dir + "/image")}, RunDir: spec.Path(dir)}
	open := func() error {
		src := &Sources{upper: -1, work: -1, copied: -1}
		defer src.close()
		return src.openRoot(&root)
	}
	if err := open(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(dir + "/image"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("secret", dir+"/image"); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "a link was put on its way") {
		t.Error(err)
	}
	root.Digest = "sha256:1234" // the store's own may lie behind a link
	if err := open(); err != nil {
		t.Error(err)
	}
}

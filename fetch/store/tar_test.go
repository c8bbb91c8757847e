package store

import (
	"archive/tar"
	"strings"
	"testing"
)

// otherOwners is a tar of a directory that nobody but uid 5 inside may enter.
func otherOwners(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 5, Gid: 5}, {Name: "d/f", Typeflag: tar.TypeReg, Uid: 5, Gid: 5},
		{Name: "d/closed/", Typeflag: tar.TypeDir, Uid: 6, Gid: 6}, {Name: "d/closed/g", Typeflag: tar.TypeReg, Uid: 6, Gid: 6},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

package start

import (
	"os"
	"strings"
	"testing"

	"cove/userns"
)

func TestForeign(t *testing.T) {
	info, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	for name, c := range map[string]struct {
		idmap userns.IDMap
		want  string
	}{
		"own":           {userns.Single(uid, gid, 0, 0), ""},
		"another user":  {userns.Single(uid+1, gid, 0, 0), "the user"},
		"another group": {userns.Single(uid, gid+1, 0, 0), "the group"},
	} {
		if got := foreign(info, c.idmap); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

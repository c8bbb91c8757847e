package start

import (
	"net"
	"os"
	"strings"
	"testing"

	"cove/config"
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

// A socket that is mounted can be connected to, read-only or not: of a profile's mounts it is none for what is not trusted.
func TestDistrustSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := &config.Profile{
		Mounts: []config.Mount{{Source: dir + "/s", Target: "/a", Mode: "rw"}, {Source: dir, Target: "/b", Mode: "rw"}, {Source: dir + "/s", Target: "/c", Mode: "rw"}},
		Origin: map[string]config.Origin{"mount[0]": {Kind: config.FromProfile}, "mount[1]": {Kind: config.FromUser}, "mount[2]": {Kind: config.FromFlag}},
	}
	typed, ok := Parse("run", []string{"true"})
	if !ok {
		t.Fatal("no line")
	}
	distrust(typed, p)
	if len(p.Mounts) != 2 || p.Mounts[0].Target != "/b" || p.Mounts[0].Mode != "ro" || p.Mounts[1].Target != "/c" || p.Mounts[1].Mode != "rw" {
		t.Errorf("%+v", p.Mounts)
	}
}

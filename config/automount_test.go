package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseAutomounts(t *testing.T) {
	a := parseAutomounts(`21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:26 / /proc/sys/fs/binfmt_misc rw,relatime shared:11 - autofs systemd-1 rw,fd=30,direct
40 21 0:40 / /net rw,relatime shared:20 - autofs /etc/auto.net rw,fd=6,indirect
41 40 0:41 / /net/nas rw,relatime shared:21 - nfs4 nas:/ rw
42 21 0:42 / /mnt/a\040b rw,relatime - autofs systemd-1 rw,direct
43 21 0:43 / /mnt/c rw,relatime - autofs systemd-1 rw,direct
44 43 0:44 / /mnt/c rw,relatime - nfs4 nas:/c rw
broken
`)
	for point, waits := range map[string]bool{"/net": true, "/mnt/a b": true, "/mnt/c": false, "/net/nas": false, "/proc/sys/fs/binfmt_misc": true, "/": false} {
		if a.waits[point] != waits || !a.all[point] {
			t.Errorf("%s: %v", point, a.waits[point])
		}
	}
	if b := parseAutomounts("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"); len(b.waits) != 0 || b.reached("/x") {
		t.Errorf("%v", b)
	}
}

// What is asked for below a place that waits is not looked at, on whatever way it is reached; what is mounted there is.
func TestAutomountReached(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	net := filepath.Join(dir, "net")
	for _, d := range []string{net + "/nas/data", dir + "/direct", dir + "/project/sub"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"project/out": "../net/evil.example", "project/nas": net + "/nas", "alias": "net", "loop": "loop", "project/up": "sub/.."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	a := automounts{waits: map[string]bool{net: true, dir + "/direct": true}, all: map[string]bool{net: true, dir + "/direct": true, net + "/nas": true}}
	for name, reached := range map[string]bool{
		"/project": false, "/project/sub": false, "/nothing/at/all": false, "/loop": false, "/loop/x": false,
		"/net/nas": false, "/net/nas/data": false, "/project/nas/data": false, "/alias/nas/x": false, "/project/up/up/nas": false,
		"/net": true, "/net/evil.example": true, "/net/evil.example/x": true, "/alias/evil.example": true, "/project/out": true, "/project/out/x": true, "/project/up/up/out": true,
		"/direct": true, "/direct/x": true,
	} {
		if got := a.reached(dir + name); got != reached {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A profile that names such a place is shown and asked for with the name as it stands, covered by no pattern, and has no file there read.
func TestAutomountInProfile(t *testing.T) {
	r := newRoom(t)
	r.write(r.home+"/net/nas/filter.json", "{}")
	r.write(r.home+"/net/nas/key.pub", "key")
	r.write(r.home+"/.config/cove/config.toml", "[trust]\npaths = ['~/net', '~/src']\n")
	was := ownAutomounts
	defer func() { ownAutomounts = was }()
	ownAutomounts = func() automounts {
		return automounts{waits: map[string]bool{r.home + "/net": true}, all: map[string]bool{r.home + "/net": true}}
	}
	if err := os.Symlink(r.home+"/net/nas", r.project+"/data"); err != nil {
		t.Fatal(err)
	}
	p := r.profile("verify = ['~/net/nas/key.pub']\n[[mount]]\nsource = './data'\ntarget = '/x'\nmode = 'ro'\n")
	d, err := OpenTrust(r.home + "/trust").Check(p)
	if err != nil || d.Trusted || len(d.New) != 1 || p.Mounts[0].Within || p.Mounts[0].Source != r.project+"/data" || p.Verify[0].Keys[0].Data != nil {
		t.Errorf("%+v, %v, %+v", d, err, p.Mounts)
	}
	if err := p.ReadKeys(); err != nil || string(p.Verify[0].Keys[0].Data) != "key" {
		t.Errorf("after it was agreed to: %v", err)
	}
	r.write(FileName, "security.seccomp = '~/net/nas/filter.json'\n")
	if _, _, err := Load(r.opts()); err == nil || !strings.Contains(err.Error(), "something would be mounted") {
		t.Errorf("seccomp: %v", err)
	}
}

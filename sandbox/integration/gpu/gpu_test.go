package gpu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cove/sandbox/integration"
)

const nvidia = `---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidiactl
    hostPath: /dev/null
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  - LD_PRELOAD=/evil.so
  - PATH=/evil
  hooks:
  - args: [nvidia-ctk, hook, update-ldcache, --folder, /usr/lib]
    hookName: createContainer
    path: /usr/bin/nvidia-ctk
  mounts:
  - containerPath: /usr/lib/libcuda.so.1
    hostPath: DIR/libcuda
    options: [ro, nosuid, nodev, bind]
  - containerPath: /run/nvidia-persistenced/socket
    hostPath: DIR/socket
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/zero0
      hostPath: /dev/zero
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/zero0
      hostPath: /dev/zero
    - path: /dev/full0
      hostPath: /dev/full
kind: nvidia.com/gpu
`

// place writes CDI files, and returns Options that find them.
func place(t *testing.T, files map[string]string) Options {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(strings.ReplaceAll(content, "DIR", dir)), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return Options{Dev: filepath.Join(dir, "dev"), Dirs: []string{filepath.Join(dir, "etc"), filepath.Join(dir, "own")}, UID: uint32(os.Getuid())}
}

// TestCDI: of a file there come in its nodes, its files and its variables, for the devices that were named, once.
func TestCDI(t *testing.T) {
	o := place(t, map[string]string{"etc/nvidia.yaml": nvidia, "libcuda": "x", "etc/other.txt": "no CDI"})
	if err := os.Symlink("/dev/null", filepath.Join(filepath.Dir(o.Dev), "socket")); err != nil { // no file and no folder
		t.Fatal(err)
	}
	got, err := Find([]string{"nvidia.com/gpu=0", "nvidia.com/gpu=all"}, o)
	if err != nil {
		t.Fatal(err)
	}
	want := &integration.Devices{
		Nodes:  []integration.Bound{{Source: "/dev/null", Target: "/dev/nvidiactl"}, {Source: "/dev/zero", Target: "/dev/zero0"}, {Source: "/dev/full", Target: "/dev/full0"}},
		Mounts: []integration.Bound{{Source: filepath.Dir(o.Dev) + "/libcuda", Target: "/usr/lib/libcuda.so.1"}},
		Env:    []string{"NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=void"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestCDIWins: the user's own file comes before the system's.
func TestCDIWins(t *testing.T) {
	device := `{"kind":"a.com/gpu","devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/gpu","hostPath":"/dev/NODE"}]}}]}`
	o := place(t, map[string]string{"etc/a.json": strings.Replace(device, "NODE", "zero", 1), "own/b.json": strings.Replace(device, "NODE", "full", 1)})
	got, err := Find([]string{"a.com/gpu=0"}, o)
	if err != nil || len(got.Nodes) != 1 || got.Nodes[0].Source != "/dev/full" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCDIRefused(t *testing.T) {
	one := func(edits string) string {
		return `{"kind":"a.com/gpu","devices":[{"name":"0","containerEdits":{` + edits + `}}]}`
	}
	for content, why := range map[string]string{
		one(`"deviceNodes":[{"path":"/etc/passwd"}]`):                          "want a clean path below /dev",
		one(`"deviceNodes":[{"path":"/dev/../etc/passwd"}]`):                   "want a clean path below /dev",
		one(`"deviceNodes":[{"path":"/dev/null","hostPath":"/dev/zero"}]`):     "that is the sandbox's own",
		one(`"deviceNodes":[{"path":"/dev/pts/0","hostPath":"/dev/zero"}]`):    "that is the sandbox's own",
		one(`"deviceNodes":[{"path":"/dev/gpu","hostPath":"/etc/passwd"}]`):    "is no character device",
		one(`"deviceNodes":[{"path":"/dev/gpu","hostPath":"/proc/nowhere"}]`):  `there is no "/proc/nowhere"`,
		one(`"mounts":[{"hostPath":"/etc/passwd","containerPath":"/proc/x"}]`): "that is the sandbox's own",
		one(`"mounts":[{"hostPath":"/","containerPath":"/host"}]`):             "want clean absolute paths",
		one(`"mounts":[{"hostPath":"etc","containerPath":"/host"}]`):           "want clean absolute paths",
		one(`"mounts":[{"hostPath":"/proc/nowhere","containerPath":"/x"}]`):    `it names "/proc/nowhere"`,
		one(`"env":["novalue"]`):                                       "want NAME=VALUE",
		`{"kind":`:                                                     "not YAML or JSON as CDI has it",
		`{"kind":"a.com/gpu","devices":"none"}`:                        "not YAML or JSON as CDI has it",
		`{"kind":"a.com/gpu","devices":[{"name":"1"}]}`:                `no CDI file knows "a.com/gpu=0"`,
		strings.Repeat(" ", maxFile+1):                                 "larger than",
		one(`"env":["A=b"` + strings.Repeat(`,"A=b"`, maxEdits) + `]`): "more than",
	} {
		o := place(t, map[string]string{"etc/a.json": content})
		if got, err := Find([]string{"a.com/gpu=0"}, o); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.100s: %+v, %v, want %q", content, got, err, why)
		}
	}
	o := place(t, map[string]string{"etc/a.json": one(``)})
	if err := os.Chmod(filepath.Join(o.Dirs[0], "a.json"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Find([]string{"a.com/gpu=0"}, o); err == nil || !strings.Contains(err.Error(), "may be written by everybody") {
		t.Errorf("a file that everybody may write: %v", err)
	}
	o.Dirs = []string{"/proc/nowhere"}
	for name, why := range map[string]string{"a.com/gpu=0": "there is no CDI file", DRI: "no GPU here", Nvidia: "not loaded here"} {
		_, err := Find([]string{name}, o)
		if e := (*integration.MissingError)(nil); !errors.As(err, &e) || !strings.Contains(e.Why, why) || e.Do == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCDIMany: of many files none is passed over, and more than there can be are told; what is no CDI file does not count.
func TestCDIMany(t *testing.T) {
	files := map[string]string{}
	for i := range maxFiles {
		files[fmt.Sprintf("etc/%03d.json", i)] = fmt.Sprintf(`{"kind":"a.com/gpu","devices":[{"name":"%d","containerEdits":{"deviceNodes":[{"path":"/dev/zero0","hostPath":"/dev/zero"}]}}]}`, i)
		files[fmt.Sprintf("etc/%03d.txt", i)] = ""
	}
	o := place(t, files)
	for i := range maxFiles {
		if _, err := Find([]string{fmt.Sprintf("a.com/gpu=%d", i)}, o); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile(filepath.Join(o.Dirs[0], "more.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find([]string{"a.com/gpu=0"}, o); err == nil || !strings.Contains(err.Error(), "holds 65 CDI files, more than 64") {
		t.Errorf("one more: %v", err)
	}
}

// TestDirs: a folder is looked into by its whole path, and not where cove is called.
func TestDirs(t *testing.T) {
	for _, test := range []struct{ xdg, home, want string }{
		{"/x", "/home/me", "/x/cdi"}, {"", "/home/me", "/home/me/.config/cdi"}, {"x", "/home/me", "/home/me/.config/cdi"}, {"x", "home", ""}, {"", "", ""},
	} {
		t.Setenv("XDG_CONFIG_HOME", test.xdg)
		t.Setenv("HOME", test.home)
		if got := append(Dirs()[2:], "")[0]; got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

// TestNodes: of the kernel's there are the render nodes, under the names that they have.
func TestNodes(t *testing.T) {
	o := place(t, map[string]string{"dev/dri/card0": ""})
	for name, to := range map[string]string{"renderD128": "/dev/zero", "renderD129": "/dev/full"} {
		if err := os.Symlink(to, filepath.Join(o.Dev, "dri", name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Find([]string{DRI}, o)
	if err != nil || len(got.Nodes) != 2 || got.Nodes[0] != (integration.Bound{Source: o.Dev + "/dri/renderD128", Target: "/dev/dri/renderD128"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestGrants: who an ACL names may as much as its mask lets them. The bytes are those of setfacl -m u:1001:rw, and of one with a mask of r.
func TestGrants(t *testing.T) {
	acl := func(mask byte) []byte {
		return []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 0xe9, 3, 0, 0, 4, 0, 6, 0, 255, 255, 255, 255, 16, 0, mask, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	}
	for _, test := range []struct {
		acl  []byte
		uid  uint32
		want bool
	}{{acl(6), 1001, true}, {acl(6), 1000, false}, {acl(4), 1001, false}, {acl(6)[:15], 1001, false}, {nil, 1001, false}} {
		if got := grants(test.acl, test.uid); got != test.want {
			t.Errorf("%v, %d: %v", test.acl, test.uid, got)
		}
	}
}

// FuzzCDI: what is taken from a file stays where it has a place.
func FuzzCDI(f *testing.F) {
	f.Add([]byte(nvidia))
	f.Add([]byte(`{"kind":"a","devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/x/../../etc"}]}}]}`))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseCDI(data)
		if err != nil {
			return
		}
		for _, d := range file.Devices {
			for _, e := range []edits{file.Edits, d.Edits} {
				for _, n := range e.Nodes {
					if filepath.Clean(n.Path) != n.Path || !strings.HasPrefix(n.Path, "/dev/") || n.Path == "/dev/null" || strings.HasPrefix(n.Path, "/dev/pts") {
						t.Fatalf("%q: node %q", data, n.Path)
					}
				}
				for _, m := range e.Mounts {
					if filepath.Clean(m.ContainerPath) != m.ContainerPath || m.ContainerPath == "/" || strings.HasPrefix(m.ContainerPath, "/proc/") {
						t.Fatalf("%q: mount %q", data, m.ContainerPath)
					}
				}
			}
		}
	})
}

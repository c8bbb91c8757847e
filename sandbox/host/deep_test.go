package host

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// What is tried beyond a start's needs works on a machine that is complete, and what is hidden is not there.
func TestDeep(t *testing.T) {
	dir := t.TempDir()
	opts := Options{StoreDir: filepath.Join(dir, "store"), Fresh: true, Deep: true}
	h := probe(t, opts)
	d := h.Deep
	if d == nil {
		t.Fatal("nothing was tried")
	}
	facts := map[string]Fact{"exec": d.Exec, "owners": d.Owners, "fuse-overlayfs": d.FuseOverlayfs, "landlock": d.Landlock, "scope": d.Scope, "seccomp": d.Seccomp}
	for name, f := range facts {
		t.Log(name, f)
		if !f.OK && f.Why == "" {
			t.Errorf("%s does not work, and nothing says why", name)
		}
		if !f.OK && os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Errorf("%s: %s", name, f.Why)
		}
	}
	if left, _ := os.ReadDir(opts.StoreDir); len(left) != 0 {
		t.Errorf("left in the store: %v", left)
	}
	// The trials end with their threads: this process can still do all that they gave up.
	if _, err := os.ReadFile("/etc/passwd"); err != nil {
		t.Error(err)
	}
	t.Setenv("COVE_HIDE", "landlock,fuse-overlayfs")
	if h := probe(t, opts); h.Deep.Landlock.OK || h.Deep.Scope.OK || h.Deep.FuseOverlayfs.OK || h.LandlockABI != 0 {
		t.Errorf("not hidden: %+v", h.Deep)
	}
	t.Setenv("COVE_HIDE", "userns")
	if h := probe(t, opts); h.DevNetTun.OK || h.ProcMount.OK {
		t.Errorf("not hidden: %+v", h.Tried)
	}
	plain, err := Probe(context.Background(), Options{StoreDir: opts.StoreDir, Fresh: true})
	if err != nil || plain.Deep != nil {
		t.Errorf("tried unasked: %+v, %v", plain.Deep, err)
	}
}

func TestLookAround(t *testing.T) {
	for name, c := range map[string]struct {
		env   map[string]string
		files map[string]string
		want  Around
	}{
		"a machine":                      {nil, map[string]string{"/proc/1/cmdline": "/sbin/init\x00", "/proc/sys/kernel/osrelease": "6.12.0-amd64"}, Machine},
		"docker":                         {nil, map[string]string{"/.dockerenv": ""}, Docker},
		"podman":                         {nil, map[string]string{"/run/.containerenv": "engine=\"podman-4.3.1\"\n"}, Podman},
		"podman without its file":        {map[string]string{"container": "podman"}, nil, Podman},
		"docker in kubernetes":           {map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, map[string]string{"/.dockerenv": ""}, Kubernetes},
		"a pod without services":         {nil, map[string]string{"/var/run/secrets/kubernetes.io": ""}, Kubernetes},
		"lxc":                            {nil, map[string]string{"/run/systemd/container": "lxc\n"}, Container},
		"nspawn":                         {map[string]string{"container": "systemd-nspawn"}, nil, Container},
		"cove":                           {nil, map[string]string{"/proc/1/cmdline": "cove-init\x00"}, Cove},
		"WSL 2":                          {nil, map[string]string{"/proc/sys/kernel/osrelease": "5.15.167.4-microsoft-standard-WSL2"}, WSL2},
		"WSL 1":                          {nil, map[string]string{"/proc/sys/kernel/osrelease": "4.4.0-19041-Microsoft"}, WSL1},
		"a container of docker's on WSL": {nil, map[string]string{"/.dockerenv": "", "/proc/sys/kernel/osrelease": "5.15.167.4-microsoft-standard-WSL2"}, Docker},
	} {
		got := lookAround(func(n string) string { return c.env[n] }, func(p string) (string, bool) { s, ok := c.files[p]; return s, ok })
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

package config

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Another filesystem is where the walk ends: what lies above may be somebody else's.
func TestNotOntoAnotherFilesystem(t *testing.T) {
	if dir := os.Getenv("COVE_TEST_MOUNT_ON"); dir != "" {
		mountAndLoad(t, dir)
		return
	}
	r := newRoom(t)
	r.write(FileName, "")
	dir := filepath.Join(r.project, "mnt")
	r.dir(dir)
	opts := r.opts()
	opts.Cwd = dir
	if p, _ := r.load(opts); p.File == "" {
		t.Fatal("not found without the mount")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNotOntoAnotherFilesystem$", "-test.v")
	cmd.Env = append(os.Environ(), "COVE_TEST_MOUNT_ON="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		if os.Getenv("COVE_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip("needs unprivileged user namespaces:", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func mountAndLoad(t *testing.T, dir string) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	for _, cwd := range []string{dir, filepath.Join(dir, "sub")} {
		if err := os.MkdirAll(cwd, 0o755); err != nil {
			t.Fatal(err)
		}
		p, warnings, err := Load(LoadOptions{Cwd: cwd})
		if err != nil || p.File != "" || p.Dir != cwd || len(warnings) != 0 {
			t.Errorf("in %s: %+v, %v, %v", cwd, p, warnings, err)
		}
	}
}

// A sandbox on a folder without a profile keeps one from being made: what it keeps the place with is none.
func TestPlaceholderIsNoProfile(t *testing.T) {
	r := newRoom(t)
	file := r.write(FileName, "")
	if p, _ := r.load(r.opts()); p.File == "" {
		t.Error("an empty profile was not found")
	}
	if err := os.Chmod(file, 0o444); err != nil {
		t.Fatal(err)
	}
	if p, _ := r.load(r.opts()); p.File != "" {
		t.Errorf("%s was taken for a profile", p.File)
	}
}

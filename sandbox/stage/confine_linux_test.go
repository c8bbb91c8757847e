package stage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quotaUser is nobody who has keys on this machine.
const quotaUser = 64242

// TestRootKeyQuota spends the quota of a user's keys: then the caller's session keyring is kept, unless /proc/keys would
// tell of it.
func TestRootKeyQuota(t *testing.T) {
	if os.Getenv("COVE_TEST_QUOTA") != "" {
		fmt.Println(spendKeys())
		os.Exit(0)
	}
	if os.Getuid() != 0 {
		t.Skip("for root alone, who can be another user: run as root `go test -run Root ./...`")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRootKeyQuota$")
	cmd.Env = []string{"COVE_TEST_QUOTA=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: quotaUser, Gid: quotaUser}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != "spent; <nil>; make a session keyring: disk quota exceeded" {
		t.Errorf("%s", got)
	}
}

// spendKeys fills the process's own keyring, which ends with it.
func spendKeys() string {
	runtime.LockOSThread()
	kind, payload := []byte("user\x00"), []byte("x")
	var err error
	for i := range 100000 {
		name := fmt.Appendf(nil, "cove-test-%d\x00", i)
		const processKeyring = ^uintptr(1) // KEY_SPEC_PROCESS_KEYRING, -2
		_, _, errno := unix.Syscall6(unix.SYS_ADD_KEY, uintptr(unsafe.Pointer(&kind[0])), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&payload[0])), uintptr(len(payload)), processKeyring, 0)
		if errno != 0 {
			err = errno
			break
		}
	}
	if !errors.Is(err, unix.EDQUOT) {
		return fmt.Sprintf("could not spend the quota: %v", err)
	}
	return fmt.Sprintf("spent; %v; %v", newKeyring(false), newKeyring(true))
}

func TestRefuse32(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text   string
		refuse bool
	}{
		"32":     {"\x7fELF\x01\x01\x01", true},
		"64":     {"\x7fELF\x02\x01\x01", false},
		"script": {"#!/bin/sh\n", false},
		"empty":  {"", false},
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(c.text), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir + "/" + name, "./" + name} {
			cmd := &command{path: path, cwd: dir, argv: []string{path}}
			err := cmd.refuse32()
			if (err != nil) != c.refuse || c.refuse && exitedBecause(err).Code != codeNotRunnable {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if err := unix.Mkfifo(dir+"/fifo", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "absent", "."} {
		if err := (&command{path: dir + "/" + name, argv: []string{name}}).refuse32(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

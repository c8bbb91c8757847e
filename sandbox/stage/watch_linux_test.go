package stage

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A watch that sees nothing any more says so, instead of going on in silence.
func TestWatchTellsItsEnd(t *testing.T) {
	// To read where there is nothing to be read at an offset fails, as it would without memory.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Close() // poll(2) returns
	told := make(chan string, 3)
	done := make(chan struct{})
	go func() {
		(&watch{table: int(r.Fd()), paths: []string{"/w/cove.toml"}}).run(func(text string) { told <- text })
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	if len(told) != 1 {
		t.Fatalf("%d things were told", len(told))
	}
	if text := <-told; !strings.Contains(text, "cannot be watched any more") {
		t.Errorf("%q", text)
	}
}

// The table is read whole, and without a descriptor that is not there yet.
func TestWatchReadsByItsOwnDescriptor(t *testing.T) {
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(table)
	want, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	w := &watch{table: table}
	for range 2 {
		got, err := w.read()
		if err != nil || string(got) != string(want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if !mounted(want, "/") || mounted(want, "/not/mounted") {
		t.Error("the table is misread")
	}
}

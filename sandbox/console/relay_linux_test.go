package console

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// plain is a regular file with that content, open for both, at its beginning.
func plain(t *testing.T, content []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f := must[*os.File](t)(os.OpenFile(name, os.O_RDWR, 0))
	t.Cleanup(func() { f.Close() })
	return f
}

// dup is the command's own copy of a descriptor that was handed in.
func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd := must[int](t)(unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3))
	return os.NewFile(uintptr(fd), "the command's")
}

func kind(t *testing.T, f *os.File) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & unix.S_IFMT
}

// within fails the test when f takes longer.
func within(t *testing.T, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s takes longer than %v", what, d)
	}
}

// Regular files never reach the command: it gets pipes, and every byte comes through both ways.
func TestRelayFiles(t *testing.T) {
	data := make([]byte, 10<<20+17)
	_, _ = rand.Read(data)
	in, out, errs := plain(t, data), plain(t, nil), plain(t, nil)
	var r relays
	theirs := must[[]*os.File](t)(r.prepare(Stdio{In: in, Out: out, Err: errs}))
	for i, f := range theirs {
		if kind(t, f) != unix.S_IFIFO {
			t.Errorf("descriptor %d is no pipe", i)
		}
	}
	cmdIn, cmdOut, cmdErr := dup(t, theirs[0]), dup(t, theirs[1]), dup(t, theirs[2])
	r.handedOver()
	r.start()
	within(t, 30*time.Second, "the relay", func() {
		if _, err := io.Copy(io.MultiWriter(cmdOut, cmdErr), cmdIn); err != nil {
			t.Error(err)
		}
		cmdOut.Close()
		cmdErr.Close()
		r.drain()
	})
	for name, f := range map[string]*os.File{"stdout": out, "stderr": errs} {
		if got := must[[]byte](t)(os.ReadFile(f.Name())); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes of %d, or others", name, len(got), len(data))
		}
	}
}

// Pipes and sockets are handed in as they are.
func TestRelayDirect(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	pair := must[[2]int](t)(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	sock := os.NewFile(uintptr(pair[0]), "socket")
	defer sock.Close()
	defer unix.Close(pair[1])
	var r relays
	theirs := must[[]*os.File](t)(r.prepare(Stdio{In: read, Out: write, Err: sock}))
	if theirs[0] != read || theirs[1] != write || theirs[2] != sock || len(r.pending) != 0 {
		t.Errorf("handed in: %v, %d relays", theirs, len(r.pending))
	}
	r.handedOver()
	if _, err := write.Write([]byte("x")); err != nil {
		t.Errorf("the caller's own end was closed: %v", err)
	}
}

func TestRelayRefusesDirectories(t *testing.T) {
	dir := must[*os.File](t)(os.Open("/"))
	defer dir.Close()
	null := must[*os.File](t)(os.OpenFile(os.DevNull, os.O_RDWR, 0))
	defer null.Close()
	for what, s := range map[string]Stdio{"stdin": {dir, null, null, false}, "stdout": {null, dir, null, false}, "stderr": {null, null, dir, false}} {
		var r relays
		if _, err := r.prepare(s); err == nil || !strings.HasPrefix(err.Error(), what+": ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A descriptor that is closed is /dev/null for the command.
func TestRelayClosed(t *testing.T) {
	closed := must[*os.File](t)(os.Open("/dev/zero"))
	closed.Close()
	var r relays
	theirs := must[[]*os.File](t)(r.prepare(Stdio{In: nil, Out: closed, Err: nil}))
	var null, st unix.Stat_t
	if err := unix.Stat(os.DevNull, &null); err != nil {
		t.Fatal(err)
	}
	for i, f := range theirs {
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Rdev != null.Rdev {
			t.Errorf("descriptor %d: %v, device %#x", i, err, st.Rdev)
		}
	}
	r.handedOver()
}

// What the command writes to a reader that is gone comes back to it as SIGPIPE or EPIPE.
func TestRelayWriteFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	var r relays
	theirs := must[[]*os.File](t)(r.prepare(Stdio{Out: full, Err: plain(t, nil)}))
	cmdOut, background := dup(t, theirs[1]), dup(t, theirs[2])
	defer background.Close()
	r.handedOver()
	r.start()
	within(t, 10*time.Second, "EPIPE", func() {
		for {
			if _, err := cmdOut.Write(make([]byte, 4096)); err != nil {
				if !errors.Is(err, unix.EPIPE) {
					t.Errorf("error %v", err)
				}
				return
			}
		}
	})
	// What was left running holds stderr: the end must not wait for what could not be passed on.
	within(t, 5*time.Second, "the drain", r.drain)
	for _, c := range []struct{ ended, want spec.Exited }{
		{spec.Exited{}, spec.Exited{Code: 125, Text: "write stdout: no space left on device"}},
		{spec.Exited{Code: 3}, spec.Exited{Code: 3, Text: "write stdout: no space left on device"}},
		{spec.Exited{Signal: 13}, spec.Exited{Signal: 13, Text: "write stdout: no space left on device"}},
		{spec.Exited{Code: 127, Text: "not found"}, spec.Exited{Code: 127, Text: "not found"}},
	} {
		if got := r.result(&c.ended); *got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.ended, *got, c.want)
		}
	}
}

// A background process that holds a pipe open keeps nobody waiting, and nothing that was written before is lost.
func TestDrainWithBackground(t *testing.T) {
	out := plain(t, nil)
	var r relays
	theirs := must[[]*os.File](t)(r.prepare(Stdio{Out: out}))
	background := dup(t, theirs[1])
	defer background.Close()
	r.handedOver()
	data := bytes.Repeat([]byte("0123456789abcdef"), 4096) // a full pipe
	if _, err := background.Write(data); err != nil {
		t.Fatal(err)
	}
	r.start()
	within(t, 5*time.Second, "the drain", r.drain)
	if got := must[[]byte](t)(os.ReadFile(out.Name())); !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d", len(got), len(data))
	}
}

// A reader that is slow gets everything, however long it takes.
func TestDrainWaitsForSlowReader(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, cmd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 300<<10)
	var r relays
	r.copy("", write, from) // as to a terminal, which is slow at times
	go func() {
		_, _ = cmd.Write(data)
		// cmd stays open, as with a background process.
	}()
	defer cmd.Close()
	got := make(chan []byte)
	go func() {
		var all []byte
		buf := make([]byte, 100<<10)
		for len(all) < len(data) {
			time.Sleep(2 * drainIdle)
			n, err := read.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil {
				break
			}
		}
		got <- all
	}()
	r.drain()
	write.Close()
	if all := <-got; !bytes.Equal(all, data) {
		t.Errorf("%d bytes of %d", len(all), len(data))
	}
}

// What drain takes for passed on is there, whenever it looks.
func TestWaitingMissesNothing(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	from, cmd, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var r relays
	r.copy("", write, from)
	passed := []unix.PollFd{{Fd: int32(read.Fd()), Events: unix.POLLIN}}
	for i := range 20_000 {
		if _, err := cmd.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		for r.waiting() {
		}
		if n, err := unix.Poll(passed, 0); n != 1 || err != nil {
			t.Fatalf("byte %d was taken for passed on, and is not (%d, %v)", i, n, err)
		}
		if _, err := read.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Close()
	r.outputs.Wait()
	write.Close()
}

// Of the null device there is nothing to relay: the command gets one that is its own.
func TestNullIsNotRelayed(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	var r relays
	files, err := r.prepare(Stdio{In: null, Out: null, Err: null})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) || f == null {
			t.Errorf("descriptor %d: mode %#o, device %#x, %v", i, st.Mode, st.Rdev, err)
		}
	}
	if len(r.pending) > 0 {
		t.Errorf("%d relays", len(r.pending))
	}
	r.handedOver()
	// Another device may hold what is to be kept from the command.
	if _, err := r.prepare(Stdio{In: zero, Out: null, Err: null}); err != nil || len(r.pending) != 1 {
		t.Errorf("%d relays for /dev/zero, %v", len(r.pending), err)
	}
	r.handedOver()
}

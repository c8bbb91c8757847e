package sandbox

import (
	"errors"
	"os"
	"testing"
	"time"

	"cove/sandbox/spec"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

// stopper is a parent that can only be stopped.
type stopper func(unix.Signal)

func (s stopper) stop(sig unix.Signal)               { s(sig) }
func (s stopper) changePorts(*portRequest) portReply { return portReply{} }

// A parent that is out of descriptors for a moment can be reached afterwards.
func TestServeOutlivesEMFILE(t *testing.T) {
	dir := t.TempDir()
	l, err := listenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stopped := make(chan unix.Signal, 10)
	go newControl(nil).serve(l, stopper(func(sig unix.Signal) { stopped <- sig }))
	ask := func() {
		t.Helper()
		conn, err := dialSocket(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Send(request{Stop: int(unix.SIGTERM)}); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	<-stopped
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	client, err := dialSocket(dir) // its descriptor is there before there are none
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	second, err := dialSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Millisecond)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	ask()
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody serves any more")
	}
}

// What is waited for when init goes is answered, and what comes then too.
func TestDialWhenInitGoes(t *testing.T) {
	ours, theirs, err := fdpass.Pair()
	if err != nil {
		t.Fatal(err)
	}
	c := newControl(ours)
	got := make(chan error, 1)
	go func() {
		_, err := c.dial("tcp", 80)
		got <- err
	}()
	fd, err := unix.FcntlInt(theirs.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	init, err := fdpass.FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	init.Same()
	var m spec.ToInit
	if _, err := init.Recv(&m); err != nil || m.Dial == nil || m.Dial.Port != 80 {
		t.Fatalf("%+v, %v", m, err)
	}
	go c.listen()
	// An answer to what nobody asked, with a file, is dropped with its file.
	if err := init.Send(spec.FromInit{Dialed: &spec.Dialed{Serial: 99}}, os.Stdin); err != nil {
		t.Fatal(err)
	}
	init.Close()
	if err := <-got; !errors.Is(err, errInitGone) {
		t.Errorf("error %v", err)
	}
	if err := <-c.ready; !errors.Is(err, errInitGone) {
		t.Errorf("ready: %v", err)
	}
	if _, err := c.dial("tcp", 80); err == nil {
		t.Error("a dial after the end: no error")
	}
	ours.Close()
}

// TestSay: who says something to the shells goes on when it is on its way to them, and not before; nor never.
func TestSay(t *testing.T) {
	ours, theirs, err := fdpass.Pair()
	if err != nil {
		t.Fatal(err)
	}
	init, err := fdpass.FromFD(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	init.Same()
	c := newControl(ours)
	go c.listen()
	said := make(chan struct{})
	go func() { defer close(said); c.say("a page was opened") }()
	var m spec.ToInit
	if _, err := init.Recv(&m); err != nil || m.Notice != "a page was opened" {
		t.Fatalf("%+v, %v", m, err)
	}
	select {
	case <-said:
		t.Error("nobody has passed it on yet")
	case <-time.After(50 * time.Millisecond):
	}
	m = spec.ToInit{}
	if _, err := init.Recv(&m); err != nil || m.Echo == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := init.Send(spec.FromInit{Echo: m.Echo}); err != nil {
		t.Fatal(err)
	}
	<-said
	said = make(chan struct{})
	go func() { defer close(said); c.say("and init has gone") }()
	if _, err := init.Recv(&m); err != nil {
		t.Fatal(err)
	}
	_ = unix.Shutdown(init.FD(), unix.SHUT_RDWR)
	<-said
	c.say("once more")
}

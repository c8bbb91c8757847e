package fdpass

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is two ends, both as a Conn.
func pair(t testing.TB) (*Conn, *Conn) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	b, err := FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func openFiles(t testing.TB) int {
	t.Helper()
	runtime.GC() // an os.File that nobody closes is one that nobody owns
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

type message struct {
	N    int
	Text string
	Raw  []byte
}

// Every number of descriptors arrives in order, as new ones that are close-on-exec.
func TestFiles(t *testing.T) {
	a, b := pair(t)
	var send []*os.File
	dir := t.TempDir()
	for i := range maxFiles + 1 {
		f, err := os.Create(fmt.Sprintf("%s/%d", dir, i))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		send = append(send, f)
	}
	for _, n := range []int{0, 1, 2, 3, 28, 128, 249, 250} {
		if err := a.Send(message{N: n}, send[:n]...); err != nil {
			t.Fatal(err)
		}
		var m message
		files, err := b.Recv(&m)
		if err != nil || m.N != n || len(files) != n {
			t.Fatalf("%d sent: %+v with %d, %v", n, m, len(files), err)
		}
		for i, f := range files {
			name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
			if err != nil || name != fmt.Sprintf("%s/%d", dir, i) {
				t.Errorf("descriptor %d is %q, %v", i, name, err)
			}
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("descriptor %d is not close-on-exec", i)
			}
		}
		closeFiles(files)
	}
	if err := a.Send(message{}, send...); err == nil {
		t.Errorf("%d descriptors were sent", len(send))
	}
}

func TestLargeMessages(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int{0, 1, 200 << 10, 5 << 20} {
		raw := make([]byte, size)
		_, _ = rand.New(rand.NewSource(1)).Read(raw)
		errs := make(chan error, 1)
		go func() { errs <- a.Send(message{N: size, Raw: raw}, os.Stdin) }()
		var m message
		files, err := b.Recv(&m)
		if err != nil || !bytes.Equal(m.Raw, raw) || len(files) != 1 {
			t.Errorf("%d bytes: %d came with %d descriptors, %v", size, len(m.Raw), len(files), err)
		}
		closeFiles(files)
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := a.Send(message{Text: strings.Repeat("x", maxFrame)}); err == nil {
		t.Error("a message over the limit was sent")
	}
}

// Messages of several senders do not mix, nor do their descriptors.
func TestConcurrent(t *testing.T) {
	a, b := pair(t)
	const senders, each = 8, 60
	var wg sync.WaitGroup
	for s := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var files []*os.File
			for range s {
				files = append(files, os.Stdin)
			}
			for i := range each {
				if err := a.Send(message{N: s, Text: strings.Repeat(fmt.Sprint(s), i*100)}, files...); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for range senders * each {
		var m message
		files, err := b.Recv(&m)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != m.N || strings.Trim(m.Text, fmt.Sprint(m.N)) != "" {
			t.Errorf("of sender %d came %d descriptors and %q", m.N, len(files), m.Text)
		}
		closeFiles(files)
	}
	wg.Wait()
}

// What does not fit is an error, and the descriptors that came with it are not kept.
func TestBadFrames(t *testing.T) {
	head := func(size, count uint32) []byte {
		h := make([]byte, 8)
		binary.BigEndian.PutUint32(h, size)
		binary.BigEndian.PutUint32(h[4:], count)
		return h
	}
	for name, c := range map[string]struct {
		bytes []byte
		files int
		eof   error
	}{
		"nothing":                     {nil, 0, io.EOF},
		"half a head":                 {head(2, 0)[:5], 0, io.ErrUnexpectedEOF},
		"half a head with a file":     {head(2, 1)[:5], 1, io.ErrUnexpectedEOF},
		"a head alone":                {head(2, 0), 0, io.ErrUnexpectedEOF},
		"half a body":                 {append(head(10, 0), "12345"...), 0, io.ErrUnexpectedEOF},
		"half a body with files":      {append(head(10, 3), "12345"...), 3, io.ErrUnexpectedEOF},
		"a larger size than allowed":  {head(maxFrame+1, 0), 0, nil},
		"fewer files than announced":  {append(head(2, 2), "{}"...), 1, nil},
		"more files than announced":   {append(head(2, 1), "{}"...), 2, nil},
		"files without announcement":  {append(head(2, 0), "{}"...), 5, nil},
		"four billion announced":      {append(head(2, 1<<32-1), "{}"...), 1, nil},
		"more files than taken":       {append(head(2, 253), "{}"...), 253, nil},
		"no JSON":                     {append(head(2, 1), "{{"...), 1, nil},
		"JSON of another type":        {append(head(2, 1), "[]"...), 1, nil},
		"no body":                     {head(0, 1), 1, nil},
		"JSON and more":               {append(head(4, 1), "{}{}"...), 1, nil},
		"a number that is too large":  {append(head(15, 1), `{"N":9e999999} `...), 1, nil},
		"invalid UTF-8 outside texts": {append(head(2, 1), "\xff\xfe"...), 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			before := openFiles(t)
			sendRaw(t, a, c.bytes, c.files)
			if err := unix.Shutdown(a.FD(), unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			var m message
			files, err := b.Recv(&m)
			if err == nil || len(files) != 0 || (c.eof != nil && err != c.eof) {
				t.Errorf("%d files, %v", len(files), err)
			}
			if now := openFiles(t); now != before {
				t.Errorf("%d descriptors are open, there were %d", now, before)
			}
		})
	}
}

func sendRaw(t testing.TB, c *Conn, p []byte, files int) {
	t.Helper()
	if len(p) == 0 {
		return
	}
	var rights []byte
	if files > 0 {
		fds := make([]int, files) // all of them 0, whatever that is
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(c.FD(), p, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		t.Fatal(err)
	}
}

// A message that came in pieces is whole.
func TestPieces(t *testing.T) {
	a, b := pair(t)
	frame := append(make([]byte, 8), `{"N":5,"Text":"pieces"}`...)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-8))
	binary.BigEndian.PutUint32(frame[4:], 1)
	go func() {
		rights := 1
		for len(frame) > 0 {
			sendRaw(t, a, frame[:1], rights)
			frame, rights = frame[1:], 0
			time.Sleep(100 * time.Microsecond)
		}
	}()
	var m message
	files, err := b.Recv(&m)
	if err != nil || m.N != 5 || m.Text != "pieces" || len(files) != 1 {
		t.Errorf("%+v with %d files, %v", m, len(files), err)
	}
	closeFiles(files)
}

// Closing either end wakes who waits, and what is used later is an error and not another's descriptor.
func TestClose(t *testing.T) {
	for name, theirs := range map[string]bool{"own end": false, "other end": true} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			got := make(chan error, 3)
			for range 3 {
				go func() {
					var m message
					_, err := a.Recv(&m)
					got <- err
				}()
			}
			time.Sleep(5 * time.Millisecond)
			closed := a
			if theirs {
				closed = b
			}
			if err := closed.Close(); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				select {
				case err := <-got:
					if err != io.EOF && err != os.ErrClosed {
						t.Errorf("error %v", err)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("a Recv still waits")
				}
			}
			if err := closed.Close(); err != nil {
				t.Errorf("a second Close: %v", err)
			}
			if err := closed.Send(1); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Send after Close: %v", err)
			}
			if _, err := closed.Recv(new(int)); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Recv after Close: %v", err)
			}
		})
	}
}

// A sender whose peer does not read waits; Close ends that too, and a peer that is gone is no SIGPIPE.
func TestCloseWhileSending(t *testing.T) {
	a, b := pair(t)
	got := make(chan error, 1)
	go func() { got <- a.Send(message{Raw: make([]byte, 8<<20)}) }()
	// The first bytes are there: it is in the middle.
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(b.FD()), Events: unix.POLLIN}}, 10_000); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		if !errors.Is(err, unix.EPIPE) {
			t.Errorf("error %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Send still waits")
	}
	if err := b.Send(1); !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("to a peer that is gone: %v", err)
	}
}

func TestFromFD(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	dgram, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dgram[0])
	defer unix.Close(dgram[1])
	inet, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inet)
	for name, fd := range map[string]int{"a file": int(null.Fd()), "none": 1 << 20, "negative": -1, "datagrams": dgram[0], "inet": inet} {
		if _, err := FromFD(fd); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	c, err := FromFD(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	status, _ := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFL, 0)
	flags, _ := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0)
	if status&unix.O_NONBLOCK != 0 || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("status %#x, flags %#x", status, flags)
	}
}

// FuzzRecv sends any bytes with any number of descriptors, in two writes. The law: no panic, and
// what is open afterwards is what was returned.
func FuzzRecv(f *testing.F) {
	good, _ := json.Marshal(message{N: 1})
	frame := append([]byte{0, 0, 0, byte(len(good)), 0, 0, 0, 2}, good...)
	f.Add(frame, uint8(2), uint16(8))
	f.Add(frame, uint8(1), uint16(3))
	f.Add(frame[:6], uint8(3), uint16(2))
	f.Add(append(bytes.Clone(frame), frame...), uint8(2), uint16(0))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint8(252), uint16(4))
	f.Fuzz(func(t *testing.T, p []byte, files uint8, cut uint16) {
		a, b := pair(t)
		before := openFiles(t)
		n := min(int(cut), len(p))
		files %= 254 // SCM_MAX_FD is 253
		if len(p) > 100<<10 {
			t.Skip() // more than the socket holds
		}
		sendRaw(t, a, p[:n], int(files))
		sendRaw(t, a, p[n:], int(files)/2)
		if err := unix.Shutdown(a.FD(), unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		for {
			var m message
			got, err := b.Recv(&m)
			closeFiles(got)
			if err != nil {
				break
			}
		}
		if now := openFiles(t); now != before {
			t.Errorf("%d descriptors are open, there were %d", now, before)
		}
	})
}

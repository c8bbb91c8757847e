package outside

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cove/sandbox/integration"
	"cove/sandbox/spec"
)

// unixServer answers each connection on a socket.
func unixServer(t testing.TB, path string, answer func(*net.UnixConn)) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				answer(conn.(*net.UnixConn))
			}()
		}
	}()
}

func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ca")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// desktop is a compositor that knows the registry, and security contexts where it is to.
type desktop struct {
	contexts bool
	mu       sync.Mutex
	words    []string   // what was said of a context
	files    []*os.File // of a context that was committed: the socket, and what tells of its end
}

func (d *desktop) serve(conn *net.UnixConn) {
	var queue []byte
	var rights []int
	var registry, manager, made uint32
	event := func(object uint32, opcode uint16, args ...any) {
		c := &compositor{UnixConn: conn}
		_ = c.request(object, opcode, nil, args...)
	}
	for {
		buf, oob := make([]byte, 4096), make([]byte, 256)
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		queue = append(queue, buf[:n]...)
		if messages, err := syscall.ParseSocketControlMessage(oob[:oobn]); err == nil {
			for _, m := range messages {
				fds, _ := syscall.ParseUnixRights(&m)
				rights = append(rights, fds...)
			}
		}
		for len(queue) >= 8 {
			object, word := binary.NativeEndian.Uint32(queue), binary.NativeEndian.Uint32(queue[4:])
			size, opcode := int(word>>16), uint16(word)
			body := queue[8:size]
			queue = queue[size:]
			last := func() uint32 { return binary.NativeEndian.Uint32(body[len(body)-4:]) }
			switch {
			case object == displayObject && opcode == displayGet:
				registry = last()
				event(registry, registryGlobal, uint32(1), "wl_compositor", uint32(5))
				if d.contexts {
					event(registry, registryGlobal, uint32(7), contextManager, uint32(1))
				}
			case object == displayObject && opcode == displaySync:
				event(last(), 0, uint32(0))
			case object == registry && opcode == registryBind:
				if binary.NativeEndian.Uint32(body) != 7 {
					event(displayObject, displayError, object, uint32(0), "no such global")
					return
				}
				manager = last()
			case object == manager && opcode == 1:
				made = last()
			case object == made && opcode < 4:
				d.mu.Lock()
				d.words = append(d.words, strings.TrimRight(string(body[4:]), "\x00"))
				d.mu.Unlock()
			case object == made:
				d.mu.Lock()
				for _, fd := range rights {
					d.files = append(d.files, os.NewFile(uintptr(fd), "given"))
				}
				d.mu.Unlock()
			default:
				event(displayObject, displayError, object, uint32(0), "no such request")
				return
			}
		}
	}
}

// TestWayland: where the compositor has security contexts, it is the one that listens inside, as long as the sandbox is there.
func TestWayland(t *testing.T) {
	for _, contexts := range []bool{false, true} {
		dir := shortDir(t)
		d := &desktop{contexts: contexts}
		unixServer(t, dir+"/w", d.serve)
		in := &spec.Integrations{Wayland: &spec.Wayland{Socket: spec.Path(dir + "/w")}}
		o, err := Integrations{}.Open(t.Context(), &spec.Spec{ID: "0123", Integrations: in}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if in.Wayland.Context != contexts || (len(in.Sockets()) == 1) != contexts || (len(in.Bound()) == 0) != contexts {
			t.Errorf("contexts %v: %+v, made %q, bound %q", contexts, in.Wayland, in.Sockets(), in.Bound())
		}
		if contexts {
			connect(t, o, dir, d)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		for i, f := range d.files {
			if i == 1 {
				_ = f.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("the compositor does not learn of the end: %v", err)
				}
			}
			_ = f.Close()
		}
	}
}

// connect hands a socket over, and connects to it: the compositor has to be there.
func connect(t *testing.T, o integration.Opened, dir string, d *desktop) {
	l, err := net.Listen("unix", dir+"/inside")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Serve(spec.Display, f); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := strings.Join(d.words, " "); got != "cove cove 0123" || len(d.files) != 2 {
		t.Fatalf("the compositor was told %q, and given %d files", got, len(d.files))
	}
	theirs, err := net.FileListener(d.files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	client, err := net.Dial("unix", dir+"/inside")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if conn, err := theirs.Accept(); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

// TestWaylandOdd: what is no compositor is an error, in time.
func TestWaylandOdd(t *testing.T) {
	for name, answer := range map[string]func(*net.UnixConn){
		"closes": func(*net.UnixConn) {},
		"HTTP":   func(c *net.UnixConn) { _, _ = c.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n")) },
		"zeros":  func(c *net.UnixConn) { _, _ = c.Write(make([]byte, 100)) },
		"error": func(c *net.UnixConn) {
			_ = (&compositor{UnixConn: c}).request(1, 0, nil, uint32(1), uint32(2), "\x1b[2Jno")
		},
		"for ever": func(c *net.UnixConn) {
			for _, err := c.Write([]byte{9, 0, 0, 0, 0, 0, 8, 0}); err == nil; _, err = c.Write([]byte{9, 0, 0, 0, 0, 0, 8, 0}) {
			}
		},
		"long name": func(c *net.UnixConn) { _, _ = c.Write([]byte{2, 0, 0, 0, 0, 0, 16, 0, 1, 0, 0, 0, 255, 255, 255, 255}) },
	} {
		dir := shortDir(t)
		unixServer(t, dir+"/w", answer)
		_, err := openWayland(t.Context(), &spec.Wayland{Socket: spec.Path(dir + "/w")})
		if e := (*integration.MissingError)(nil); !errors.As(err, &e) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// xserver lets in who has a cookie, or everybody, and has the SECURITY extension where it is to.
type xserver struct {
	cookie    []byte
	everybody bool
	security  bool
	mu        sync.Mutex
	made      []byte // cookie of an untrusted client
	seconds   uint32 // how long that lasts without a client
	clients   int    // that it has let in
	revoked   bool
}

func (x *xserver) serve(conn *net.UnixConn) {
	var hello [12]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil || hello[0] != 'l' {
		return
	}
	name := make([]byte, (int(hello[6])+3)/4*4)
	data := make([]byte, (int(hello[8])+3)/4*4)
	_, _ = io.ReadFull(conn, name)
	_, _ = io.ReadFull(conn, data)
	data = data[:hello[8]]
	x.mu.Lock()
	known := len(data) > 0 && (bytes.Equal(data, x.cookie) || bytes.Equal(data, x.made)) || x.everybody && len(data) == 0
	if known && bytes.Equal(data, x.made) {
		x.clients++
		defer x.gone()
	}
	x.mu.Unlock()
	if !known {
		_, _ = conn.Write([]byte{0, 2, 11, 0, 0, 0, 1, 0, 'n', 'o', 0, 0})
		return
	}
	_, _ = conn.Write([]byte{1, 0, 11, 0, 0, 0, 1, 0, 0, 0, 0, 0})
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		body := make([]byte, 4*int(binary.LittleEndian.Uint16(head[2:]))-4)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		reply := make([]byte, 32)
		reply[0] = 1
		switch {
		case head[0] == 98 && x.security && string(body[4:12]) == "SECURITY":
			reply[8], reply[9] = 1, 137
		case head[0] == 98:
		case head[0] == 137 && head[1] == securityGenerate && len(body) == 8+20+8 && body[len(body)-4] == 1:
			x.mu.Lock()
			x.made, x.seconds = []byte("0123456789abcdef"), binary.LittleEndian.Uint32(body[len(body)-8:])
			x.mu.Unlock()
			reply[4], reply[8], reply[12] = 4, 99, 16
			reply = append(reply, x.made...)
		case head[0] == 137 && head[1] == securityRevoke && body[0] == 99:
			x.mu.Lock()
			x.made, x.revoked = nil, true
			x.mu.Unlock()
			continue
		default:
			reply[0], reply[1] = 0, 1
		}
		_, _ = conn.Write(reply)
	}
}

// gone is the end of a client that the made cookie has let in: with the last its time begins, which is over at once here.
func (x *xserver) gone() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.clients--; x.clients == 0 && x.seconds > 0 {
		x.made = nil
	}
}

// TestX11Killed: of a sandbox whose parent was killed no cookie remains; of one that runs it does, when its clients come and go.
func TestX11Killed(t *testing.T) {
	own := []byte("the caller's own")
	file := filepath.Join(t.TempDir(), "authority")
	t.Setenv("XAUTHORITY", file)
	if err := os.WriteFile(file, authority(0, cookie{own}), 0o600); err != nil {
		t.Fatal(err)
	}
	server := &xserver{cookie: own, security: true}
	socket := shortDir(t) + "/x"
	unixServer(t, socket, server.serve)
	x, content, err := openX11(t.Context(), &spec.X11{}, socket)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if ok, err := x.letsIn(t.Context(), parseAuthority(content, 0, "")[0]); !ok || err != nil {
			t.Fatalf("a client inside is let in: %v, %v", ok, err)
		}
	}
	x.open.Close()
	x.kept.Close() // as the kernel does
	for range 200 {
		server.mu.Lock()
		left := server.made
		server.mu.Unlock()
		if left == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the server still knows the cookie")
}

// TestX11: an untrusted client gets a cookie that was made for it and is taken back, where that keeps it from anything; a trusted one the caller's.
func TestX11(t *testing.T) {
	const display = 4077
	own := []byte("the caller's own")
	file := filepath.Join(t.TempDir(), "authority")
	t.Setenv("XAUTHORITY", file)
	if err := os.WriteFile(file, append(authority(display+1, cookie{[]byte("another's")}), authority(display, cookie{own})...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		server  *xserver
		trusted bool
		why     string // "" is none
		cookie  string
	}{
		{"untrusted", &xserver{cookie: own, security: true}, false, "", "0123456789abcdef"},
		{"trusted", &xserver{cookie: own}, true, "", string(own)},
		{"no extension", &xserver{cookie: own}, false, "makes no untrusted clients: it has no SECURITY extension", ""},
		{"everybody", &xserver{everybody: true, security: true}, false, "lets in every program of yours without asking", ""},
		{"everybody, trusted", &xserver{everybody: true}, true, "", ""},
		{"nobody", &xserver{cookie: []byte("x"), security: true}, true, "it does not let you in", ""},
	} {
		socket := shortDir(t) + "/x"
		unixServer(t, socket, test.server.serve)
		x, content, err := openX11(t.Context(), &spec.X11{Display: display, Trusted: test.trusted}, socket)
		if test.why != "" {
			if e := (*integration.MissingError)(nil); !errors.As(err, &e) || !strings.Contains(e.Why, test.why) {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got := ""
		for _, c := range parseAuthority(content, display, "anything") {
			got += string(c.data)
		}
		if got != test.cookie {
			t.Errorf("%s: the cookie inside is %q, want %q", test.name, got, test.cookie)
		}
		x.close()
		test.server.mu.Lock()
		if test.server.revoked != (test.name == "untrusted") {
			t.Errorf("%s: revoked: %v", test.name, test.server.revoked)
		}
		test.server.mu.Unlock()
	}
}

// FuzzAuthority: the file may be cut anywhere, and what is found was in it.
func FuzzAuthority(f *testing.F) {
	whole := append(authority(1, cookie{[]byte("one")}), authority(0, cookie{[]byte("nought")})...)
	for i := range whole {
		f.Add(whole[:i])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range parseAuthority(data, 0, "host") {
			if !bytes.Contains(data, c.data) {
				t.Fatalf("%q: %q", data, c.data)
			}
		}
	})
}

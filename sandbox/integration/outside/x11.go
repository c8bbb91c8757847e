package outside

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"cove/sandbox/integration"
	"cove/sandbox/spec"
)

// x11 is a display of the caller's, and the cookie by which those inside are let in.
//
// An X server that lets in everybody of the caller's uid (xhost +si:localuser:NAME) trusts those inside too, whatever their cookie says: then
// there is no such thing as an untrusted client.
type x11 struct {
	socket string
	own    cookie // by which the caller is let in
	id     uint32 // of the authorization that was made for this sandbox; 0 without
	// open keeps the server from starting anew, as some do with their last client: it forgets the cookies then that it has made.
	open  *xConn
	major byte // of its SECURITY extension
	// kept is a client that the cookie lets in. The server forgets the cookie when it had no client for a while: so after a kill of this process.
	kept *xConn
}

// cookie is what a client says to be let in, of the kind that every server has. Its data is empty where the server asks for none.
type cookie struct{ data []byte }

const cookieName = "MIT-MAGIC-COOKIE-1"

// openX11 gets a cookie, and returns the file that has it (Xau(3)).
func openX11(ctx context.Context, s *spec.X11, socket string) (*x11, []byte, error) {
	x := &x11{socket: socket}
	missing := func(do, format string, args ...any) error {
		return &integration.MissingError{Name: "host.x11", Why: fmt.Sprintf(format, args...), Do: do}
	}
	const rights = "DISPLAY and XAUTHORITY name the display and what lets you in: they are right in a terminal of the desktop"
	if err := x.enter(ctx, s.Display); err != nil {
		return nil, nil, missing(rights, "talk to the X server of display :%d: %v", s.Display, err)
	}
	if s.Trusted {
		return x, authority(s.Display, x.own), nil
	}
	open, err := x.letsIn(ctx, cookie{})
	if err != nil {
		x.close()
		return nil, nil, missing(rights, "talk to the X server of display :%d: %v", s.Display, err)
	}
	const trusted = "host.x11 = \"trusted\" (--x11=trusted) does without that protection: every program inside reads all keys and the whole screen then"
	if open {
		x.close()
		return nil, nil, missing("`xhost` lists who is let in without a cookie, and `xhost -si:localuser:$(id -un)` takes that back; or "+trusted,
			"the X server of display :%d lets in every program of yours without asking: it would trust those inside", s.Display)
	}
	c, err := x.authorize(ctx)
	if err != nil {
		return nil, nil, missing(trusted, "the X server of display :%d makes no untrusted clients: %v", s.Display, err)
	}
	return x, authority(s.Display, c), nil
}

// enter connects as the caller does, by a cookie, or without where the server asks for none. The connection stays.
func (x *x11) enter(ctx context.Context, display int) error {
	for _, c := range append(ownCookies(display), cookie{}) {
		conn, ok, err := x.connect(ctx, c)
		if err != nil {
			return err
		}
		if ok {
			x.own, x.open = c, conn
			return nil
		}
	}
	return errors.New("it does not let you in")
}

// xConn is a connection to the server that it has let in.
type xConn struct{ *net.UnixConn }

// connect says hello as the X protocol has it, and reports whether that was answered with yes.
func (x *x11) connect(ctx context.Context, c cookie) (*xConn, bool, error) {
	conn, err := dialUnix(ctx, x.socket)
	if err != nil {
		return nil, false, err
	}
	fail := func(err error) (*xConn, bool, error) { conn.Close(); return nil, false, err }
	if err := conn.SetDeadline(time.Now().Add(messageTime)); err != nil {
		return fail(err)
	}
	name := cookieName
	if c.data == nil {
		name = ""
	}
	hello := []byte{'l', 0, 11, 0, 0, 0}
	hello = binary.LittleEndian.AppendUint16(hello, uint16(len(name)))
	hello = binary.LittleEndian.AppendUint16(hello, uint16(len(c.data)))
	hello = append(hello, 0, 0)
	hello = append(pad(append(hello, name...)), c.data...)
	if _, err := conn.Write(pad(hello)); err != nil {
		return fail(err)
	}
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return fail(err)
	}
	if _, err := io.CopyN(io.Discard, conn, 4*int64(binary.LittleEndian.Uint16(head[6:]))); err != nil {
		return fail(err)
	}
	if head[0] != 1 {
		conn.Close()
		return nil, false, nil
	}
	return &xConn{conn}, true, nil
}

func (x *x11) letsIn(ctx context.Context, c cookie) (bool, error) {
	conn, ok, err := x.connect(ctx, c)
	if conn != nil {
		conn.Close()
	}
	return ok, err
}

// pad fills up to a multiple of four bytes.
func pad(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }

// ask sends a request and returns the reply; minor is of an extension, and the data byte of a core request.
func (c *xConn) ask(major, minor byte, body []byte) ([]byte, error) {
	if err := c.tell(major, minor, body); err != nil {
		return nil, err
	}
	reply := make([]byte, 32)
	if _, err := io.ReadFull(c, reply); err != nil {
		return nil, err
	}
	if reply[0] != 1 {
		return nil, fmt.Errorf("it refused (error %d)", reply[1])
	}
	more := binary.LittleEndian.Uint32(reply[4:])
	if more > 1<<10 {
		return nil, errors.New("its answer is too long")
	}
	rest := make([]byte, 4*more)
	_, err := io.ReadFull(c, rest)
	return append(reply, rest...), err
}

func (c *xConn) tell(major, minor byte, body []byte) error {
	body = pad(body)
	head := binary.LittleEndian.AppendUint16([]byte{major, minor}, uint16(1+len(body)/4))
	_, err := c.Write(append(head, body...))
	return err
}

// security finds the SECURITY extension.
func (c *xConn) security() (major byte, err error) {
	const queryExtension, name = 98, "SECURITY"
	body := binary.LittleEndian.AppendUint16(nil, uint16(len(name)))
	reply, err := c.ask(queryExtension, 0, append(append(body, 0, 0), name...))
	if err != nil {
		return 0, err
	}
	if reply[8] == 0 {
		return 0, errors.New("it has no SECURITY extension")
	}
	return reply[9], nil
}

// The requests of the SECURITY extension.
const (
	securityGenerate = 1
	securityRevoke   = 2
)

// authorize makes a cookie for untrusted clients, which lasts until it is revoked or x.kept is gone, and tries it.
func (x *x11) authorize(ctx context.Context) (cookie, error) {
	c := x.open
	var err error
	if x.major, err = c.security(); err != nil {
		x.close()
		return cookie{}, err
	}
	const timeout, trustLevel = 1 << 0, 1 << 1
	body := binary.LittleEndian.AppendUint16(nil, uint16(len(cookieName)))
	body = binary.LittleEndian.AppendUint16(body, 0)
	body = binary.LittleEndian.AppendUint32(body, timeout|trustLevel)
	body = pad(append(body, cookieName...))
	body = binary.LittleEndian.AppendUint32(body, 60) // seconds without a client
	body = binary.LittleEndian.AppendUint32(body, 1)  // untrusted
	reply, err := c.ask(x.major, securityGenerate, body)
	if err == nil && (len(reply) < 33 || int(binary.LittleEndian.Uint16(reply[12:])) > len(reply)-32) {
		err = errors.New("it gave no cookie")
	}
	if err != nil {
		x.close()
		return cookie{}, err
	}
	n := int(binary.LittleEndian.Uint16(reply[12:]))
	x.id = binary.LittleEndian.Uint32(reply[8:])
	made := cookie{reply[32 : 32+n]}
	if x.kept, _, err = x.connect(ctx, made); err != nil || x.kept == nil {
		x.close()
		return cookie{}, errors.New("it does not know the cookie that it gave")
	}
	return made, nil
}

// close takes the cookie back, and so ends who was let in by it.
func (x *x11) close() {
	if x.open == nil {
		return
	}
	defer x.open.Close()
	if x.kept != nil {
		defer x.kept.Close()
	}
	_ = x.open.SetDeadline(time.Now().Add(messageTime))
	if x.id != 0 && x.open.tell(x.major, securityRevoke, binary.LittleEndian.AppendUint32(nil, x.id)) == nil {
		_, _ = x.open.security() // by its answer the other was carried out
	}
	x.open, x.kept, x.id = nil, nil, 0
}

// The families of an entry in an authority file (Xau(3)).
const (
	familyLocal = 256
	familyWild  = 65535
)

// authority is such a file with one entry, for the display by whatever name.
func authority(display int, c cookie) []byte {
	if c.data == nil {
		return nil
	}
	b := binary.BigEndian.AppendUint16(nil, familyWild)
	for _, field := range []string{"", fmt.Sprint(display), cookieName, string(c.data)} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
	}
	return b
}

// ownCookies are those that the caller's authority file has for a display of this machine.
func ownCookies(display int) []cookie {
	name := os.Getenv("XAUTHORITY")
	if name == "" {
		name = filepath.Join(os.Getenv("HOME"), ".Xauthority")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil
	}
	host, _ := os.Hostname()
	return parseAuthority(data, display, host)
}

// parseAuthority reads entries as far as they are whole.
func parseAuthority(data []byte, display int, host string) []cookie {
	var found []cookie
	for len(data) >= 2 {
		family := binary.BigEndian.Uint16(data)
		data = data[2:]
		var fields [4]string // address, display, name, data
		for i := range fields {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return found
			}
			n := 2 + int(binary.BigEndian.Uint16(data))
			fields[i], data = string(data[2:n]), data[n:]
		}
		here := family == familyWild || family == familyLocal && fields[0] == host
		if here && (fields[1] == "" || fields[1] == fmt.Sprint(display)) && fields[2] == cookieName {
			found = append(found, cookie{[]byte(fields[3])})
		}
	}
	return found
}

package cgroup

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// This is as much of D-Bus as it takes to have systemd start a scope, at its own socket and so without a bus
// (https://dbus.freedesktop.org/doc/dbus-specification.html). The libraries for it need package net, which every start would
// wait for.

// peer is a connection to systemd.
type peer struct {
	fd   int
	stop func() bool // of the context's hold on the connection
}

// dial connects and authenticates. When ctx ends the connection does, and with it every wait.
func dial(ctx context.Context, socket string) (*peer, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &peer{fd: fd, stop: context.AfterFunc(ctx, func() { _ = unix.Shutdown(fd, unix.SHUT_RDWR) })}
	if err := p.open(socket); err != nil {
		p.close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return p, nil
}

func (p *peer) open(socket string) error {
	// Of a socket of this kind that is how long connect waits while others do (socket(7), SO_SNDTIMEO).
	if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 3}); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(p.fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return &os.PathError{Op: "connect", Path: socket, Err: err}
	}
	// Seen from another pid namespace the peer has no number here (unix(7), SO_PEERCRED). A container that was lent the
	// socket would have systemd move somebody else's process.
	cred, err := unix.GetsockoptUcred(p.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if cred.Pid == 0 || int(cred.Uid) != os.Geteuid() {
		return errors.New("it runs in another pid namespace, or as another user")
	}
	// The answer is waited for, as the first message's bytes must not come with the last of these.
	if err := p.write([]byte("\x00AUTH EXTERNAL " + hex.EncodeToString([]byte(strconv.Itoa(os.Geteuid()))) + "\r\nBEGIN\r\n")); err != nil {
		return err
	}
	line, err := p.line()
	if err == nil && !bytes.HasPrefix(line, []byte("OK ")) {
		err = fmt.Errorf("it does not take us for uid %d: %q", os.Geteuid(), line)
	}
	return err
}

func (p *peer) close() {
	// False: the context has ended, and its function may still use the descriptor's number.
	if p.stop() {
		_ = unix.Close(p.fd)
	}
}

func (p *peer) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(p.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("sendmsg", err)
		}
		b = b[n:]
	}
	return nil
}

// Read implements io.Reader.
func (p *peer) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(p.fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// line reads a line of the authentication, and no byte of what follows.
func (p *peer) line() ([]byte, error) {
	var line []byte
	for len(line) < 1024 {
		var c [1]byte
		if _, err := p.Read(c[:]); err != nil {
			return nil, err
		}
		if c[0] == '\n' {
			return bytes.TrimRight(line, "\r"), nil
		}
		line = append(line, c[0])
	}
	return nil, errors.New("it does not speak D-Bus")
}

// The types of messages, and of the fields in their heads.
const (
	typeCall, typeReply, typeError, typeSignal = 1, 2, 3, 4

	fieldPath, fieldInterface, fieldMember, fieldError, fieldReplyTo, fieldDestination, fieldSignature = 1, 2, 3, 4, 5, 6, 8
)

// encoder writes values as D-Bus has them, each at a multiple of its size from the beginning of the message.
type encoder struct{ b []byte }

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) uint32(n uint32) { e.align(4); e.b = binary.NativeEndian.AppendUint32(e.b, n) }
func (e *encoder) uint64(n uint64) { e.align(8); e.b = binary.NativeEndian.AppendUint64(e.b, n) }
func (e *encoder) string(s string) { e.uint32(uint32(len(s))); e.b = append(append(e.b, s...), 0) }
func (e *encoder) signature(s string) {
	e.b = append(append(append(e.b, byte(len(s))), s...), 0)
}

// array writes what elements writes as an array of values that are aligned to n.
func (e *encoder) array(n int, elements func()) {
	e.uint32(0)
	at := len(e.b)
	e.align(n) // which does not count
	begin := len(e.b)
	elements()
	binary.NativeEndian.PutUint32(e.b[at-4:], uint32(len(e.b)-begin))
}

// variant writes a value together with its type.
func (e *encoder) variant(value any) {
	switch v := value.(type) {
	case string:
		e.signature("s")
		e.string(v)
	case uint64:
		e.signature("t")
		e.uint64(v)
	case []uint32:
		e.signature("au")
		e.array(4, func() {
			for _, n := range v {
				e.uint32(n)
			}
		})
	case []string:
		e.signature("as")
		e.array(4, func() {
			for _, s := range v {
				e.string(s)
			}
		})
	default:
		panic(fmt.Sprintf("bug: a D-Bus value of type %T", v))
	}
}

// property is a pair of StartTransientUnit: a string, a uint64, or a list of strings or uint32.
type property struct {
	name  string
	value any
}

// call is the whole message of a call with the signature ssa(sv)a(sa(sv)), the last of them empty.
func call(serial uint32, member, first, second string, properties []property) []byte {
	var body encoder
	body.string(first)
	body.string(second)
	body.array(8, func() {
		for _, p := range properties {
			body.align(8)
			body.string(p.name)
			body.variant(p.value)
		}
	})
	body.array(8, func() {})

	e := encoder{[]byte{endianness(), typeCall, 0, 1}}
	e.uint32(uint32(len(body.b)))
	e.uint32(serial)
	e.array(8, func() {
		field := func(code byte, kind, value string) {
			e.align(8)
			e.b = append(e.b, code)
			e.signature(kind)
			if kind == "g" {
				e.signature(value)
			} else {
				e.string(value)
			}
		}
		field(fieldPath, "o", "/org/freedesktop/systemd1")
		field(fieldInterface, "s", managerName)
		field(fieldMember, "s", member)
		field(fieldDestination, "s", "org.freedesktop.systemd1")
		field(fieldSignature, "g", "ssa(sv)a(sa(sv))")
	})
	e.align(8)
	return append(e.b, body.b...)
}

func endianness() byte {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return 'l'
	}
	return 'B'
}

// message is as much of one that came as anybody here asks for.
type message struct {
	kind            byte
	replyTo         uint32
	member, errName string
	interfaceName   string
	signature       string
	body            decoder
}

// maxMessage is more than systemd has to say to us; the specification has 128 MiB.
const maxMessage = 16 << 20

var errNoDBus = errors.New("no D-Bus message")

// receive reads one message.
func receive(r io.Reader) (*message, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch head[0] {
	case 'l':
	case 'B':
		order = binary.BigEndian
	default:
		return nil, errNoDBus
	}
	fields, body := uint64(order.Uint32(head[12:])), uint64(order.Uint32(head[4:]))
	padded := (fields + 7) &^ 7
	if head[3] != 1 || padded+body > maxMessage {
		return nil, errNoDBus
	}
	rest := make([]byte, padded+body)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, err
	}
	m := &message{kind: head[1], body: decoder{b: rest[padded:], order: order}}
	d := decoder{b: rest[:fields], order: order}
	for len(d.b) > d.at {
		d.align(8)
		code, kind := d.byte(), d.signature()
		var text string
		var number uint32
		switch kind {
		case "s", "o":
			text = d.string()
		case "g":
			text = d.signature()
		case "u":
			number = d.uint32()
		default:
			return nil, errNoDBus
		}
		switch code {
		case fieldInterface:
			m.interfaceName = text
		case fieldMember:
			m.member = text
		case fieldError:
			m.errName = text
		case fieldReplyTo:
			m.replyTo = number
		case fieldSignature:
			m.signature = text
		}
	}
	return m, d.err
}

// decoder reads what an encoder wrote. After an error every value is empty.
type decoder struct {
	b     []byte
	at    int
	order binary.ByteOrder
	err   error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b)-d.at {
		d.err = errNoDBus
		d.at = len(d.b)
		return make([]byte, 8)
	}
	d.at += n
	return d.b[d.at-n : d.at]
}

func (d *decoder) align(n int) { d.take(-d.at & (n - 1)) }
func (d *decoder) byte() byte  { return d.take(1)[0] }
func (d *decoder) uint32() uint32 {
	d.align(4)
	return d.order.Uint32(d.take(4))
}

func (d *decoder) string() string {
	n := d.uint32()
	if uint64(n) >= uint64(len(d.b)) {
		n = uint32(len(d.b)) // too much, for take to tell
	}
	return d.text(int(n))
}

func (d *decoder) signature() string { return d.text(int(d.byte())) }

// text is n bytes and a NUL.
func (d *decoder) text(n int) string {
	b := d.take(n + 1)
	if d.err != nil {
		return ""
	}
	return string(b[:n])
}

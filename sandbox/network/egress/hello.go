package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// TLS as RFC 8446 has it, sections 4 and 5.
const (
	recordChange    = 20
	recordAlert     = 21
	recordHandshake = 22
	clientHello     = 1
	extensionSNI    = 0
	hostName        = 0
	maxRecord       = 1 << 14
	// leastSealed is what every cipher of TLS 1.2 makes of the shortest message, a Finished: 16 bytes, a tag or MAC, and most a nonce.
	leastSealed = 16 + 8
)

// hello reads the first flight of a TLS client.
func (c *Client) hello() ([]byte, error) {
	raw, message, err := c.handshake()
	if err != nil {
		return c.oddRead(err)
	}
	return c.judgeHello(raw, message)
}

// isHello tells what a server may pass over to the ClientHello behind it, an alert that is a warning (RFC 5246 7.2) or a change of
// ciphers, and the ClientHello of SSLv2, which names no server and which OpenSSL's reads to this day (RFC 5246 E.2). What is in a
// wrong place is hello's to refuse.
func (c *Client) isHello(first byte) bool {
	begins := func(n int, is func([]byte) bool) bool {
		head, err := c.r.Peek(n)
		return err == nil && is(head)
	}
	version := func(head []byte) bool { return head[1] == 3 }
	switch {
	case first == recordChange:
		return begins(2, version) && begins(5, func(head []byte) bool { return head[2] <= 4 && head[3] == 0 && head[4] == 1 })
	case first == recordAlert:
		return begins(2, version) && begins(5, func(head []byte) bool { return head[2] <= 4 && head[3] == 0 && head[4] == 2 })
	case first&0xc0 == 0x80: // a length, of up to 16 KiB
		return begins(3, func(head []byte) bool { return head[2] == clientHello }) &&
			begins(5, func(head []byte) bool { return head[3] == 3 && head[4] <= 4 || head[3] == 0 && head[4] == 2 })
	}
	return false
}

func (c *Client) judgeHello(raw, message []byte) ([]byte, error) {
	name, err := ServerName(message)
	var refused *RefusedError
	switch {
	case err != nil:
		c.head = raw
		return c.odd("ClientHello: %v", err)
	case name == "":
		refused = c.unnamed()
	default:
		refused = c.named(name)
	}
	if refused != nil {
		return nil, refused
	}
	c.state = atHello
	return raw, nil
}

// oddRead is odd for an error that may also be the connection's.
func (c *Client) oddRead(err error) ([]byte, error) {
	var form formError
	if errors.As(err, &form) {
		return c.odd("%s", string(form))
	}
	return nil, err
}

type formError string

func (e formError) Error() string { return string(e) }

// handshake reads records until the first handshake message is whole. raw is all of what was read.
func (c *Client) handshake() (raw, message []byte, err error) {
	for {
		head, err := c.r.Peek(5)
		if err != nil {
			return nil, nil, err
		}
		size := int(binary.BigEndian.Uint16(head[3:]))
		if head[0] != recordHandshake || head[1] != 3 || size == 0 || size > maxRecord {
			c.head = raw
			return nil, nil, formError("no TLS record with a ClientHello")
		}
		if len(raw)+5+size > maxHead {
			c.head = raw
			return nil, nil, formError(fmt.Sprintf("ClientHello of more than %d bytes", maxHead))
		}
		at := len(raw)
		raw = append(raw, make([]byte, 5+size)...)
		if err := c.fill(raw[at:]); err != nil {
			return nil, nil, err
		}
		message = append(message, raw[at+5:]...)
		if len(message) < 4 {
			continue
		}
		if message[0] != clientHello {
			c.head = raw
			return nil, nil, formError("a TLS client that does not begin with a ClientHello")
		}
		want := 4 + int(message[1])<<16 + int(message[2])<<8 + int(message[3])
		if want > maxHead {
			c.head = raw
			return nil, nil, formError(fmt.Sprintf("ClientHello of more than %d bytes", maxHead))
		}
		if len(message) > want && c.say == Allowed { // a second one, perhaps: see moreHellos
			return nil, nil, formError("something behind the ClientHello in its record")
		}
		if len(message) >= want {
			return raw, message[:want], nil
		}
	}
}

func (c *Client) fill(into []byte) error {
	for n := 0; n < len(into); {
		got, err := c.r.Read(into[n:])
		n += got
		if err != nil && n < len(into) {
			return err
		}
	}
	return nil
}

// moreHellos looks for a second ClientHello, which follows where the server asked for one (RFC 8446 4.1.4): a name that is
// said only there would be the one that counts. Behind a change of ciphers, which TLS 1.3 puts before it for the sake
// of old middle boxes, a record may as well be encrypted (TLS 1.2): of those that are long enough for that, only one that begins
// like a ClientHello is taken for one.
func (c *Client) moreHellos() ([]byte, error) {
	head, err := c.r.Peek(5)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[3:]))
	switch {
	case head[0] == recordChange && size == 1:
		c.changed = true
		raw := make([]byte, 6)
		return raw, c.fill(raw)
	case head[0] != recordHandshake || size == 0 || size > maxRecord:
		c.state = opaque
		return nil, nil
	}
	start, err := c.r.Peek(5 + min(size, 6))
	if err != nil {
		return nil, err
	}
	if start[5] != clientHello || c.changed && size >= leastSealed && start[9] != 3 {
		c.state = opaque
		return nil, nil
	}
	return c.hello()
}

// ServerName is the host name in a ClientHello, a handshake message with its header; "" where there is none
// (RFC 6066 3). It refuses what is cut short, repeats the extension, or names several.
func ServerName(message []byte) (string, error) {
	m := cursor(message)
	if m.number(1) != clientHello || m.number(3) != len(m) {
		return "", errors.New("wrong header")
	}
	if !m.skip(2+32) || !m.skip(m.number(1)) || !m.skip(m.number(2)) || !m.skip(m.number(1)) {
		return "", errCut
	}
	if len(m) == 0 {
		return "", nil // before extensions were known
	}
	all, ok := m.take(m.number(2))
	if !ok || len(m) != 0 {
		return "", errCut
	}
	name, found := "", false
	for len(all) > 0 {
		kind := all.number(2)
		data, ok := all.take(all.number(2))
		if !ok || kind < 0 {
			return "", errCut
		}
		if kind != extensionSNI {
			continue
		}
		if found {
			return "", errors.New("two names of the server")
		}
		found = true
		list, ok := data.take(data.number(2))
		if !ok || len(data) != 0 || list.number(1) != hostName {
			return "", errors.New("a name of the server that is no host name")
		}
		one, ok := list.take(list.number(2))
		if !ok || len(list) != 0 || len(one) == 0 {
			return "", errors.New("not one name of the server")
		}
		name = string(one)
	}
	return name, nil
}

var errCut = errors.New("cut short")

// cursor is what is left of a message. Its numbers are -1 where nothing is left, which take and skip refuse.
type cursor []byte

func (c *cursor) number(bytes int) int {
	if len(*c) < bytes {
		*c = nil
		return -1
	}
	n := 0
	for _, b := range (*c)[:bytes] {
		n = n<<8 | int(b)
	}
	*c = (*c)[bytes:]
	return n
}

func (c *cursor) take(n int) (cursor, bool) {
	if n < 0 || n > len(*c) {
		return nil, false
	}
	out := (*c)[:n]
	*c = (*c)[n:]
	return out, true
}

func (c *cursor) skip(n int) bool {
	_, ok := c.take(n)
	return ok
}

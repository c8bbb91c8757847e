package egress

import (
	"bufio"
	"fmt"
	"io"
	"slices"
)

// Client reads what a client sends, and lets it pass once it has said a name that it may mean. It changes not a byte.
//
// Where the address was learnt by name (Allowed) it is strict: on the ports where TLS and HTTP are spoken there is
// nothing else, and what two readers could take for two different things is refused, for the server is one of them. On other
// ports whatever begins as neither passes.
type Client struct {
	r     *bufio.Reader
	from  io.Reader
	say   Say
	port  uint16
	check func(name string) Verdict

	state   state
	left    int64 // of a body, or of a chunk with its end
	head    []byte
	slow    bool // the first line did not end in time
	changed bool // a TLS client has said that it changes to a cipher

	// Switched waits for the server's answer to the first request, and tells whether it was 101: what follows is no HTTP any more. nil:
	// no server ever says so.
	Switched func() bool
	requests int
	asked    bool // the first request asked for a WebSocket, and what came of it is not known
}

type state int

const (
	atStart    state = iota // nothing has been read
	atHello                 // behind a ClientHello
	atRequest               // before a request
	inBody                  // left bytes
	atChunk                 // before a chunk's size
	inChunk                 // left bytes
	atChunkEnd              // before the end of its line
	atTrailers              // behind the last chunk
	opaque                  // nothing more to be seen
)

// A RefusedError says why a connection is not to go on.
type RefusedError struct {
	Reason string // OtherName, Denied, NoName, BadForm
	Name   string // that the client said
	Entry  string // that decided
	Detail string // what of its form is wrong
}

func (e *RefusedError) Error() string {
	switch {
	case e.Name != "":
		return fmt.Sprintf("%s: the client asks for %q", e.Reason, e.Name)
	case e.Detail != "":
		return fmt.Sprintf("%s: %s", e.Reason, e.Detail)
	}
	return e.Reason
}

const (
	maxHead  = 64 << 10 // of a ClientHello, and of an HTTP request's head
	readSize = 32 << 10
)

// Ports on which nothing but TLS, nothing but HTTP, or one of the two is spoken (IANA's registry, and habit).
var (
	tlsPorts  = []uint16{443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995, 5061, 5671, 6514, 6697, 8443, 8883, 9443}
	httpPorts = []uint16{80, 591, 2480, 3000, 5000, 8000, 8008, 8080, 8081, 8088, 8888, 9000}
)

func speaksTLSOrHTTP(port uint16) bool {
	return slices.Contains(tlsPorts, port) || slices.Contains(httpPorts, port)
}

// NewClient reads from r a connection to a port; check answers for a name that it says.
func NewClient(r io.Reader, say Say, port uint16, check func(name string) Verdict) *Client {
	c := &Client{r: bufio.NewReaderSize(r, readSize), from: r, say: say, port: port, check: check}
	if say == Nothing {
		c.state = opaque
	}
	return c
}

// Next returns the next bytes to pass on, good until the call after it. done says that from here on everything passes:
// what Rest returns, and then whatever r has. The error is io.EOF at the end, a *RefusedError, or r's own.
func (c *Client) Next() (data []byte, done bool, err error) {
	switch c.state {
	case atStart:
		data, err = c.begin()
	case atHello:
		data, err = c.moreHellos()
	case atRequest:
		data, err = c.request()
	case inBody, inChunk:
		data, err = c.body()
	case atChunk:
		data, err = c.chunk()
	case atChunkEnd:
		data, err = c.chunkEnd()
	case atTrailers:
		data, err = c.trailer()
	}
	return data, c.state == opaque, err
}

// Rest is what has been read from r and not been returned.
func (c *Client) Rest() []byte {
	rest, _ := c.r.Peek(c.r.Buffered())
	return rest
}

// begin finds out what is spoken.
func (c *Client) begin() ([]byte, error) {
	first, err := c.r.Peek(1)
	if err != nil {
		return nil, err
	}
	switch {
	case first[0] == recordHandshake || c.isHello(first[0]):
		return c.hello()
	case (isToken(first[0]) || isBlank(first[0])) && c.isRequest():
		if c.slow {
			return c.odd("a first line that does not end")
		}
		c.state = atRequest
		return nil, nil
	case first[0] == '\r' || first[0] == '\n':
		return c.odd("it begins with an empty line")
	case speaksTLSOrHTTP(c.port):
		return c.odd("neither TLS nor HTTP, on a port of theirs")
	}
	c.state = opaque
	return nil, nil
}

// odd refuses a form, or where only denied names matter lets it pass.
func (c *Client) odd(format string, args ...any) ([]byte, error) {
	if c.say != Allowed {
		head := c.head
		c.head, c.state = nil, opaque
		return head, nil
	}
	return nil, &RefusedError{Reason: BadForm, Detail: fmt.Sprintf(format, args...)}
}

// unnamed refuses a client that says no name, where it must.
func (c *Client) unnamed() *RefusedError {
	if c.say != Allowed {
		return nil
	}
	return &RefusedError{Reason: NoName}
}

// named asks for a name that the client says.
func (c *Client) named(name string) *RefusedError {
	if v := c.check(name); !v.OK {
		return &RefusedError{Reason: v.Reason, Name: name, Entry: v.Entry}
	}
	return nil
}

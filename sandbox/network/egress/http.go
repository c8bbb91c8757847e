package egress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// HTTP/1.1 as RFC 9112 has it. There is no tolerance here for what the RFC lets a server forgive, for two readers that
// forgive differently see two different requests.

const (
	maxLine       = 16 << 10
	firstLineTime = 10 * time.Second
)

func isToken(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// isBlank tells what some server takes for a space: the blanks of ASCII, and those of Latin-1 that Python parts words at.
func isBlank(b byte) bool {
	return b == ' ' || b == '\t' || b == '\v' || b == '\f' || b >= 0x1c && b <= 0x1f || b == 0x85 || b == 0xa0
}

// isRequest looks whether the first line is what some server could take for a request's, or so long in coming that nobody can
// tell (slow). The version tells, wherever it stands: servers forgive any blank before, between and behind the words (RFC 9112
// 3), and take any word for a method. What is in a wrong place is parseRequest's to refuse.
func (c *Client) isRequest() bool {
	if d, ok := c.from.(interface{ SetReadDeadline(time.Time) error }); ok {
		// A protocol whose first words look like a request's and end in no line is not to wait for ever.
		if d.SetReadDeadline(time.Now().Add(firstLineTime)) == nil {
			defer func() { _ = d.SetReadDeadline(time.Time{}) }()
		}
	}
	first, parted := false, false // the first word has begun; has ended
	for n := 1; ; n++ {
		line, err := c.r.Peek(n)
		var late interface{ Timeout() bool }
		if errors.As(err, &late) && late.Timeout() || n > maxLine {
			c.slow = true
			return true
		}
		if err != nil {
			return false // a request that ends in its first line is none
		}
		switch last := line[n-1]; {
		case last == '\n':
			return saysHTTP(line)
		case isToken(last):
			first = true
		case isBlank(last):
			parted = parted || first
		case last == '\r':
		case !parted, last < ' ': // no text
			return saysHTTP(line)
		}
	}
}

func saysHTTP(line []byte) bool { return bytes.Contains(bytes.ToUpper(line), []byte("HTTP/")) }

// request reads the head of the next request.
func (c *Client) request() ([]byte, error) {
	if _, err := c.r.Peek(1); err != nil {
		return nil, err
	}
	if c.asked {
		// Whatever a client sends behind such a request, a server that speaks no WebSocket reads on for the next one.
		if c.asked = false; c.Switched != nil && c.Switched() {
			c.state = opaque
			return nil, nil
		}
	}
	c.head = nil
	for {
		line, err := c.line()
		if err != nil {
			return c.oddRead(err)
		}
		if len(line) > 0 {
			continue
		}
		if len(c.head) == 2 {
			return c.take(), nil // an empty line behind a body, which servers pass over
		}
		break
	}
	r, err := parseRequest(c.head)
	if err != nil {
		return c.odd("HTTP: %v", err)
	}
	if refused := c.judge(r); refused != nil {
		return nil, refused
	}
	if r.websocket && c.requests > 0 {
		// Which answer of several is the one to it could be read in two ways.
		return c.odd("HTTP: an Upgrade to a WebSocket behind other requests: it takes a connection of its own")
	}
	c.asked = r.websocket
	c.requests++
	switch {
	case r.chunked:
		c.state = atChunk
	case r.length > 0:
		c.state, c.left = inBody, r.length
	}
	return c.take(), nil
}

func (c *Client) take() []byte {
	head := c.head
	c.head = nil
	return head
}

// line reads one line into head, and returns it without its end.
func (c *Client) line() ([]byte, error) {
	at := len(c.head)
	for {
		part, err := c.r.ReadSlice('\n')
		c.head = append(c.head, part...)
		if len(c.head) > maxHead {
			return nil, formError(fmt.Sprintf("HTTP: a head of more than %d bytes", maxHead))
		}
		if err == nil {
			break
		}
		if len(part) == 0 || err == io.EOF {
			return nil, err
		}
	}
	line, ok := bytes.CutSuffix(c.head[at:], []byte("\r\n"))
	if !ok || bytes.ContainsAny(line, "\r\n\x00") {
		return nil, formError("HTTP: a line that does not end in CR LF, or holds what a line cannot")
	}
	return line, nil
}

// request is what matters of a request.
type request struct {
	hosts     []string // that it names
	length    int64    // of its body
	chunked   bool
	websocket bool
}

func (c *Client) judge(r *request) *RefusedError {
	if len(r.hosts) == 0 {
		return c.unnamed()
	}
	for _, host := range r.hosts {
		if refused := c.named(host); refused != nil {
			return refused
		}
	}
	return nil
}

func parseRequest(head []byte) (*request, error) {
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 || parts[0] == "" || strings.ContainsFunc(parts[0], func(r rune) bool { return r > 0x7f || !isToken(byte(r)) }) {
		return nil, fmt.Errorf("no request: %.80q", lines[0])
	}
	if parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return nil, fmt.Errorf("version %.20q: only the requests of HTTP/1 can be looked at one by one", parts[2])
	}
	r := &request{}
	if err := r.target(parts[0], parts[1]); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, line := range lines[1:] {
		name, value, err := field(line)
		if err != nil {
			return nil, err
		}
		if err := r.header(name, value, seen[name], parts[2] == "HTTP/1.0"); err != nil {
			return nil, err
		}
		seen[name] = true
	}
	if r.chunked && seen["content-length"] {
		return nil, fmt.Errorf("two lengths of the body")
	}
	if parts[2] == "HTTP/1.1" && !seen["host"] {
		r.hosts = nil // what stands in the target alone is not what every server takes
	}
	return r, nil
}

// field parts a line of a head; the name is in lower case.
func field(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 0x7f || !isToken(byte(r)) }) {
		return "", "", fmt.Errorf("no header: %.80q", line)
	}
	return strings.ToLower(name), strings.Trim(value, " \t"), nil
}

// target takes the request's target, which may name the host a second time (RFC 9112 3.2).
func (r *request) target(method, target string) error {
	if method == "CONNECT" {
		return fmt.Errorf("CONNECT: where a proxy leads cannot be seen")
	}
	switch {
	case strings.HasPrefix(target, "/"), target == "*":
		return nil
	}
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || scheme == "" || strings.ContainsFunc(scheme, func(r rune) bool { return r > 0x7f || !isToken(byte(r)) }) {
		return fmt.Errorf("no target: %.80q", target)
	}
	// To one reader a backslash ends the host, and to another what stands before an @ behind it is a user's name.
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	host, err := hostOf(authority)
	r.hosts = append(r.hosts, host)
	return err
}

// hostOf is an authority without its port.
func hostOf(authority string) (string, error) {
	if authority == "" || strings.ContainsAny(authority, "@, \t\\/?#%") {
		return "", fmt.Errorf("no host: %.80q", authority)
	}
	if strings.HasPrefix(authority, "[") {
		host, _, _ := strings.Cut(authority, "]")
		return host + "]", nil
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if hasPort && strings.Trim(port, "0123456789") != "" || host == "" {
		return "", fmt.Errorf("no host: %.80q", authority)
	}
	return host, nil
}

func (r *request) header(name, value string, again, old bool) error {
	switch name {
	case "host":
		if again {
			return fmt.Errorf("two hosts")
		}
		host, err := hostOf(value)
		r.hosts = append(r.hosts, host)
		return err
	case "content-length":
		if again || value == "" || strings.Trim(value, "0123456789") != "" {
			return fmt.Errorf("Content-Length %.80q", value)
		}
		n, err := strconv.ParseInt(value, 10, 64)
		r.length = n
		return err
	case "transfer-encoding":
		if again || old || !strings.EqualFold(value, "chunked") {
			return fmt.Errorf("Transfer-Encoding %.80q", value)
		}
		r.chunked = true
	case "connection":
		// A proxy before the server takes out the headers that are named here, and the server reads another request (RFC 9110
		// 7.6.1: none that is meant for all may be).
		for option := range strings.SplitSeq(value, ",") {
			if option = strings.ToLower(strings.TrimSpace(option)); countsInHead(option) {
				return fmt.Errorf("Connection %.80q", value)
			}
		}
	case "upgrade":
		if !strings.EqualFold(value, "websocket") {
			return fmt.Errorf("Upgrade to %.80q, where requests cannot be looked at", value)
		}
		r.websocket = true
	}
	return nil
}

// countsInHead tells the headers by which servers find a request's host and its end.
func countsInHead(name string) bool {
	return name == "host" || name == "content-length" || name == "transfer-encoding"
}

// body passes what is left of a body or a chunk.
func (c *Client) body() ([]byte, error) {
	if _, err := c.r.Peek(1); err != nil {
		return nil, err
	}
	n := int(min(c.left, int64(c.r.Buffered())))
	data := make([]byte, n)
	if err := c.fill(data); err != nil {
		return nil, err
	}
	if c.left -= int64(n); c.left == 0 {
		if c.state == inChunk {
			c.state = atChunkEnd
		} else {
			c.state = atRequest
		}
	}
	return data, nil
}

func (c *Client) chunkEnd() ([]byte, error) {
	c.head = nil
	line, err := c.line()
	if err != nil {
		return c.oddRead(err)
	}
	if len(line) > 0 {
		return c.odd("HTTP: a chunk that is longer than its size")
	}
	c.state = atChunk
	return c.take(), nil
}

// chunk reads a chunk's size (RFC 9112 7.1).
func (c *Client) chunk() ([]byte, error) {
	c.head = nil
	line, err := c.line()
	if err != nil {
		return c.oddRead(err)
	}
	digits, _, _ := strings.Cut(string(line), ";")
	digits = strings.TrimRight(digits, " \t")
	size, err := strconv.ParseUint(digits, 16, 62)
	if err != nil || strings.ContainsAny(digits, "+-_ xX") {
		return c.odd("HTTP: a chunk of size %.40q", digits)
	}
	c.state, c.left = inChunk, int64(size)
	if size == 0 {
		c.state = atTrailers
	}
	return c.take(), nil
}

// trailer reads one line behind the last chunk; an empty one is the end. A server that does not know of them begins the next request
// here: so no line may be one's first, nor say what only counts in a head (RFC 9110 6.5.1).
func (c *Client) trailer() ([]byte, error) {
	c.head = nil
	line, err := c.line()
	if err != nil {
		return c.oddRead(err)
	}
	if len(line) == 0 {
		c.state = atRequest
		return c.take(), nil
	}
	switch name, _, err := field(string(line)); {
	case err != nil:
		return c.odd("HTTP: behind the last chunk: %v", err)
	case countsInHead(name) || name == "upgrade":
		return c.odd("HTTP: %s behind the last chunk", name)
	}
	return c.take(), nil
}

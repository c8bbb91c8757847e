package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// pass runs what a client sends through a Client: what came out, and how it ended (nil: at the end).
func pass(in io.Reader, say Say, port uint16, allowed ...string) (out []byte, err error) {
	return passAnswered(in, say, port, nil, allowed...)
}

// passAnswered is pass where the server answers the first request.
func passAnswered(in io.Reader, say Say, port uint16, switched func() bool, allowed ...string) (out []byte, err error) {
	r := bufio.NewReader(in)
	c := NewClient(r, say, port, func(name string) Verdict {
		for _, a := range allowed {
			if strings.EqualFold(strings.TrimSuffix(name, "."), a) {
				return Verdict{OK: say == Allowed, Reason: Denied}
			}
		}
		return Verdict{OK: say != Allowed, Reason: OtherName}
	})
	c.Switched = switched
	for {
		data, done, err := c.Next()
		out = append(out, data...)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		if done {
			out = append(out, c.Rest()...)
			rest, err := io.ReadAll(r)
			return append(out, rest...), err
		}
	}
}

func reasonOf(err error) string {
	var r *RefusedError
	if errors.As(err, &r) {
		return r.Reason
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// helloFor is what Go's client sends first.
func helloFor(t testing.TB, name string, change func(*tls.Config)) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	config := &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}
	if change != nil {
		change(config)
	}
	go func() { _ = tls.Client(here, config).Handshake() }()
	_ = there.SetReadDeadline(time.Now().Add(5 * time.Second))
	head := make([]byte, 5)
	if _, err := io.ReadFull(there, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(there, body); err != nil {
		t.Fatal(err)
	}
	here.Close()
	return append(head, body...)
}

// split cuts one record into several.
func split(record []byte, size int) []byte {
	var out []byte
	for body := record[5:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(out, record[0], record[1], record[2], byte(n>>8), byte(n))
		out, body = append(out, body[:n]...), body[n:]
	}
	return out
}

// join puts what two records hold into one.
func join(a, b []byte) []byte {
	size := len(a) + len(b) - 10
	return append(append([]byte{a[0], a[1], a[2], byte(size >> 8), byte(size)}, a[5:]...), b[5:]...)
}

func TestTLS(t *testing.T) {
	good := helloFor(t, "good.example", nil)
	old := helloFor(t, "good.example", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	evil := helloFor(t, "evil.example", nil)
	change := []byte{20, 3, 3, 0, 1, 1}
	data := []byte{23, 3, 3, 0, 3, 1, 2, 3}
	key := []byte{22, 3, 3, 0, 5, 16, 0, 0, 1, 7}
	sealed := append([]byte{22, 3, 3, 0, 40}, bytes.Repeat([]byte{0x9e}, 40)...)
	for name, c := range map[string]struct {
		sent string
		want string
	}{
		"allowed":                       {string(good) + string(data), ""},
		"TLS 1.2":                       {string(old) + string(key) + string(change) + string([]byte{22, 3, 3, 0, 8, 1, 9, 9, 9, 9, 9, 9, 9}), ""},
		"in pieces":                     {string(split(good, 7)) + string(data), ""},
		"another name":                  {string(evil), OtherName},
		"another name, in pieces":       {string(split(evil, 3)), OtherName},
		"no name":                       {string(helloFor(t, "", nil)), NoName},
		"a second hello":                {string(good) + string(change) + string(good) + string(data), ""},
		"another name in the second":    {string(good) + string(change) + string(evil), OtherName},
		"another name, no change":       {string(good) + string(evil), OtherName},
		"another in the second, pieces": {string(good) + string(change) + string(split(evil, 200)), OtherName},
		// In the record of the first, in a record with something behind it, and begun in a record that is too short to be told.
		"another in one record":          {string(join(good, evil)), BadForm},
		"the same in one record":         {string(join(good, good)), BadForm},
		"another with something behind":  {string(good) + string(change) + string(join(evil, key)), BadForm},
		"another, begun with one byte":   {string(good) + string(split(evil, 1)), OtherName},
		"another, begun with three":      {string(good) + string(change) + string(split(evil, 3)), OtherName},
		"a second hello, one byte":       {string(good) + string(split(good, 1)) + string(data), ""},
		"resumed, TLS 1.2":               {string(old) + string(change) + string(sealed), ""},
		"resumed, begins as a handshake": {string(old) + string(change) + string(sealed[:5]) + "\x01" + string(sealed[6:]), ""},
		"no hello":                       {string(key), BadForm},
		"an endless one":                 {"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + strings.Repeat("a", 1<<14-4), BadForm},
		"SSLv2":                          {"\x80\x2e\x01\x00\x02", BadForm},
		"something else":                 {"SSH-2.0-x\r\n", BadForm},
	} {
		out, err := pass(iotest.OneByteReader(strings.NewReader(c.sent)), Allowed, 443, "good.example")
		if got := reasonOf(err); got != c.want {
			t.Errorf("%s: %q (%v), want %q", name, got, err, c.want)
		}
		if c.want == "" && string(out) != c.sent {
			t.Errorf("%s: %d bytes became %d", name, len(c.sent), len(out))
		}
		if !strings.HasPrefix(c.sent, string(out)) {
			t.Errorf("%s: bytes were changed", name)
		}
		if bytes.Contains(out, []byte("evil.example")) {
			t.Errorf("%s: the other name got through", name)
		}
	}
	// What a server passes over at the beginning hides no name, on no port; what only looks so passes.
	for sent, want := range map[string]string{
		"\x15\x03\x01\x00\x02\x01\x5a" + string(evil): BadForm, "\x14\x03\x03\x00\x01\x01" + string(evil): BadForm,
		"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10": BadForm, "\x80\x2e\x01\x00\x02\x00\x15": BadForm,
		string(evil): OtherName, string(good): "",
		"\x15\x00\x00\x00": "", "\x15\x03\x01\x00\x10abc": "", "\x14": "", "\xff\xfd\x01": "", "\x80\x00\x00\x28": "", "\x80\x2e\x01\x07\x01": "",
	} {
		out, err := pass(iotest.OneByteReader(strings.NewReader(sent)), Allowed, 10443, "good.example")
		if got := reasonOf(err); got != want || want == "" && string(out) != sent || want != "" && len(out) > 0 {
			t.Errorf("%.20q: %q (%v), want %q; %d bytes passed", sent, got, err, want, len(out))
		}
	}
	// Where only what is denied matters, the rest passes.
	for sent, want := range map[string]string{string(good): "", string(evil): Denied, string(join(evil, good)): Denied, string(helloFor(t, "", nil)): "", "whatever": "", "\x16\x03": "unexpected EOF"} {
		out, err := pass(strings.NewReader(sent), NotDenied, 443, "evil.example")
		if got := reasonOf(err); got != want && want != "unexpected EOF" || want == "" && string(out) != sent {
			t.Errorf("%.10q: %q, %d bytes", sent, got, len(out))
		}
	}
}

func TestHTTP(t *testing.T) {
	const ok = "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"
	const evil = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"
	post := func(head, body string) string {
		return "POST / HTTP/1.1\r\nHost: good.example\r\n" + head + "\r\n\r\n" + body
	}
	for sent, want := range map[string]string{
		ok: "", ok + ok: "", "GET / HTTP/1.0\r\nHost: GOOD.example:80\r\n\r\n": "", "GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n": "",
		"OPTIONS * HTTP/1.1\r\nhost:good.example.\r\n\r\n": "",
		post("Content-Length: 5", "12345") + ok:            "", post("Content-Length: 0", "") + "\r\n" + ok: "",
		post("Transfer-Encoding: chunked", "5;x=y\r\n12345\r\n0\r\nT: v\r\n\r\n") + ok: "",
		evil: OtherName, ok + evil: OtherName,
		// Blanks where servers forgive them, on whatever port: Python's http.server splits at any, Go's takes any method.
		" " + evil: BadForm, "\t" + evil: BadForm, "GET\t/\tHTTP/1.1\r\nHost: evil.example\r\n\r\n": BadForm,
		"GET\v/\xa0HTTP/1.1\r\nHost: evil.example\r\n\r\n": BadForm, "GET / HTTP/1.1 \r\nHost: evil.example\r\n\r\n": BadForm,
		strings.Repeat("A", 70) + " / HTTP/1.1\r\nHost: evil.example\r\n\r\n": OtherName,
		"GET / HTTP/1.1\r\x00\nHost: evil.example\r\n\r\n":                    BadForm,
		post("Content-Length: 5", "12345") + evil:                             OtherName,
		post("Content-Length: 5", "1234") + evil:                              OtherName, // its G is the body's
		post("Transfer-Encoding: chunked", "5\r\n12345\r\n0\r\n\r\n") + evil:  OtherName,
		post("Transfer-Encoding: chunked", "5\r\n123456\r\n0\r\n\r\n"):        BadForm,
		post("Transfer-Encoding: chunked", "0x5\r\n12345\r\n0\r\n\r\n"):       BadForm,
		post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"):  BadForm,
		post("Connection: keep-alive, X\r\nContent-Length: 1", "x"):           "",
		// A proxy behind here takes them out, and the server takes the body for the next request, or another host.
		post("Connection: keep-alive, Content-Length\r\nContent-Length: 50", evil): BadForm,
		post("Connection: x\r\nConnection: HOST", ""):                              BadForm, post("Connection:transfer-encoding\r\nTransfer-Encoding: chunked", ""): BadForm,
		// A server that knows no trailers begins the next request at them.
		post("Transfer-Encoding: chunked", "0\r\nT: v\r\n"+evil):                       BadForm,
		post("Transfer-Encoding: chunked", "0\r\nHost: evil.example\r\n\r\n"):          BadForm,
		post("Transfer-Encoding: chunked", "0\r\nContent-Length: 9\r\n\r\n"):           BadForm,
		post("Transfer-Encoding: gzip, chunked", ""):                                   BadForm,
		post("Transfer-Encoding : chunked", ""):                                        BadForm,
		post("Content-Length: 5\r\nContent-Length: 5", ""):                             BadForm,
		post("Content-Length: +5", ""):                                                 BadForm,
		post("Content-Length: 5, 5", ""):                                               BadForm,
		"GET / HTTP/1.1\r\n\r\n":                                                       NoName,
		"GET / HTTP/1.0\r\n\r\n":                                                       NoName,
		"GET http://evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n":              OtherName,
		"GET http://good.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n":              OtherName,
		"GET http://good.example@evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n": BadForm,
		// Apache's reader of URIs takes evil.example for the host, and what is before it for a user.
		"GET http://good.example\\@evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n":    BadForm,
		"GET http:/\\evil.example/?://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n": BadForm,
		"GET ://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n":                       BadForm,
		"GET / HTTP/1.1\r\nHost: good.example\r\nHost: evil.example\r\n\r\n":                BadForm,
		"GET / HTTP/1.1\r\nHost: good.example, evil.example\r\n\r\n":                        BadForm,
		"GET / HTTP/1.1\r\nHost: good.example\r\n X: y\r\n\r\n":                             BadForm,
		"GET / HTTP/1.1\nHost: evil.example\n\n":                                            BadForm,
		"GET / HTTP/1.1\r\nHost: good.example\r\nX: a\rHost: evil.example\r\n\r\n":          BadForm,
		"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n":                                  OtherName,
		"GET / HTTP/1.1\r\nHost: good.example:evil.example\r\n\r\n":                         BadForm,
		"CONNECT evil.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n":                   BadForm,
		"GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: h2c\r\n\r\n":                      BadForm,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                                                  BadForm,
		"GET /\r\n":                                                                         BadForm,
		"\r\n" + evil:                                                                       BadForm,
		"get  / HTTP/1.1\r\nHost: evil.example\r\n\r\n":                                     BadForm,
		"GET /" + strings.Repeat("a", maxHead) + " HTTP/1.1\r\nHost: good.example\r\n\r\n":  BadForm,
	} {
		for _, port := range []uint16{80, 12345} {
			out, err := pass(iotest.OneByteReader(strings.NewReader(sent)), Allowed, port, "good.example")
			got := reasonOf(err)
			if port == 12345 && sent == "GET /\r\n" {
				want = "" // no HTTP of today's, on a port of something else
			}
			if got != want || want == "" && string(out) != sent || !strings.HasPrefix(sent, string(out)) {
				t.Errorf("port %d: %.90q: %q (%v), want %q; %d of %d bytes passed", port, sent, got, err, want, len(out), len(sent))
			}
		}
	}
}

// Other protocols pass on ports of their own, however their first words look.
func TestOtherProtocols(t *testing.T) {
	for _, sent := range []string{"SSH-2.0-OpenSSH_9.2\r\n", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "AMQP\x00\x00\x09\x01",
		" \x00\x00\x01\x85\xae", // MySQL's request for TLS
		"\x1c\x00\x00\x00", "*1\r\n$4\r\nPING\r\n",
		"EHLO me\r\nMAIL FROM:<a>\r\n", "a1 LOGIN u p\r\n", "0032git-upload-pack /p.git\x00host=x\x00", "GIT", ""} {
		out, err := pass(iotest.OneByteReader(strings.NewReader(sent)), Allowed, 2222)
		if err != nil || string(out) != sent {
			t.Errorf("%q: %q, %v", sent, out, err)
		}
	}
	out, err := pass(strings.NewReader("SSH-2.0-x\r\n"), Allowed, 443)
	if reasonOf(err) != BadForm || len(out) > 0 {
		t.Errorf("ssh on 443: %q, %v", out, err)
	}
}

// Whatever a client sends, a server reads in what gets through only names that are allowed; and nothing is changed.
func FuzzClient(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: good.example\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: e\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: e\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Add(helloFor(f, "good.example", nil))
	f.Add(append(helloFor(f, "good.example", nil), helloFor(f, "evil.example", nil)...))
	f.Fuzz(func(t *testing.T, sent []byte) {
		out, err := pass(bytes.NewReader(sent), Allowed, 80, "good.example")
		if !bytes.HasPrefix(sent, out) || err == nil && !bytes.Equal(sent, out) && !cutShort(sent, out) {
			t.Fatalf("%q became %q, %v", sent, out, err)
		}
		if len(out) > 0 && out[0] == recordHandshake {
			if name, ok := goServerName(out); ok && !strings.EqualFold(strings.TrimSuffix(name, "."), "good.example") {
				t.Fatalf("TLS: Go's server reads the name %q", name)
			}
			return
		}
		r := bufio.NewReader(bytes.NewReader(out))
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			host, _, _ := strings.Cut(req.Host, ":")
			if !strings.EqualFold(strings.TrimSuffix(host, "."), "good.example") {
				t.Fatalf("HTTP: Go's server reads the host %q in %q", req.Host, out)
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
	})
}

// cutShort tells whether what is missing is a head that had no end.
func cutShort(sent, out []byte) bool { return len(sent)-len(out) <= maxHead }

// goServerName is the name that crypto/tls takes out of a client's first bytes.
func goServerName(first []byte) (name string, ok bool) {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_, _ = there.Write(first)
		there.Close()
	}()
	go func() { _, _ = io.Copy(io.Discard, there) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = tls.Server(here, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = h.ServerName, true
		return nil, errors.New("enough")
	}}).HandshakeContext(ctx)
	return name, ok
}

// A WebSocket passes behind the server's 101, and behind nothing else: a client that only says it wants one is checked as ever.
func TestUpgrade(t *testing.T) {
	const ask = "GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
	const ok, evil = "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"
	const frame = "\x81\x85abcdhello\r\n"
	for _, c := range []struct {
		sent, answer, want string
	}{
		{ask + frame + evil, "HTTP/1.1 101 Switching Protocols\r\n\r\n", ""},
		{ask + frame + evil, "HTTP/1.1 101\r\n", ""},
		{ask + evil, "HTTP/1.1 103 Early Hints\r\nLink: x\r\nA: b\r\n\r\nHTTP/1.1 101 x\r\n\r\n", ""},
		{ask + evil, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 x\r\n\r\n", ""},
		{ask + frame + "\r\n", "HTTP/1.1 200 OK\r\n\r\n", BadForm},
		{ask + frame + evil, "HTTP/1.1 404 Not Found\r\n\r\n", BadForm},
		{ask + evil, "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n", OtherName},
		{ask + "\x81\x85 / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", BadForm},
		{ask + ok + evil, "HTTP/1.1 426 Upgrade Required\r\n\r\nHTTP/1.1 101 x\r\n", OtherName},
		{ask + ok, "HTTP/1.1 426 Upgrade Required\r\n\r\n", ""},
		{ask + evil, "HTTP/1.1 103 Early Hints\r\nLink: HTTP/1.1 101 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", OtherName},
		{ask + evil, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 x\r\n", OtherName},
		{ask + evil, "HTTP/1.1 1010 x\r\n", OtherName}, {ask + evil, "HTTP/1.1 10a x\r\n", OtherName}, {ask + evil, "HTTP/2 101\r\n", OtherName},
		{ask + evil, " HTTP/1.1 101 x\r\n", OtherName}, {ask + evil, "\r\nHTTP/1.1 101 x\r\n", OtherName},
		{ask + evil, "", OtherName}, {ask + evil, "HTTP/1.1 101", OtherName}, {ask + evil, strings.Repeat("x", 2*maxAnswer), OtherName},
		{ask + evil, "HTTP/1.1 103 x\r\n" + strings.Repeat("x: y\r\n", maxAnswer) + "\r\nHTTP/1.1 101 x\r\n", OtherName},
		{ok + ask + frame, "HTTP/1.1 101 x\r\n\r\n", BadForm}, {ask + ask, "HTTP/1.1 401 x\r\n\r\n", BadForm},
	} {
		for _, oneByOne := range []bool{false, true} {
			a := NewAnswer()
			go func() {
				defer a.End()
				for data := []byte(c.answer); len(data) > 0; {
					n := len(data)
					if oneByOne {
						n = 1
					}
					if !a.Watch(data[:n]) {
						return
					}
					data = data[n:]
				}
			}()
			out, err := passAnswered(strings.NewReader(c.sent), Allowed, 80, a.Switched, "good.example")
			if got := reasonOf(err); got != c.want || got == "" && string(out) != c.sent || strings.Contains(string(out), "evil") && c.want != "" {
				t.Errorf("%.200q answered by %.60q: %q (%v), want %q; %q passed", c.sent, c.answer, got, err, c.want, out)
			}
		}
	}
}

// FuzzAnswer: only what Go's reader of answers takes for a 101, behind interim answers alone, is one.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 101 x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 x\r\n\r\nHTTP/1.1 101 x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 xx\r\n\nHTTP/1.1 200 x\r\n\r\nHTTP/1.1 101 x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		whole, parts := NewAnswer(), NewAnswer()
		whole.Watch(said)
		whole.End()
		for i := range said {
			parts.Watch(said[i : i+1])
		}
		parts.End()
		if whole.Switched() != parts.Switched() {
			t.Fatalf("%q: at once %v, byte by byte %v", said, whole.Switched(), parts.Switched())
		}
		if !whole.Switched() {
			return
		}
		for r := bufio.NewReader(bytes.NewReader(said)); ; {
			answer, err := http.ReadResponse(r, nil)
			if err != nil {
				return // one whose headers make no sense, or do not end
			}
			if answer.StatusCode == http.StatusSwitchingProtocols {
				return
			}
			if answer.StatusCode < 100 || answer.StatusCode >= 200 {
				t.Fatalf("%q: behind an answer of %d", said, answer.StatusCode)
			}
		}
	})
}

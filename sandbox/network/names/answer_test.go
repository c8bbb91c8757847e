package names

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cove/sandbox/network/egress"
	"cove/sandbox/spec"

	"golang.org/x/net/dns/dnsmessage"
)

// fake is the world's name servers: answers by name and type, and what was asked.
type fake struct {
	answers map[string][]dnsmessage.Resource
	code    dnsmessage.RCode
	err     error
	asked   []string
}

func (f *fake) Ask(_ context.Context, q dnsmessage.Question) (*dnsmessage.Message, error) {
	key := Canonical(q.Name) + " " + strings.TrimPrefix(q.Type.String(), "Type")
	f.asked = append(f.asked, key)
	return &dnsmessage.Message{Header: dnsmessage.Header{RCode: f.code}, Answers: f.answers[key]}, f.err
}

func record(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET, TTL: ttl}
	switch body.(type) {
	case *dnsmessage.AResource:
		h.Type = dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		h.Type = dnsmessage.TypeAAAA
	case *dnsmessage.CNAMEResource:
		h.Type = dnsmessage.TypeCNAME
	case *dnsmessage.TXTResource:
		h.Type = dnsmessage.TypeTXT
	}
	return dnsmessage.Resource{Header: h, Body: body}
}

func a(name, addr string) dnsmessage.Resource {
	ip := netip.MustParseAddr(addr)
	if ip.Is4() {
		return record(name, 300, &dnsmessage.AResource{A: ip.As4()})
	}
	return record(name, 300, &dnsmessage.AAAAResource{AAAA: ip.As16()})
}

func cname(name, to string) dnsmessage.Resource {
	return record(name, 300, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to + ".")})
}

func server(t testing.TB, f *fake, e spec.Egress) *Server {
	t.Helper()
	p, err := egress.New(e, egress.IsClosed, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{Policy: p, Asker: f, IPv6: func() bool { return true }}
}

func allow(names ...string) spec.Egress {
	e := spec.Egress{Listed: true}
	for _, n := range names {
		name, below := strings.CutPrefix(n, "*.")
		e.Allow = append(e.Allow, spec.Reach{Text: n, Name: name, Below: below, Proto: "tcp"})
	}
	return e
}

func question(name string, kind dnsmessage.Type) dnsmessage.Question {
	return dnsmessage.Question{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET}
}

func ask1(t testing.TB, s *Server, q dnsmessage.Question) *dnsmessage.Message {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{q}}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var back dnsmessage.Message
	if err := back.Unpack(s.Answer(t.Context(), raw, false)); err != nil {
		t.Fatal(err)
	}
	if back.ID != 7 || !back.Response || len(back.Questions) != 1 || back.Questions[0] != q {
		t.Fatalf("%+v", back)
	}
	return &back
}

// show is an answer in short.
func show(m *dnsmessage.Message) string {
	var out []string
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.CNAMEResource:
			out = append(out, Canonical(r.Header.Name)+">"+Canonical(b.CNAME))
		default:
			addr, _ := addressOf(r.Body)
			out = append(out, addr.String())
		}
	}
	return strings.TrimPrefix(m.RCode.String(), "RCode") + " " + strings.Join(out, " ")
}

func TestAnswer(t *testing.T) {
	f := &fake{answers: map[string][]dnsmessage.Resource{
		"good.example A":      {a("good.example", "203.0.113.1"), a("other.example", "203.0.113.66")},
		"good.example AAAA":   {a("good.example", "2001:db8::1")},
		"chain.example A":     {cname("chain.example", "a.cdn.example"), cname("a.cdn.example", "b.cdn.example"), a("b.cdn.example", "203.0.113.2"), a("c.cdn.example", "203.0.113.66")},
		"loop.example A":      {cname("loop.example", "loop2.example"), cname("loop2.example", "loop.example")},
		"cloaked.example A":   {cname("cloaked.example", "denied.example"), a("denied.example", "203.0.113.3")},
		"rebind.example A":    {a("rebind.example", "10.0.0.1"), a("rebind.example", "203.0.113.4")},
		"rebind2.example A":   {a("rebind2.example", "169.254.169.254")},
		"rebind.example AAAA": {a("rebind.example", "::ffff:10.0.0.1"), a("rebind.example", "fd00::1")},
		"case.example A":      {a("CASE.Example", "203.0.113.5")},
	}}
	e := allow("good.example", "chain.example", "loop.example", "cloaked.example", "rebind.example", "rebind2.example", "case.example")
	e.Deny = []spec.Reach{{Text: "denied.example", Name: "denied.example", Proto: "tcp"}}
	s := server(t, f, e)
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"good.example", dnsmessage.TypeA, "Success 203.0.113.1"},
		{"Good.EXAMPLE", dnsmessage.TypeAAAA, "Success 2001:db8::1"},
		{"good.example", dnsmessage.TypeHTTPS, "Success "}, {"good.example", dnsmessage.TypeSVCB, "Success "},
		{"good.example", dnsmessage.TypeALL, "Refused "}, {"good.example", dnsmessage.TypeAXFR, "Refused "},
		{"chain.example", dnsmessage.TypeA, "Success chain.example>a.cdn.example a.cdn.example>b.cdn.example 203.0.113.2"},
		{"loop.example", dnsmessage.TypeA, "Success loop.example>loop2.example loop2.example>loop.example"},
		{"cloaked.example", dnsmessage.TypeA, "NameError "},
		{"rebind.example", dnsmessage.TypeA, "Success 203.0.113.4"}, {"rebind2.example", dnsmessage.TypeA, "Success "}, {"rebind.example", dnsmessage.TypeAAAA, "Success "},
		{"case.example", dnsmessage.TypeA, "Success 203.0.113.5"},
		{"localhost", dnsmessage.TypeA, "Success 127.0.0.1"}, {"x.localhost", dnsmessage.TypeAAAA, "Success ::1"},
		{spec.HostName, dnsmessage.TypeA, "NameError "},
	} {
		if got := show(ask1(t, s, question(c.name, c.kind))); got != c.want {
			t.Errorf("%s %v: %q, want %q", c.name, c.kind, got, c.want)
		}
	}
	f.asked = nil
	for _, name := range []string{"bad.example", "secret.good.example", "xgood.example", "example", "1.113.0.203.in-addr.arpa"} {
		if got := show(ask1(t, s, question(name, dnsmessage.TypeA))); got != "NameError " {
			t.Errorf("%s: %q", name, got)
		}
	}
	if f.asked != nil {
		t.Errorf("asked outside: %q", f.asked)
	}
	s.Host = []netip.Addr{netip.MustParseAddr("10.0.2.2")}
	if got := show(ask1(t, s, question(spec.HostName, dnsmessage.TypeA))); got != "Success 10.0.2.2" {
		t.Errorf("%q", got)
	}
	s.IPv6 = func() bool { return false }
	if got := show(ask1(t, s, question("good.example", dnsmessage.TypeAAAA))); got != "Success " {
		t.Errorf("without IPv6: %q", got)
	}
	f.code = dnsmessage.RCodeServerFailure
	if got := show(ask1(t, s, question("good.example", dnsmessage.TypeA))); got != "ServerFailure " {
		t.Errorf("%q", got)
	}
	f.err = errors.New("nobody")
	if got := show(ask1(t, s, question("good.example", dnsmessage.TypeA))); got != "ServerFailure " {
		t.Errorf("%q", got)
	}
}

// What the answer teaches is what was asked for, not the names on the way.
func TestTeaches(t *testing.T) {
	f := &fake{answers: map[string][]dnsmessage.Resource{
		"chain.example A": {cname("chain.example", "cdn.example"), record("cdn.example", 1<<31, &dnsmessage.AResource{A: [4]byte{203, 0, 113, 2}})},
	}}
	s := server(t, f, allow("chain.example"))
	m := ask1(t, s, question("chain.example", dnsmessage.TypeA))
	if ttl := m.Answers[1].Header.TTL; ttl != uint32(egress.CeilTTL/time.Second) {
		t.Errorf("a client is told %d seconds", ttl)
	}
	v := s.Policy.Connect("tcp", netip.MustParseAddrPort("203.0.113.2:443"))
	if !v.OK || v.Name != "chain.example" {
		t.Errorf("%+v", v)
	}
}

// A long answer over UDP is cut, and whole over TCP; EDNS says how long is long.
func TestLength(t *testing.T) {
	f := &fake{answers: map[string][]dnsmessage.Resource{}}
	for i := range 100 {
		f.answers["good.example A"] = append(f.answers["good.example A"], a("good.example", fmt.Sprintf("203.0.113.%d", i)))
	}
	s := server(t, f, allow("good.example"))
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{question("good.example", dnsmessage.TypeA)}}
	plain, _ := m.Pack()
	var h dnsmessage.ResourceHeader
	_ = h.SetEDNS0(4000, dnsmessage.RCodeSuccess, false)
	m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	edns, _ := m.Pack()
	for _, c := range []struct {
		query []byte
		tcp   bool
		most  int
		want  int
	}{{plain, false, 512, 0}, {plain, true, 65535, 100}, {edns, false, 4000, 100}} {
		raw := s.Answer(t.Context(), c.query, c.tcp)
		var back dnsmessage.Message
		if err := back.Unpack(raw); err != nil {
			t.Fatal(err)
		}
		if len(raw) > c.most || len(back.Answers) != c.want || back.Truncated != (c.want == 0) {
			t.Errorf("tcp %v: %d bytes, %d answers, truncated %v", c.tcp, len(raw), len(back.Answers), back.Truncated)
		}
	}
}

func TestForm(t *testing.T) {
	s := server(t, &fake{}, allow("good.example"))
	q := question("good.example", dnsmessage.TypeA)
	two, _ := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 0x1234}, Questions: []dnsmessage.Question{q, q}}).Pack()
	response, _ := (&dnsmessage.Message{Header: dnsmessage.Header{Response: true}, Questions: []dnsmessage.Question{q}}).Pack()
	for name, c := range map[string]struct {
		query []byte
		want  string // the first four bytes
	}{
		"two questions": {two, "\x12\x34\x80\x01"},
		"cut":           {two[:20], "\x12\x34\x80\x01"},
		"half a header": {two[:11], ""},
		"nothing":       {nil, ""},
		"a response":    {response, ""},
		"cut response":  {response[:13], ""},
	} {
		got := s.Answer(t.Context(), c.query, false)
		if len(got) < 4 && c.want != "" || !strings.HasPrefix(string(got), c.want) || c.want == "" && got != nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// Whatever a sandbox sends, only names that are allowed are asked for, and the answer can be read.
func FuzzAnswer(f *testing.F) {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{question("good.example", dnsmessage.TypeA)}}
	raw, _ := m.Pack()
	f.Add(raw)
	m.Questions[0].Name = dnsmessage.MustNewName("a.b.below.example.")
	raw, _ = m.Pack()
	f.Add(raw)
	f.Fuzz(func(t *testing.T, query []byte) {
		world := &fake{answers: map[string][]dnsmessage.Resource{"good.example A": {a("good.example", "203.0.113.1")}}}
		s := server(t, world, allow("good.example", "*.below.example"))
		answer := s.Answer(t.Context(), query, false)
		for _, asked := range world.asked {
			name := asked[:strings.LastIndexByte(asked, ' ')] // a name may hold blanks
			if name != "good.example" && !strings.HasSuffix(name, ".below.example") {
				t.Fatalf("asked for %q", asked)
			}
		}
		if answer == nil || len(answer) == 12 {
			return
		}
		var back dnsmessage.Message
		if err := back.Unpack(answer); err != nil || len(answer) > maxUDP {
			t.Fatalf("%x: %v", answer, err)
		}
	})
}

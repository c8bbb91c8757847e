package names

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"cove/sandbox/network/egress"
	"cove/sandbox/spec"

	"golang.org/x/net/dns/dnsmessage"
)

// Asker asks name servers outside.
type Asker interface {
	// Ask returns an answer to exactly that question, or an error where none came.
	Ask(ctx context.Context, q dnsmessage.Question) (*dnsmessage.Message, error)
}

// Server answers one sandbox's questions. Its methods may be called at the same time.
type Server struct {
	Policy *egress.Policy
	Asker  Asker
	// Host are the addresses of spec.HostName; none where no port of the host's is open.
	Host []netip.Addr
	// IPv6 tells whether the host reaches IPv6: if not, the world has no such addresses.
	IPv6 func() bool
	// Log is told of every question, with the verdict, and with the addresses that were told; it may be nil.
	Log func(name, kind string, v egress.Verdict, told []netip.Addr)
}

const (
	typeIXFR = dnsmessage.Type(251)

	udpSize = 512  // without EDNS (RFC 1035 4.2.1)
	maxUDP  = 4096 // that is answered, whatever a client could take
	maxTCP  = 65535
	// maxAnswers bounds the records of an answer, and so the links of a chain of names.
	maxAnswers = 256
)

// Answer returns the answer to a query as it is on the wire; nil where there is none to be given. tcp says that it may be
// longer than the client said it takes.
func (s *Server) Answer(ctx context.Context, query []byte, tcp bool) []byte {
	q, err := parse(query)
	if err != nil {
		return refuseForm(query)
	}
	if q == nil {
		return nil
	}
	if tcp {
		q.limit = maxTCP
	}
	code, answers := s.resolve(ctx, q.question)
	return q.reply(code, answers)
}

// query is a question understood.
type query struct {
	id       uint16
	rd, edns bool
	limit    int
	question dnsmessage.Question
	opcode   dnsmessage.OpCode
}

func parse(raw []byte) (*query, error) {
	var p dnsmessage.Parser
	h, err := p.Start(raw)
	if err != nil {
		return nil, err
	}
	if h.Response {
		return nil, nil
	}
	q := &query{id: h.ID, rd: h.RecursionDesired, limit: udpSize, opcode: h.OpCode}
	if q.question, err = p.Question(); err != nil {
		return nil, err
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return nil, errTwo
	}
	if err := p.SkipAllAnswers(); err != nil {
		return nil, err
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return nil, err
	}
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return q, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Type == dnsmessage.TypeOPT {
			q.edns, q.limit = true, min(max(int(h.Class), udpSize), maxUDP)
		}
		if err := p.SkipAdditional(); err != nil {
			return nil, err
		}
	}
}

type formError string

func (e formError) Error() string { return string(e) }

const errTwo = formError("not one question")

// refuseForm answers what could not be read, where there is at least a header.
func refuseForm(raw []byte) []byte {
	if len(raw) < 12 || raw[2]&0x80 != 0 {
		return nil
	}
	b := make([]byte, 12)
	copy(b, raw[:2])
	b[2], b[3] = 0x80|raw[2]&0x01, byte(dnsmessage.RCodeFormatError)
	return b
}

// reply packs an answer; one that is too long is left out, and the client told to ask over TCP.
func (q *query) reply(code dnsmessage.RCode, answers []dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.id, Response: true, OpCode: q.opcode, RecursionDesired: q.rd, RecursionAvailable: true, RCode: code},
		Questions: []dnsmessage.Question{q.question}, Answers: answers,
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		if h.SetEDNS0(maxUDP, code, false) == nil {
			m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
		}
	}
	raw, err := m.Pack()
	if err == nil && len(raw) <= q.limit {
		return raw
	}
	m.Answers, m.Truncated = nil, err == nil
	if err != nil {
		m.RCode = dnsmessage.RCodeServerFailure
	}
	raw, err = m.Pack()
	if err != nil {
		return nil
	}
	return raw
}

// resolve finds what to answer.
func (s *Server) resolve(ctx context.Context, q dnsmessage.Question) (dnsmessage.RCode, []dnsmessage.Resource) {
	name := Canonical(q.Name)
	switch {
	case q.Class != dnsmessage.ClassINET, q.Type == dnsmessage.TypeALL, q.Type == dnsmessage.TypeAXFR, q.Type == typeIXFR, name == "":
		return dnsmessage.RCodeRefused, nil
	case name == spec.HostName && len(s.Host) > 0:
		return dnsmessage.RCodeSuccess, addresses(q, s.Host)
	case name == "localhost" || strings.HasSuffix(name, ".localhost"): // RFC 6761 6.3
		return dnsmessage.RCodeSuccess, addresses(q, []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
	}
	v := s.Policy.Ask(name)
	if !v.OK {
		s.log(name, q, v, nil)
		return dnsmessage.RCodeNameError, nil
	}
	switch {
	case q.Type == dnsmessage.TypeAAAA && !s.IPv6():
		return dnsmessage.RCodeSuccess, nil
	case (q.Type == dnsmessage.TypeHTTPS || q.Type == dnsmessage.TypeSVCB) && s.Policy.ByName():
		// They hold the keys with which a client hides the name that it means (ECH), and addresses besides.
		return dnsmessage.RCodeSuccess, nil
	}
	m, err := s.Asker.Ask(ctx, q)
	if err != nil {
		return dnsmessage.RCodeServerFailure, nil
	}
	return s.filter(q, name, v, m)
}

// filter keeps of an answer what belongs to the question and may be told.
func (s *Server) filter(q dnsmessage.Question, name string, v egress.Verdict, m *dnsmessage.Message) (dnsmessage.RCode, []dnsmessage.Resource) {
	if m.RCode != dnsmessage.RCodeSuccess {
		return m.RCode, nil
	}
	chain, denied := s.chain(name, m.Answers)
	if denied != nil {
		s.log(name, q, *denied, nil)
		return dnsmessage.RCodeNameError, nil
	}
	var out []dnsmessage.Resource
	var told []netip.Addr
	kept := false
	for _, r := range m.Answers {
		if r.Header.Class != dnsmessage.ClassINET || !slices.Contains(chain, Canonical(r.Header.Name)) ||
			r.Header.Type != q.Type && r.Header.Type != dnsmessage.TypeCNAME {
			continue
		}
		if r.Header.TTL > uint32(egress.CeilTTL/time.Second) {
			r.Header.TTL = uint32(egress.CeilTTL / time.Second)
		}
		if addr, ok := addressOf(r.Body); ok {
			if !s.Policy.Learn(name, addr, time.Duration(r.Header.TTL)*time.Second) {
				kept = true
				continue
			}
			told = append(told, addr)
		}
		out = append(out, r)
	}
	if kept && told == nil {
		s.log(name, q, egress.Verdict{Reason: egress.Closed}, nil)
	} else {
		s.log(name, q, v, told)
	}
	return dnsmessage.RCodeSuccess, out
}

// chain is the name and those that stand for it, as far as the answer leads from one to the next (RFC 1034 3.6.2). denied is
// set where one of them is.
func (s *Server) chain(name string, answers []dnsmessage.Resource) (chain []string, denied *egress.Verdict) {
	chain = []string{name}
	for at := 0; at < len(chain) && len(chain) < maxAnswers; at++ {
		for _, r := range answers {
			body, ok := r.Body.(*dnsmessage.CNAMEResource)
			if !ok || Canonical(r.Header.Name) != chain[at] {
				continue
			}
			next := Canonical(body.CNAME)
			if v := s.Policy.Ask(next); v.Reason == egress.Denied {
				return nil, &v
			}
			if !slices.Contains(chain, next) {
				chain = append(chain, next)
			}
		}
	}
	return chain, nil
}

func (s *Server) log(name string, q dnsmessage.Question, v egress.Verdict, told []netip.Addr) {
	if s.Log != nil {
		s.Log(name, strings.TrimPrefix(q.Type.String(), "Type"), v, told)
	}
}

// Canonical is a name in lower case and without the dot at its end; "" for the root.
func Canonical(n dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(n.String(), "."))
}

func addressOf(body dnsmessage.ResourceBody) (netip.Addr, bool) {
	switch b := body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(b.A), true
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(b.AAAA), true
	}
	return netip.Addr{}, false
}

// addresses answers from what is known here.
func addresses(q dnsmessage.Question, addrs []netip.Addr) []dnsmessage.Resource {
	var out []dnsmessage.Resource
	for _, a := range addrs {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			out = append(out, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			out = append(out, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return out
}

// Frame is a message as TCP carries it, with its length before it (RFC 1035 4.2.2).
func Frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message))), message...)
}

package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"cove/sandbox/spec"

	"golang.org/x/net/idna"
)

// Why a connection or a question is refused: one word each, for the log, and for people by Verdict.Text.
const (
	NotListed = "not-listed" // the profile has a list, and this is not on it
	Denied    = "denied"     // by an entry of deny
	Closed    = "closed"     // private, local or the host's own, and opened by no entry
	NoName    = "no-name"    // the address was learnt by name, and the client does not say which one it means
	OtherName = "other-name" // the client means a name that is not on the list
	BadForm   = "bad-form"   // neither TLS nor HTTP where one of the two is spoken
)

// Verdict is the answer to one connection or question.
type Verdict struct {
	OK     bool
	Reason string // where not OK
	Entry  string // the entry that decided, as the profile has it
	// Name is one by which the address may be meant: that opened it, or that an entry for everything lets through. There is
	// none where an entry for addresses opened it. Of several it is the least.
	Name string
	Say  Say
}

// Say is what it matters that a client says of the name it means.
type Say int

const (
	Nothing   Say = iota // pass whatever it says
	NotDenied            // a name, where it says one, must not be denied
	Allowed              // it must say a name where TLS or HTTP is spoken, and one that is allowed
)

// Policy is what one sandbox may reach. Its methods may be called at the same time.
type Policy struct {
	listed bool
	allow  []rule
	deny   []rule
	closed func(netip.Addr) bool
	now    func() time.Time

	mu      sync.Mutex
	learned map[netip.Addr]map[string]*lesson
	lessons int
}

// rule is one entry, understood.
type rule struct {
	text     string
	any      bool
	name     string // in A-labels
	below    bool
	prefix   netip.Prefix
	from, to uint16
	proto    string
}

// lesson is one name of one address.
type lesson struct {
	until time.Time
	users int // connections that it opened and that live: so long it holds
}

const (
	// FloorTTL is how long an answer holds at least: a program may take its time between asking and connecting, and keep
	// an answer for longer than it is good for, as npm does with each for five minutes. CeilTTL is how long it holds at
	// most, and the longest that a client is told.
	FloorTTL = 6 * time.Minute
	CeilTTL  = time.Hour
	// maxLessons bounds the memory for names: asking for more pushes out what was learnt before. maxNames bounds those of one address,
	// which are gone through for each connection there.
	maxLessons = 20_000
	maxNames   = 256
)

// New understands a profile's entries. closed tells the addresses that are to be opened by an entry for addresses, or
// not at all. now is time.Now.
func New(e spec.Egress, closed func(netip.Addr) bool, now func() time.Time) (*Policy, error) {
	p := &Policy{listed: e.Listed, closed: closed, now: now, learned: map[netip.Addr]map[string]*lesson{}}
	var err error
	if p.allow, err = rules(e.Allow); err != nil {
		return nil, fmt.Errorf("network.allow: %w", err)
	}
	if p.deny, err = rules(e.Deny); err != nil {
		return nil, fmt.Errorf("network.deny: %w", err)
	}
	return p, nil
}

func rules(entries []spec.Reach) ([]rule, error) {
	var out []rule
	for _, e := range entries {
		r := rule{text: e.Text, any: e.Any, below: e.Below, from: e.FromPort, to: e.ToPort, proto: e.Proto}
		switch {
		case e.Any:
		case e.Name != "":
			var err error
			if r.name, err = ToASCII(e.Name); err != nil {
				return nil, fmt.Errorf("%q: %w", e.Text, err)
			}
		default:
			addr, ok := netip.AddrFromSlice(e.Prefix.IP)
			if !ok {
				return nil, fmt.Errorf("%q: no address", e.Text)
			}
			r.prefix = netip.PrefixFrom(addr.Unmap(), e.Prefix.Bits)
		}
		out = append(out, r)
	}
	return out, nil
}

// ToASCII is a domain name as it is on the wire: in lower case, A-labels for what is not ASCII (RFC 5891), and without a
// dot at the end.
func ToASCII(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if strings.IndexFunc(name, func(r rune) bool { return r >= 0x80 }) < 0 {
		return strings.ToLower(name), nil // names of services have underscores, which IDNA does not know
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return "", fmt.Errorf("no domain name: %w", err)
	}
	return ascii, nil
}

// IsDomain tells whether a name is one of letters, digits, hyphens and underscores in labels with dots between them. A question to
// a name server, and what a client says, can hold any bytes.
func IsDomain(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) {
			return false
		}
	}
	return true
}

func (r *rule) matchesName(name string) bool {
	if r.any {
		return true
	}
	if r.name == "" {
		return false
	}
	if r.below {
		return strings.HasSuffix(name, "."+r.name)
	}
	return name == r.name
}

func (r *rule) matchesPort(proto string, port uint16) bool {
	return r.proto == proto && (r.from == 0 || port >= r.from && port <= r.to)
}

// contains tells whether the entry is one for addresses, and holds this one or the IPv4 address that it leads to.
func (r *rule) contains(addr netip.Addr) bool {
	if !r.prefix.IsValid() {
		return false
	}
	inner, ok := Embedded(addr)
	return r.prefix.Contains(addr) || ok && r.prefix.Contains(inner)
}

// bare is an address as entries have it: an IPv4 address is one, however it is written.
func bare(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Connect decides on a connection, or for proto "udp" on a flow of datagrams, to an address that the sandbox named.
func (p *Policy) Connect(proto string, to netip.AddrPort) Verdict {
	addr := bare(to.Addr())
	names := p.namesOf(addr)
	for i := range p.deny {
		r := &p.deny[i]
		if r.matchesPort(proto, to.Port()) && (r.any || r.contains(addr)) {
			return Verdict{Reason: Denied, Entry: r.text}
		}
	}
	for i := range p.allow {
		r := &p.allow[i]
		if r.matchesPort(proto, to.Port()) && r.contains(addr) {
			return Verdict{OK: true, Entry: r.text, Say: p.sayOpen()}
		}
	}
	if p.closed(addr) {
		return Verdict{Reason: Closed}
	}
	if !p.listed {
		return Verdict{OK: true, Say: p.sayOpen()}
	}
	slices.Sort(names)
	v := Verdict{OK: true, Say: Allowed}
	for _, name := range names {
		if text, ok := p.opens(name, proto, to.Port()); ok {
			v.Name, v.Entry = name, text
			break
		}
	}
	if text, ok := p.opensAny(proto, to.Port()); ok {
		if v.Say = p.sayOpen(); v.Name == "" {
			v.Entry = text
			if i := slices.IndexFunc(names, func(name string) bool { return p.denies(name, proto, to.Port()) == "" }); i >= 0 {
				v.Name = names[i]
			}
		}
		return v
	}
	if v.Name == "" {
		return Verdict{Reason: NotListed}
	}
	return v
}

// sayOpen is what matters on an address that no name opened.
func (p *Policy) sayOpen() Say {
	for i := range p.deny {
		if p.deny[i].name != "" {
			return NotDenied
		}
	}
	return Nothing
}

// opensAny returns the entry that allows everything on a port.
func (p *Policy) opensAny(proto string, port uint16) (string, bool) {
	for i := range p.allow {
		if r := &p.allow[i]; r.any && r.matchesPort(proto, port) {
			return r.text, true
		}
	}
	return "", false
}

// denies returns the entry that denies the name on a port; "" where none does.
func (p *Policy) denies(name, proto string, port uint16) string {
	for i := range p.deny {
		if r := &p.deny[i]; r.matchesName(name) && r.matchesPort(proto, port) {
			return r.text
		}
	}
	return ""
}

// opens returns the entry that allows the name on a port, by name.
func (p *Policy) opens(name, proto string, port uint16) (string, bool) {
	if text := p.denies(name, proto, port); text != "" {
		return text, false
	}
	for i := range p.allow {
		if r := &p.allow[i]; !r.any && r.matchesName(name) && r.matchesPort(proto, port) {
			return r.text, true
		}
	}
	return "", false
}

// Said decides once more, when a client of a connection has said which name it means.
func (p *Policy) Said(say Say, name, proto string, port uint16) Verdict {
	ascii, err := ToASCII(name)
	if err != nil {
		return Verdict{Reason: OtherName}
	}
	if text := p.denies(ascii, proto, port); text != "" {
		return Verdict{Reason: Denied, Entry: text}
	}
	if say == NotDenied {
		return Verdict{OK: true}
	}
	// With an entry like *.example.com whoever is inside writes the beginning: a server that ends names at a NUL, or at
	// whatever else is none of a name's, would read another. Letters that are not ASCII are none on the wire (RFC 6066 3, RFC
	// 3986 3.2.2): to the server it is a name that it does not have, and it answers with whatever it has for those.
	if text, ok := p.opens(ascii, proto, port); ok && IsDomain(strings.TrimSuffix(name, ".")) {
		return Verdict{OK: true, Entry: text}
	}
	if text, ok := p.opensAny(proto, port); ok {
		return Verdict{OK: true, Entry: text}
	}
	return Verdict{Reason: OtherName}
}

// Ask decides whether a name may be asked for outside: under a list only what some entry could open. Asking is sending.
func (p *Policy) Ask(name string) Verdict {
	for i := range p.deny {
		// Denied on some ports only, it can be asked for.
		if r := &p.deny[i]; r.matchesName(name) && r.from == 0 {
			return Verdict{Reason: Denied, Entry: r.text}
		}
	}
	if !p.listed {
		return Verdict{OK: true}
	}
	for i := range p.allow {
		if r := &p.allow[i]; r.matchesName(name) {
			return Verdict{OK: true, Entry: r.text}
		}
	}
	return Verdict{Reason: NotListed}
}

// Reachable tells whether any entry opens the address on some port: for echo requests, which have none.
func (p *Policy) Reachable(addr netip.Addr) Verdict {
	addr = bare(addr)
	for i := range p.deny {
		if r := &p.deny[i]; r.contains(addr) && r.from == 0 {
			return Verdict{Reason: Denied, Entry: r.text}
		}
	}
	for i := range p.allow {
		if r := &p.allow[i]; r.contains(addr) {
			return Verdict{OK: true, Entry: r.text}
		}
	}
	if p.closed(addr) {
		return Verdict{Reason: Closed}
	}
	if !p.listed || len(p.namesOf(addr)) > 0 || slices.ContainsFunc(p.allow, func(r rule) bool { return r.any }) {
		return Verdict{OK: true}
	}
	return Verdict{Reason: NotListed}
}

// Learn remembers that name has been told to be at addr, and reports whether a client may be told so: an address that
// is closed and that no entry names is not a name's to open (DNS rebinding).
func (p *Policy) Learn(name string, addr netip.Addr, ttl time.Duration) bool {
	addr = bare(addr)
	if p.closed(addr) && !p.Reachable(addr).OK {
		return false
	}
	// A question can hold any bytes: what is no domain name opens nothing, as no client may say it either (Said), and a proxy is
	// told none that would end its line.
	if !p.listed || !IsDomain(name) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	until := p.now().Add(min(max(ttl, FloorTTL), CeilTTL))
	names := p.learned[addr]
	if l := names[name]; l != nil {
		if until.After(l.until) {
			l.until = until
		}
		return true
	}
	if p.lessons >= maxLessons {
		p.forget()
	}
	if names = p.learned[addr]; names == nil {
		names = map[string]*lesson{}
		p.learned[addr] = names
	}
	if len(names) >= maxNames {
		delete(names, oldest(names))
		p.lessons--
	}
	names[name] = &lesson{until: until}
	p.lessons++
	return true
}

// oldest is the name that holds for the shortest time, of those that nobody uses if there are any.
func oldest(names map[string]*lesson) string {
	best := ""
	for name, l := range names {
		if o := names[best]; o == nil || (l.users == 0) != (o.users == 0) && l.users == 0 || (l.users == 0) == (o.users == 0) && l.until.Before(o.until) {
			best = name
		}
	}
	return best
}

// forget makes room: what no longer holds, else whatever nobody uses.
func (p *Policy) forget() {
	now := p.now()
	for _, all := range []bool{false, true} {
		for addr, names := range p.learned {
			for name, l := range names {
				if l.users == 0 && (all || now.After(l.until)) {
					delete(names, name)
					p.lessons--
				}
			}
			if len(names) == 0 {
				delete(p.learned, addr)
			}
			if all && p.lessons < maxLessons/2 {
				return
			}
		}
		if p.lessons < maxLessons*3/4 {
			return
		}
	}
}

// namesOf are the names that are known to be at an address.
func (p *Policy) namesOf(addr netip.Addr) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	var out []string
	for name, l := range p.learned[addr] {
		if l.users > 0 || !now.After(l.until) {
			out = append(out, name)
		}
	}
	return out
}

// Hold keeps what opened an address open, a Verdict's name, as long as a connection lives; the function that it returns lets go.
func (p *Policy) Hold(addr netip.Addr, name string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.learned[bare(addr)][name]
	if l == nil {
		return func() {}
	}
	l.users++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		l.users--
	}
}

// NameOf is some name of an address, for people; "" where none is known.
func (p *Policy) NameOf(addr netip.Addr) string {
	best := ""
	for _, name := range p.namesOf(bare(addr)) {
		if best == "" || name < best {
			best = name
		}
	}
	return best
}

// ByName tells whether it matters which name a client means.
func (p *Policy) ByName() bool { return p.listed || p.sayOpen() != Nothing }

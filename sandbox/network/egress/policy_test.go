package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"cove/config"
	"cove/sandbox/spec"
)

// reach is a profile's entries as a Spec has them.
func reach(t testing.TB, entries ...string) []spec.Reach {
	t.Helper()
	var out []spec.Reach
	for _, text := range entries {
		e, err := config.ParseEgress(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		r := spec.Reach{Text: e.String(), Any: e.Any, Name: e.Name, Below: e.Below, FromPort: e.FromPort, ToPort: e.ToPort, Proto: e.Proto}
		if e.Address != nil {
			r.Prefix = spec.Prefix{IP: e.Address, Bits: e.Bits}
		}
		out = append(out, r)
	}
	return out
}

// clock is a time that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func policy(t testing.TB, e spec.Egress) (*Policy, *clock) {
	t.Helper()
	c := &clock{time.Unix(1_000_000, 0)}
	p, err := New(e, IsClosed, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

func listed(t testing.TB, allow ...string) spec.Egress {
	return spec.Egress{Listed: true, Allow: reach(t, allow...)}
}

func (v Verdict) String() string {
	if v.OK {
		return fmt.Sprintf("ok %d", v.Say)
	}
	return v.Reason
}

func TestConnect(t *testing.T) {
	open := spec.Egress{}
	denied := spec.Egress{Deny: reach(t, "bad.example", "192.0.2.0/24", "203.0.113.9:25")}
	list := listed(t, "good.example:443", "*.below.example", "10.1.0.0/16:5432", "[2001:db8::/32]:80", "198.51.100.7:53/udp", "b\u00fccher.example")
	both := list
	both.Deny = reach(t, "x.below.example", "10.1.9.0/24")
	for _, c := range []struct {
		e     spec.Egress
		proto string
		to    string
		want  string
	}{
		{open, "tcp", "203.0.113.1:25", "ok 0"}, {open, "udp", "203.0.113.1:25", "ok 0"},
		{open, "tcp", "10.1.2.3:80", Closed}, {open, "tcp", "[::ffff:10.1.2.3]:80", Closed}, {open, "tcp", "[64:ff9b::a01:203]:80", Closed},
		{open, "tcp", "[64:ff9b::cb00:7101]:80", "ok 0"}, {open, "tcp", "[2002:a01:203::1]:80", Closed}, {open, "tcp", "[2002:cb00:7101::1]:80", "ok 0"},
		{open, "tcp", "[64:ff9b::7f00:1]:80", Closed}, {open, "tcp", "169.254.169.254:80", Closed}, {open, "tcp", "[fe80::1%eth0]:80", Closed},
		{open, "tcp", "0.0.0.0:80", Closed}, {open, "tcp", "255.255.255.255:80", Closed}, {open, "udp", "224.0.0.251:5353", Closed},
		{denied, "tcp", "203.0.113.1:443", "ok 1"}, {denied, "tcp", "192.0.2.5:443", Denied}, {denied, "udp", "192.0.2.5:443", "ok 1"},
		{denied, "tcp", "[64:ff9b::c000:205]:443", Denied}, {denied, "tcp", "203.0.113.9:25", Denied}, {denied, "tcp", "203.0.113.9:26", "ok 1"},
		{list, "tcp", "203.0.113.1:443", NotListed}, {list, "tcp", "10.1.2.3:5432", "ok 0"}, {list, "tcp", "10.1.2.3:5433", NotListed + "|" + Closed},
		{list, "tcp", "[64:ff9b::a01:203]:5432", "ok 0"}, {list, "udp", "10.1.2.3:5432", Closed}, {list, "tcp", "[2001:db8:1::1]:80", "ok 0"},
		{list, "udp", "198.51.100.7:53", "ok 0"}, {list, "tcp", "198.51.100.7:53", NotListed},
		{both, "tcp", "10.1.2.3:5432", "ok 1"}, {both, "tcp", "10.1.9.3:5432", Denied},
		{listed(t), "tcp", "203.0.113.1:443", NotListed},
		{listed(t, "*"), "tcp", "203.0.113.1:443", "ok 0"}, {listed(t, "*"), "udp", "203.0.113.1:443", NotListed},
		{listed(t, "*:443", "10.0.0.1"), "tcp", "10.0.0.1:25", "ok 0"}, {listed(t, "*:443"), "tcp", "203.0.113.1:80", NotListed}, {listed(t, "*"), "tcp", "10.0.0.2:443", Closed},
		{spec.Egress{Listed: true, Allow: reach(t, "*"), Deny: reach(t, "*:25")}, "tcp", "203.0.113.1:25", Denied},
		{listed(t, "0.0.0.0/0"), "tcp", "10.0.0.2:443", "ok 0"}, {listed(t, "0.0.0.0/0"), "tcp", "[2001:db8::1]:443", NotListed},
	} {
		p, _ := policy(t, c.e)
		got := p.Connect(c.proto, netip.MustParseAddrPort(c.to)).String()
		if got != c.want && c.want != NotListed+"|"+Closed || c.want == NotListed+"|"+Closed && got != NotListed && got != Closed {
			t.Errorf("%v: %s to %s: %s, want %s", c.e.Allow, c.proto, c.to, got, c.want)
		}
	}
}

// Programs keep an answer for longer than it holds, npm for five minutes (make-fetch-happen's dns.ttl), and connect by it.
func TestLearnOutlivesCaches(t *testing.T) {
	p, clock := policy(t, listed(t, "good.example:443"))
	to := netip.MustParseAddrPort("203.0.113.1:443")
	p.Learn("good.example", to.Addr(), time.Second)
	clock.at = clock.at.Add(5*time.Minute + 10*time.Second)
	if v := p.Connect("tcp", to); !v.OK {
		t.Errorf("%v", v)
	}
}

// A name opens what it was told to be, on its ports and as long as it holds.
func TestLearn(t *testing.T) {
	e := listed(t, "good.example:443", "*.below.example")
	p, clock := policy(t, e)
	addr := netip.MustParseAddr("203.0.113.1")
	to := netip.AddrPortFrom(addr, 443)
	if !p.Learn("good.example", addr, time.Second) || !p.Connect("tcp", to).OK || p.Connect("tcp", to).Say != Allowed {
		t.Errorf("%v", p.Connect("tcp", to))
	}
	for _, c := range []struct {
		proto string
		port  uint16
	}{{"udp", 443}, {"tcp", 80}} {
		if v := p.Connect(c.proto, netip.AddrPortFrom(addr, c.port)); v.Reason != NotListed {
			t.Errorf("%v: %v", c, v)
		}
	}
	clock.at = clock.at.Add(FloorTTL)
	if !p.Connect("tcp", to).OK {
		t.Error("it does not hold for the floor")
	}
	clock.at = clock.at.Add(time.Second)
	if p.Connect("tcp", to).OK {
		t.Error("it holds for longer")
	}
	// As long as a connection lives.
	p.Learn("good.example", addr, time.Second)
	release := p.Hold(addr, p.Connect("tcp", to).Name)
	clock.at = clock.at.Add(100 * time.Hour)
	if !p.Connect("tcp", to).OK {
		t.Error("a connection does not hold it")
	}
	release()
	if p.Connect("tcp", to).OK {
		t.Error("it holds without the connection")
	}
	// Not longer than the ceiling, whatever it was told.
	p.Learn("good.example", addr, 1000*time.Hour)
	clock.at = clock.at.Add(CeilTTL + time.Second)
	if p.Connect("tcp", to).OK {
		t.Error("it holds for longer than the ceiling")
	}
	// The other way to write the same address.
	p.Learn("a.below.example", netip.MustParseAddr("::ffff:203.0.113.2"), time.Minute)
	if !p.Connect("tcp", netip.MustParseAddrPort("203.0.113.2:1")).OK {
		t.Error("a mapped address is another one")
	}
}

// A name is no way to what is closed (DNS rebinding), unless an entry for addresses opens that.
func TestLearnClosed(t *testing.T) {
	for _, allow := range []string{"good.example", "*"} {
		p, _ := policy(t, listed(t, allow))
		for _, a := range []string{"10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"} {
			if p.Learn("good.example", netip.MustParseAddr(a), time.Minute) || p.Connect("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 80)).OK {
				t.Errorf("%s: %s was opened by a name", allow, a)
			}
		}
	}
	p, _ := policy(t, listed(t, "good.example", "10.0.0.1:80"))
	if !p.Learn("good.example", netip.MustParseAddr("10.0.0.1"), time.Minute) {
		t.Error("a name may not be told to be where an entry leads")
	}
}

// However many names are asked for, what is kept is bounded, and what is in use stays.
func TestLearnBounded(t *testing.T) {
	p, _ := policy(t, listed(t, "*.example"))
	held := netip.MustParseAddr("203.0.113.1")
	p.Learn("held.example", held, time.Minute)
	defer p.Hold(held, "held.example")()
	for i := range 3 * maxLessons {
		p.Learn(fmt.Sprintf("n%d.example", i), netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), time.Hour)
	}
	if p.lessons > maxLessons {
		t.Errorf("%d lessons", p.lessons)
	}
	if !p.Connect("tcp", netip.AddrPortFrom(held, 1)).OK {
		t.Error("what is in use was forgotten")
	}
}

// What no domain name is opens nothing: a proxy would be told it, in a line of its own making.
func TestLearnOddBytes(t *testing.T) {
	for _, e := range []spec.Egress{listed(t, "*.good.example"), listed(t, "*")} {
		p, _ := policy(t, e)
		addr := netip.MustParseAddr("203.0.113.1")
		for _, name := range []string{"10.0.0.1:22 http/1.1\r\n\r\n.good.example", "a b.good.example", "a\x00.good.example", "\xe9.good.example", ".good.example"} {
			p.Learn(name, addr, time.Minute)
			if v := p.Connect("tcp", netip.AddrPortFrom(addr, 443)); v.Name != "" || v.OK != (e.Allow[0].Any) {
				t.Errorf("%q: %+v", name, v)
			}
		}
		p.Learn("a_b-1.good.example", addr, time.Minute)
		if v := p.Connect("tcp", netip.AddrPortFrom(addr, 443)); v.Name != "a_b-1.good.example" {
			t.Errorf("%+v", v)
		}
	}
}

// However many names are at one address, which a name of *.example can be made to be, a connection there goes through few; the latest
// open it, and those in use.
func TestNamesOfAnAddress(t *testing.T) {
	p, clock := policy(t, listed(t, "*.example", "held.test:1"))
	addr := netip.MustParseAddr("203.0.113.1")
	p.Learn("held.test", addr, time.Minute)
	if p.Connect("tcp", netip.AddrPortFrom(addr, 1)).Name != "held.test" {
		t.Error("it is not open")
	}
	release := p.Hold(addr, "held.test")
	for i := range 10 * maxNames {
		clock.at = clock.at.Add(time.Millisecond)
		name := fmt.Sprintf("n%d.example", i)
		p.Learn(name, addr, time.Minute)
		if !slices.Contains(p.namesOf(addr), name) {
			t.Fatalf("%s was not learnt", name)
		}
	}
	if n := len(p.namesOf(addr)); n > maxNames || p.lessons != n {
		t.Errorf("%d names, %d lessons", n, p.lessons)
	}
	if !p.Connect("tcp", netip.AddrPortFrom(addr, 1)).OK {
		t.Error("what is in use was forgotten")
	}
	release()
	p.Learn("last.example", addr, time.Minute)
	if p.Connect("tcp", netip.AddrPortFrom(addr, 1)).Name != "last.example" || slices.Contains(p.namesOf(addr), "held.test") {
		t.Error("what is oldest stayed")
	}
}

func TestAskAndSaid(t *testing.T) {
	e := listed(t, "Good.Example:443", "*.below.example", "b\u00fccher.example", "10.0.0.0/8")
	e.Deny = reach(t, "x.below.example", "y.below.example:25")
	p, _ := policy(t, e)
	for name, want := range map[string]bool{
		"good.example": true, "www.good.example": false, "below.example": false, "a.below.example": true, "a.b.below.example": true,
		"notbelow.example": false, "x.below.example": false, "y.below.example": true, "xn--bcher-kva.example": true, "other.example": false,
	} {
		if v := p.Ask(name); v.OK != want {
			t.Errorf("ask %s: %v", name, v)
		}
	}
	for _, c := range []struct {
		name string
		port uint16
		want bool
	}{
		{"good.example", 443, true}, {"GOOD.example.", 443, true}, {"good.example", 80, false}, {"xn--bcher-kva.EXAMPLE", 1, true},
		// No server has a name in letters that are not ASCII: it answers with whatever it has for names that it does not know.
		{"b\u00fccher.example", 1, false}, {"good\u00ad.example", 443, false}, {"\uff47ood.example", 443, false}, {"evil.example\u3002below.example", 443, false},
		{"x.below.example", 443, false}, {"y.below.example", 25, false}, {"y.below.example", 26, true}, {"10.0.0.1", 80, false}, {"", 443, false},
	} {
		if v := p.Said(Allowed, c.name, "tcp", c.port); v.OK != c.want {
			t.Errorf("said %s:%d: %v", c.name, c.port, v)
		}
	}
	if v := p.Said(NotDenied, "x.below.example", "tcp", 443); v.Reason != Denied {
		t.Errorf("%v", v)
	}
	if v := p.Said(NotDenied, "other.example", "tcp", 443); !v.OK {
		t.Errorf("%v", v)
	}
	if _, err := New(listed(t, "xn--a.example"), IsClosed, time.Now); err != nil {
		t.Errorf("an A-label is taken as it is: %v", err)
	}
}

// Whoever is inside writes what stands before the dot of *.example.com: bytes at which a server could end the name are none of one.
func TestSaidOddBytes(t *testing.T) {
	p, err := New(spec.Egress{Listed: true, Allow: []spec.Reach{{Text: "*.good.example", Name: "good.example", Below: true, Proto: "tcp"}}},
		func(netip.Addr) bool { return false }, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a.good.example": true, "A_b-1.good.example.": true, "evil.example\x00.good.example": false,
		"evil.example;.good.example": false, "evil.example\x7f.good.example": false, "..good.example": false, ".good.example": false,
		strings.Repeat("a", 64) + ".good.example": false} {
		if v := p.Said(Allowed, name, "tcp", 443); v.OK != want {
			t.Errorf("%q: %+v, want %v", name, v, want)
		}
	}
}

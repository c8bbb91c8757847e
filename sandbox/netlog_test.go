package sandbox

import (
	"sync"
	"testing"

	"cove/config"
	"cove/sandbox/network"
)

// What is asked for inside is written into profiles and told as what to write there: it must open that, and nothing more.
func TestEntryFor(t *testing.T) {
	for d, want := range map[*network.Decision]string{
		{Kind: "dns", Name: "example.com", Reason: "not-listed"}:                                    "example.com",
		{Kind: "dns", Name: "_srv._tcp.example.com", Reason: "not-listed"}:                          "_srv._tcp.example.com",
		{Kind: "tcp", Name: "example.com", Address: "203.0.113.1", Port: 443, Reason: "other-name"}: "example.com:443",
		{Kind: "udp", Name: "example.com", Address: "203.0.113.1", Port: 443, Reason: "not-listed"}: "example.com:443/udp",
		{Kind: "tcp", Address: "2001:db8::1", Port: 22, Reason: "not-listed"}:                       "[2001:db8::1]:22",
		{Kind: "tcp", Name: "example.com", Address: "203.0.113.1", Port: 80, Reason: "no-name"}:     "203.0.113.1:80",
		{Kind: "dns", Name: "*", Reason: "not-listed"}:                                              "",
		{Kind: "dns", Name: "*.com", Reason: "not-listed"}:                                          "",
		{Kind: "dns", Name: "10.0.0.0/8", Reason: "not-listed"}:                                     "",
		{Kind: "dns", Name: "*/udp", Reason: "not-listed"}:                                          "",
		{Kind: "dns", Name: "10.0.0.1", Reason: "not-listed"}:                                       "",
		{Kind: "dns", Name: ":443", Reason: "not-listed"}:                                           "",
		{Kind: "dns", Name: "example.com/udp", Reason: "not-listed"}:                                "",
		{Kind: "dns", Name: "a\x1b[2J.example.com", Reason: "not-listed"}:                           "",
		{Kind: "tcp", Name: "*.com", Address: "203.0.113.1", Port: 80, Reason: "other-name"}:        "",
		{Kind: "tcp", Name: "*", Address: "203.0.113.1", Port: 80, Reason: "other-name"}:            "",
		{Kind: "tcp", Name: "10.0.0.0/8", Address: "203.0.113.1", Port: 443, Reason: "other-name"}:  "",
		{Kind: "tcp", Name: "example.com", Address: "203.0.113.1", Port: 80, Reason: "denied"}:      "",
	} {
		got := EntryFor(*d)
		if got != want {
			t.Errorf("%+v: %q, want %q", *d, got, want)
		}
	}
}

// FuzzEntryFor: whatever is asked for by name, the entry is one for that name.
func FuzzEntryFor(f *testing.F) {
	for _, s := range []string{"*", "10.0.0.0/8", "example.com", "a:1", "1.2.3.4", "x/udp", "*.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, d := range []network.Decision{{Kind: "dns", Name: name}, {Kind: "tcp", Name: name, Address: "203.0.113.1", Port: 443, Reason: "other-name"},
			{Kind: "udp", Name: name, Address: "203.0.113.1", Port: 53, Reason: "not-listed"}} {
			text := EntryFor(d)
			if text == "" || name == "" {
				continue
			}
			e, err := config.ParseEgress(text)
			if err != nil || e.Any || e.Below || e.Name == "" || e.FromPort != d.Port || (e.Proto == "udp") != (d.Kind == "udp") {
				t.Fatalf("%q: the entry %q is %+v, %v", name, text, e, err)
			}
		}
	})
}

// A connection may end after the network has been told to: what it says still must not meet the summary halfway.
func TestNetLogLate(t *testing.T) {
	l := &netLog{log: &stateLog{dir: t.TempDir(), name: netLogName}, refused: map[string]int{}, closed: map[string]bool{}}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for port := range 500 {
				l.add(network.Decision{Kind: "tcp", Address: "203.0.113.1", Port: uint16(500*i + port + 1), Reason: "not-listed"})
			}
		})
	}
	for range 100 {
		l.learned()
	}
	all.Wait()
	l.log.end()
	if entries, closed := l.learned(); len(entries) != maxRefused || len(closed) > 0 {
		t.Errorf("%d entries, %d closed", len(entries), len(closed))
	}
}

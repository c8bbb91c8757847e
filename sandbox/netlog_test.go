package sandbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	l := newNetLog(&stateLog{dir: t.TempDir(), name: netLogName}, nil)
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
	l.end()
	if entries, closed := l.learned(); len(entries) != maxRefused || len(closed) > 0 {
		t.Errorf("%d entries, %d closed", len(entries), len(closed))
	}
}

// What was learnt does not hang on which connection ended first.
func TestLearnedOrder(t *testing.T) {
	asked := []network.Decision{
		{Kind: "tcp", Name: "www.example.test", Address: "203.0.113.10", Port: 80, Reason: "not-listed"},
		{Kind: "tcp", Address: "203.0.113.11", Port: 7, Reason: "not-listed"},
		{Kind: "tcp", Address: "10.77.0.3", Port: 80, Reason: "closed"},
		{Kind: "tcp", Address: "10.77.0.2", Port: 80, Reason: "closed"},
	}
	var first, last [2][]string
	for i, into := range []*[2][]string{&first, &last} {
		l := newNetLog(&stateLog{dir: t.TempDir(), name: netLogName}, nil)
		for _, d := range asked {
			l.add(d)
		}
		into[0], into[1] = l.learned()
		l.end()
		if i == 0 {
			slices.Reverse(asked)
		}
	}
	if !reflect.DeepEqual(first, last) || len(first[0]) != 2 || len(first[1]) != 2 {
		t.Errorf("%q, and the other way round %q", first, last)
	}
}

func readLog(t *testing.T, dir string) (lines []network.Decision) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, netLogName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var d network.Decision
		if err := json.Unmarshal(s.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, d)
	}
	return lines
}

// What comes to nothing over and over is one line and a number; what is carried has a line each; and of ever different ones there are
// only so many. Nothing is lost to the counts.
func TestNetLogAgain(t *testing.T) {
	dir := t.TempDir()
	l := newNetLog(&stateLog{dir: dir, name: netLogName}, nil)
	now := time.Now()
	for range 1000 {
		l.add(network.Decision{Time: now, Kind: "tcp", Address: "203.0.113.1", Port: 22, Reason: "not-listed"})
		l.add(network.Decision{Time: now, Kind: "tcp", Address: "203.0.113.1", Port: 23, Allowed: true, Error: "connection refused"})
	}
	for range 3 {
		l.add(network.Decision{Time: now, Kind: "tcp", Address: "203.0.113.1", Port: 443, Allowed: true})
	}
	for port := range 10 * maxInPause {
		l.add(network.Decision{Time: now, Kind: "udp", Address: "203.0.113.2", Port: uint16(port + 1), Reason: "not-listed"})
	}
	l.end()
	sums, lines := map[string]int{}, readLog(t, dir)
	for _, d := range lines {
		key := fmt.Sprint(d.Kind, d.Port)
		if d.Kind == "udp" || d.Kind == network.More {
			key = d.Kind
		}
		sums[key] += max(d.Count, 1)
	}
	if sums["tcp22"] != 1000 || sums["tcp23"] != 1000 || sums["tcp443"] != 3 || sums["udp"]+sums[network.More] != 10*maxInPause || len(lines) > maxInPause+10 {
		t.Errorf("%d lines: %v", len(lines), sums)
	}
	if l.refused.count["203.0.113.1:22"] != 1000 {
		t.Errorf("%v", l.refused.count)
	}
}

// That apt asks for a service of a mirror that is allowed is nothing to tell, nor that a resolver goes through its search list; what
// nobody allowed is.
func TestRefusedBesides(t *testing.T) {
	r := newRefusals([]string{"a.example:80", "*.B.example"})
	for _, name := range []string{"_http._tcp.a.example", "_x._tcp.sub.b.example", "_http._tcp.b.example", "_http._tcp.c.example"} {
		r.add(network.Decision{Kind: "dns", Name: name, Type: "SRV", Reason: "not-listed"})
	}
	r.add(network.Decision{Kind: "dns", Name: "_http._tcp.a.example", Type: "A", Reason: "not-listed"})
	r.search = []string{"lan", "Corp.example."}
	for _, name := range []string{"short.lan", "short", "new.example", "new.example.lan", "a.example.lan", "new.example.corp.example"} {
		r.add(network.Decision{Kind: "dns", Name: name, Type: "A", Reason: "not-listed"})
	}
	if want := []string{"_http._tcp.b.example", "_http._tcp.c.example", "_http._tcp.a.example", "short.lan", "short", "new.example"}; !slices.Equal(r.order, want) {
		t.Errorf("%q, want %q", r.order, want)
	}
}

// A pause ends by itself: whoever follows the log sees how often without waiting for the end.
func TestNetLogPause(t *testing.T) {
	dir := t.TempDir()
	l := newNetLog(&stateLog{dir: dir, name: netLogName}, nil)
	defer l.end()
	for range 5 {
		l.add(network.Decision{Kind: "tcp", Address: "203.0.113.1", Port: 22, Reason: "not-listed"})
	}
	if lines := readLog(t, dir); len(lines) != 1 || lines[0].Count != 0 {
		t.Errorf("at once: %+v", lines)
	}
	for end := time.Now().Add(10 * logPause); len(readLog(t, dir)) < 2 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	l.add(network.Decision{Kind: "tcp", Address: "203.0.113.1", Port: 22, Reason: "not-listed"})
	if lines := readLog(t, dir); len(lines) != 3 || lines[1].Count != 4 || lines[2].Count != 0 {
		t.Errorf("after a pause: %+v", lines)
	}
}

// Who comes later is told what was refused since, and of the end even when the directory has gone.
func TestRefusedSince(t *testing.T) {
	dir := t.TempDir()
	l := newNetLog(&stateLog{dir: dir, name: netLogName}, []string{"example.com", "*.example.org"})
	if err := l.refused.share(dir); err != nil {
		t.Fatal(err)
	}
	refuse := func(name string) {
		l.add(network.Decision{Kind: "dns", Name: name, Reason: "not-listed"})
	}
	said := func(r *refusedFor) (text string) {
		r.tell(func(format string, args ...any) { text += fmt.Sprintf(format, args...) + "\n" })
		return text
	}
	refuse("before.example")
	refuse("both.example")
	first := listenRefused(dir)
	defer first.close()
	if got := said(first); got != "" {
		t.Errorf("nothing was refused since: %q", got)
	}
	refuse("both.example")
	refuse("after.example")
	refuse("after.example")
	// The longest that a client can say is told or left out, and those behind it are where they belong.
	refuse(strings.Repeat("a.", 126) + "a")
	long := network.Decision{Kind: "tcp", Address: strings.Repeat("1", 500), Port: 1, Reason: "not-listed"}
	l.add(long)
	refuse("last.example")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	got := said(first)
	want := `allow = ["example.com", "*.example.org", "both.example", "after.example", "` + strings.Repeat("a.", 126) + `a", "last.example"]` + "\n"
	if !strings.HasSuffix(got, want) || !strings.HasPrefix(got, "the network refused what was asked of it 5 times ") {
		t.Errorf("%q", got)
	}
	l.end()
	if none := listenRefused(dir); none.file != nil || said(none) != "" {
		t.Error("a sandbox without such a network has told something")
	}
	if !slices.Equal(l.refused.order[:3], []string{"before.example", "both.example", "after.example"}) {
		t.Errorf("%q", l.refused.order)
	}
}

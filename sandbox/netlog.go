package sandbox

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cove/config"
	"cove/sandbox/network"
	"cove/sandbox/spec"
)

// maxRefused bounds the different refusals that are kept for the end.
const maxRefused = 200

// netLog is the log of one sandbox's network.
type netLog struct {
	log     *stateLog
	mu      sync.Mutex
	listed  []string       // what is allowed now, as entries
	refused map[string]int // by the entry that would allow it
	order   []string
	learn   bool            // what was let through is kept as well
	closed  map[string]bool // of refused: private, local or the host's own addresses
}

// netLog begins the log, and returns what takes its lines; nil where the network makes none.
func (b *box) netLog() func(network.Decision) {
	if b.spec.Network.Driver != network.Builtin {
		return nil
	}
	l := &netLog{log: b.newLog(netLogName), refused: map[string]int{}, closed: map[string]bool{}, listed: []string{"*", "*/udp"}}
	if e := b.spec.Network.Egress; e.Listed {
		l.listed = nil
		for _, r := range e.Allow {
			l.listed = append(l.listed, r.Text)
		}
	}
	l.learn = b.opts.Learned != nil
	b.undo(func() error {
		l.log.end()
		if l.learn {
			b.opts.Learned(l.learned())
		} else if !b.opts.shell {
			l.tell(b.warn)
		}
		return nil
	})
	return l.add
}

func (l *netLog) add(d network.Decision) {
	l.log.add(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !d.Allowed || l.learn && d.Kind != "dns" && (d.Entry == "*" || d.Entry == "*/udp") {
		l.remember(d)
	}
}

// remember keeps a refusal under the entry that would allow it.
func (l *netLog) remember(d network.Decision) {
	entry := EntryFor(d)
	if entry == "" {
		return
	}
	if l.refused[entry] == 0 {
		if len(l.order) == maxRefused {
			return
		}
		l.order = append(l.order, entry)
	}
	l.refused[entry]++
	l.closed[entry] = d.Reason == "closed"
}

// learned are the entries that would have been needed, and those of them that lead to closed addresses.
func (l *netLog) learned() (entries, closed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.order {
		if l.closed[e] {
			closed = append(closed, e)
		} else {
			entries = append(entries, e)
		}
	}
	return entries, closed
}

// isName tells whether an entry with this name opens the name and nothing else. Whoever is inside writes what they ask for: "*", or
// "10.0.0.0/8", is a name to a name server, and no name to a profile.
func isName(name string) bool {
	e, err := config.ParseEgress(name)
	return err == nil && e.Name != "" && !e.Below && !e.Any && e.FromPort == 0 && !strings.ContainsAny(name, "/:")
}

// EntryFor is the narrowest entry of network.allow that would have let a refused connection through; "" where none would.
func EntryFor(d network.Decision) string {
	switch {
	case d.Reason == "denied", d.Kind == "dns" && d.Reason == "closed", d.Name == spec.HostName:
		return ""
	case d.Kind == "dns":
		if !isName(d.Name) {
			return ""
		}
		return d.Name
	}
	host := d.Address
	// Where the client says no name, or speaks what is neither TLS nor HTTP, only the address can be opened.
	if d.Name != "" && d.Reason != "closed" && d.Reason != "no-name" && d.Reason != "bad-form" {
		if host = d.Name; !isName(host) {
			return ""
		}
	}
	switch {
	case d.Kind == "icmp":
		return host
	case strings.Contains(host, ":"): // an IPv6 address
		host = "[" + host + "]"
	}
	host += ":" + strconv.Itoa(int(d.Port))
	if d.Kind == "udp" {
		return host + "/udp"
	}
	return host
}

// tell says what was refused, and the line that would allow it.
func (l *netLog) tell(warn func(format string, args ...any)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.order) == 0 {
		return
	}
	total := 0
	for _, n := range l.refused {
		total += n
	}
	warn("the network refused what was asked of it %d time%s (`cove net log` tells more while it runs); this would allow it, in [network]:", total, plural(total))
	warn("allow = %s", quotedList(slices.Concat(l.listed, l.order)))
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// quoted is a TOML array. What a name server or a client said is shown as plain ASCII.
func quotedList(entries []string) string {
	var out []string
	for _, e := range entries {
		out = append(out, strconv.QuoteToASCII(e))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

var errNoNetLog = errors.New("this sandbox has no network of cove's own, or has not used it")

// NetLog opens a sandbox's log of its network, as openLog does.
func NetLog(runtimeDir, name string) (old, now *os.File, ended func() bool, err error) {
	return openLog(runtimeDir, name, netLogName, errNoNetLog)
}

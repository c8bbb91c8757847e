package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"cove/config"
	"cove/sandbox/network"
	"cove/sandbox/spec"
)

// refusals are what a sandbox's network has refused, by the entry of network.allow that would have let it through. Others that
// have a command in the sandbox read them from a file in its directory, which they open when they come: at the end the
// directory goes, and it may go before the last of them has ended.
//
// The file begins with a line of what is allowed, as JSON. A record follows for each entry: how often it was refused, a blank, the
// entry, and blanks up to a newline. So a count is written in its place, and the file has an end, whatever is refused.
type refusals struct {
	setup  bool     // that is asked for by setup, which has a list of its own
	listed []string // what is allowed now, as entries
	order  []string // of what was refused
	count  map[string]int
	closed map[string]bool // private, local or the host's own addresses
	search []string        // the host's search domains, once they have been looked at

	file    *os.File // nil: nobody reads it
	records int64    // where they begin
}

const (
	refusedName  = "refused"
	refusedWidth = 384 // of a record; what is longer is kept here alone
	// maxRefused bounds the different refusals that are kept for the end.
	maxRefused = 200
)

func newRefusals(listed []string) *refusals {
	return &refusals{listed: listed, count: map[string]int{}, closed: map[string]bool{}}
}

// share makes the file. It goes with dir.
func (r *refusals) share(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, refusedName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	head, err := json.Marshal(r.listed)
	if err == nil {
		_, err = f.Write(append(head, '\n'))
	}
	if err != nil {
		f.Close()
		return err
	}
	r.file, r.records = f, int64(len(head)+1)
	return nil
}

// add counts a refusal.
func (r *refusals) add(d network.Decision) {
	entry := EntryFor(d)
	if entry == "" || d.Type == "SRV" && r.lists(serviceOf(d.Name)) || d.Kind == "dns" && r.searchedFor(d.Name) {
		return
	}
	at := slices.Index(r.order, entry)
	if at < 0 {
		if at = len(r.order); at == maxRefused {
			return
		}
		r.order = append(r.order, entry)
	}
	r.count[entry]++
	r.closed[entry] = d.Reason == "closed"
	if r.file != nil {
		if record := refusedRecord(r.count[entry], entry); record != nil {
			_, _ = r.file.WriteAt(record, r.records+int64(at*refusedWidth))
		}
	}
}

// serviceOf is the name that a service's name (RFC 2782) is about. apt asks for _http._tcp.NAME of every mirror, and does as well
// without an answer: to tell of that at every run would teach nobody anything.
func serviceOf(name string) string {
	for strings.HasPrefix(name, "_") {
		_, name, _ = strings.Cut(name, ".")
	}
	return name
}

// searchedFor tells whether a name was only asked for because another was not to be had: with a search domain behind one that is
// allowed, or that is told of already.
func (r *refusals) searchedFor(name string) bool {
	if r.search == nil {
		conf, _ := os.ReadFile("/etc/resolv.conf")
		r.search, _ = resolvWords(string(conf))
		r.search = append([]string{}, r.search...) // read once
	}
	return slices.ContainsFunc(r.search, func(domain string) bool {
		before, ok := strings.CutSuffix(name, "."+strings.ToLower(strings.Trim(domain, ".")))
		return ok && (r.count[before] > 0 || r.lists(before))
	})
}

// lists tells whether a name is allowed on some port.
func (r *refusals) lists(name string) bool {
	return slices.ContainsFunc(r.listed, func(text string) bool {
		e, err := config.ParseEgress(text)
		return err == nil && e.Name != "" && (strings.EqualFold(e.Name, name) && !e.Below || e.Below && strings.HasSuffix(name, "."+strings.ToLower(e.Name)))
	})
}

func refusedRecord(n int, entry string) []byte {
	text := fmt.Sprintf("%010d %s", n, entry)
	if len(text) >= refusedWidth || strings.Contains(entry, "\n") {
		return nil
	}
	return []byte(text + strings.Repeat(" ", refusedWidth-1-len(text)) + "\n")
}

func (r *refusals) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// refusedFor is what a client has open to learn what was refused while it was there; without a file where no such network is.
type refusedFor struct {
	file   *os.File
	before *refusals
}

func listenRefused(dir string) *refusedFor {
	f, err := os.Open(filepath.Join(dir, refusedName))
	if err != nil {
		return &refusedFor{}
	}
	return &refusedFor{file: f, before: readRefused(f)}
}

func (l *refusedFor) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// tell says what has been refused since.
func (l *refusedFor) tell(warn func(format string, args ...any)) {
	if l.file == nil {
		return
	}
	now := readRefused(l.file)
	since := newRefusals(now.listed)
	for _, entry := range now.order {
		if n := now.count[entry] - l.before.count[entry]; n > 0 {
			since.order, since.count[entry] = append(since.order, entry), n
		}
	}
	since.tell(warn)
}

func readRefused(f *os.File) *refusals {
	r := newRefusals(nil)
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		return r
	}
	head, records, _ := strings.Cut(string(data), "\n")
	if json.Unmarshal([]byte(head), &r.listed) != nil {
		return r
	}
	for ; len(records) >= refusedWidth; records = records[refusedWidth:] {
		number, entry, _ := strings.Cut(strings.TrimRight(records[:refusedWidth], " \n"), " ")
		n, err := strconv.Atoi(number)
		if err != nil || entry == "" {
			continue // one that is too long to be here
		}
		r.order, r.count[entry] = append(r.order, entry), n
	}
	return r
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
func (r *refusals) tell(warn func(format string, args ...any)) {
	if len(r.order) == 0 {
		return
	}
	total := 0
	for _, n := range r.count {
		total += n
	}
	where, key := ", in [network]", "allow"
	if r.setup {
		where, key = " to setup alone", "setup_network"
	}
	warn("the network refused what was asked of it %d time%s (`cove net log` tells more while it runs); this would allow it%s:", total, plural(total), where)
	warn("%s = %s", key, quotedList(slices.Concat(r.listed, r.order)))
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

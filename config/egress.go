package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Egress is one entry of network.allow or network.deny: where a connection may lead, or must not.
type Egress struct {
	Any      bool   // *: what is open where there is no list
	Name     string // a domain name in lower case, without the dot at its end; "" where Address says it
	Below    bool   // *.Name: every name below it, and not itself
	Address  []byte // 4 or 16 bytes, the first address of a network of Bits
	Bits     int
	FromPort uint16 // FromPort to ToPort; 0 is every port
	ToPort   uint16
	Proto    string // tcp, udp
}

// String is the entry as ParseEgress reads it, in its shortest form.
func (e Egress) String() string {
	text := e.Name
	switch {
	case e.Any:
		text = "*"
	case e.Below:
		text = "*." + e.Name
	case e.Name == "":
		text = e.network()
	}
	switch {
	case e.FromPort == 0:
	case e.FromPort == e.ToPort:
		text += fmt.Sprintf(":%d", e.FromPort)
	default:
		text += fmt.Sprintf(":%d-%d", e.FromPort, e.ToPort)
	}
	if e.Proto == "udp" {
		text += "/udp"
	}
	return text
}

func (e Egress) network() string {
	text := ip(e.Address).String()
	if e.Bits < 8*len(e.Address) {
		text += "/" + strconv.Itoa(e.Bits)
	}
	if len(e.Address) == 16 && e.FromPort != 0 {
		text = "[" + text + "]"
	}
	return text
}

// ParseEgress reads NAME, *.NAME, *, ADDRESS or NETWORK/BITS, then :PORT or :FROM-TO, then /tcp or /udp. Without a port it
// means every port, without a protocol TCP alone. An IPv6 address with a port stands in brackets.
func ParseEgress(text string) (Egress, error) {
	e := Egress{Proto: "tcp"}
	rest := text
	if cut := strings.LastIndexByte(text, '/'); cut >= 0 && (cut+1 == len(text) || !strings.ContainsRune(digits, rune(text[cut+1]))) {
		switch proto := text[cut+1:]; proto {
		case "tcp", "udp":
			rest, e.Proto = text[:cut], proto
		default:
			return e, fmt.Errorf("unknown protocol %q (tcp, udp)", proto)
		}
	}
	host, ports, err := cutPorts(rest)
	if err != nil {
		return e, err
	}
	if ports != "" {
		if e.FromPort, e.ToPort, err = parsePortRange(ports); err != nil {
			return e, err
		}
	}
	if host == "*" {
		e.Any = true
		return e, nil
	}
	if looksLikeAddress(host) {
		return e, e.parseNetwork(host)
	}
	e.Name, e.Below = strings.CutPrefix(host, "*.")
	e.Name = strings.ToLower(strings.TrimSuffix(e.Name, "."))
	return e, checkDomain(e.Name)
}

// cutPorts parts what names a host from its ports.
func cutPorts(text string) (host, ports string, err error) {
	if strings.HasPrefix(text, "[") {
		host, rest, ok := strings.Cut(text[1:], "]")
		switch {
		case !ok || !strings.Contains(host, ":"):
			return "", "", errors.New("an IPv6 address with ports is written [ADDRESS]:PORT")
		case rest == "":
			return host, "", nil
		}
		ports, ok := strings.CutPrefix(rest, ":")
		if !ok || ports == "" {
			return "", "", errors.New("an IPv6 address with ports is written [ADDRESS]:PORT")
		}
		return host, ports, nil
	}
	if strings.Count(text, ":") != 1 { // none, or an IPv6 address
		return text, "", nil
	}
	host, ports, _ = strings.Cut(text, ":")
	if ports == "" {
		return "", "", errors.New("the port after the colon is missing")
	}
	return host, ports, nil
}

func parsePortRange(text string) (from, to uint16, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if from, err = parsePort(first); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return from, from, nil
	}
	if to, err = parsePort(last); err != nil {
		return 0, 0, err
	}
	if to < from {
		return 0, 0, fmt.Errorf("%q is not a range of ports: it ends before it begins", text)
	}
	return from, to, nil
}

// looksLikeAddress tells what is no name: whatever has a colon or a slash, and what ends in a number, as no top-level
// domain does (RFC 3696 2): 1.2.3.4 and its lazy forms.
func looksLikeAddress(host string) bool {
	last := strings.TrimSuffix(host, ".")
	last = last[strings.LastIndexByte(last, '.')+1:]
	return strings.ContainsAny(host, ":/") || last != "" && only(last, digits)
}

func (e *Egress) parseNetwork(text string) error {
	address, bits, hasBits := strings.Cut(text, "/")
	addr, ok := parseIP(address)
	if !ok {
		return fmt.Errorf("%q is not an IP address", address)
	}
	if strings.Contains(address, ":") && addr.is4() {
		return fmt.Errorf("%q is an IPv4 address in disguise; write %q", address, addr)
	}
	e.Address, e.Bits = []byte(addr), 8*len(addr)
	if hasBits {
		n, err := strconv.ParseUint(bits, 10, 8)
		if err != nil || !only(bits, digits) || len(bits) > 1 && bits[0] == '0' || int(n) > e.Bits {
			return fmt.Errorf("%q is not a length of a network of %s (0-%d)", bits, address, e.Bits)
		}
		e.Bits = int(n)
	}
	for i := e.Bits; i < 8*len(e.Address); i++ {
		if e.Address[i/8]&(0x80>>(i%8)) != 0 {
			first := make([]byte, len(e.Address))
			for j := range e.Bits {
				first[j/8] |= e.Address[j/8] & (0x80 >> (j % 8))
			}
			return fmt.Errorf("%q is no network's first address; write %q", text, ip(first).String()+"/"+bits)
		}
	}
	if e.Address[0] == 127 && len(e.Address) == 4 && e.Bits >= 8 || string(e.Address) == string(make([]byte, 15))+"\x01" {
		return errors.New("is the sandbox's own loopback; a port of this machine's is network.host_ports")
	}
	if len(e.Address) == 16 && e.Bits >= 96 && string(e.Address[:12]) == string(make([]byte, 12)) {
		return fmt.Errorf("%s leads nowhere; an IPv6 address with ports is written [ADDRESS]:PORT", e.network())
	}
	return nil
}

// checkDomain takes a domain name as people write it, in Unicode or in punycode; what IDNA 2008 refuses is told when the
// network is made, by the package that has its tables.
func checkDomain(name string) error {
	switch {
	case name == "":
		return errors.New("names nothing")
	case len(name) > 253:
		return errors.New("a domain name has at most 253 bytes")
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return errors.New("has an empty label between two dots")
		case label == "*" || strings.Contains(label, "*"):
			return errors.New("a * stands for all names below one only at the beginning: *.example.com")
		case len(label) > 63:
			return fmt.Errorf("the label %q is longer than 63 bytes", label)
		case strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-"):
			return fmt.Errorf("the label %q begins or ends with a hyphen", label)
		}
		for _, r := range label {
			if !isDomainRune(r) {
				return fmt.Errorf("%q is not part of a domain name (NAME, *.NAME, ADDRESS, NETWORK/BITS, each with :PORT, :FROM-TO, /udp)", r)
			}
		}
	}
	return nil
}

func isDomainRune(r rune) bool {
	if r < utf8.RuneSelf {
		return r == '-' || r == '_' || strings.ContainsRune(letters+digits, r)
	}
	return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)
}

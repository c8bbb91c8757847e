package config

import (
	"strconv"
	"strings"
)

// ip is an IP address: 4 bytes, or 16 of an IPv6 address that is not an IPv4 one in disguise. It stands here in place of
// netip.Addr, with which it agrees: package unique below that is initialised only after the regular expressions of the
// image libraries (see package start), and every run would wait for them.
type ip string

// parseIP reads an address as RFC 4291 and RFC 5952 have them, without a zone; ::ffff:1.2.3.4 is 1.2.3.4.
func parseIP(text string) (ip, bool) {
	if !strings.Contains(text, ":") {
		return parseIPv4(text)
	}
	front, back, short := strings.Cut(text, "::")
	head, ok1 := parseGroups(front, !short)
	tail, ok2 := parseGroups(back, true)
	missing := 16 - len(head) - len(tail)
	if !ok1 || !ok2 || short && missing < 2 || !short && missing != 0 {
		return "", false
	}
	addr := head + ip(make([]byte, missing)) + tail
	if v4, mapped := strings.CutPrefix(string(addr), "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"); mapped {
		return ip(v4), true
	}
	return addr, true
}

func parseIPv4(text string) (ip, bool) {
	fields := strings.Split(text, ".")
	var addr []byte
	for _, f := range fields {
		n, err := strconv.ParseUint(f, 10, 8)
		if err != nil || len(f) > 1 && f[0] == '0' || f[0] == '+' {
			return "", false
		}
		addr = append(addr, byte(n))
	}
	return ip(addr), len(addr) == 4
}

// parseGroups reads groups of 16 bits; the last may be an IPv4 address where it ends the whole.
func parseGroups(text string, last bool) (ip, bool) {
	if text == "" {
		return "", true
	}
	var addr ip
	groups := strings.Split(text, ":")
	for i, g := range groups {
		if last && i == len(groups)-1 && strings.Contains(g, ".") {
			v4, ok := parseIPv4(g)
			return addr + v4, ok
		}
		n, err := strconv.ParseUint(g, 16, 16)
		if err != nil || len(g) > 4 || g[0] == '+' {
			return "", false
		}
		addr += ip([]byte{byte(n >> 8), byte(n)})
	}
	return addr, len(addr) <= 16
}

// is4 tells an IPv4 address.
func (a ip) is4() bool { return len(a) == 4 }

// unspecified tells 0.0.0.0 and ::.
func (a ip) unspecified() bool { return strings.Trim(string(a), "\x00") == "" }

// String is the address as RFC 5952 has it.
func (a ip) String() string {
	if a.is4() {
		var fields []string
		for _, b := range []byte(a) {
			fields = append(fields, strconv.Itoa(int(b)))
		}
		return strings.Join(fields, ".")
	}
	from, to := a.longestZeros()
	var b strings.Builder
	for i := 0; i < 8; i++ {
		if i == from {
			b.WriteString("::")
			i = to - 1
			continue
		}
		if i > 0 && i != to {
			b.WriteByte(':')
		}
		b.WriteString(strconv.FormatUint(uint64(a[2*i])<<8|uint64(a[2*i+1]), 16))
	}
	return b.String()
}

// longestZeros is the first longest run of two or more groups that are 0; from is -1 when there is none.
func (a ip) longestZeros() (from, to int) {
	from, to = -1, -1
	for i := 0; i < 8; i++ {
		j := i
		for j < 8 && a[2*j] == 0 && a[2*j+1] == 0 {
			j++
		}
		if j-i > max(1, to-from) {
			from, to = i, j
		}
		i = max(i, j-1)
	}
	return from, to
}

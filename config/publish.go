package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Publish is one port of the sandbox that is reachable from this machine.
type Publish struct {
	HostIP        string // 127.0.0.1 unless an address was given
	HostPort      uint16
	ContainerPort uint16
	Proto         string // tcp, udp
}

// String is the long form that ParsePublish reads: 127.0.0.1:8080:80/tcp.
func (p Publish) String() string {
	host := p.HostIP
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d:%d/%s", host, p.HostPort, p.ContainerPort, p.Proto)
}

// ParsePublish reads [[ADDRESS:]HOSTPORT:]PORT[/tcp|/udp], as podman's -p has it. An IPv6 address stands in brackets.
func ParsePublish(text string) (Publish, error) {
	p := Publish{HostIP: "127.0.0.1", Proto: "tcp"}
	rest := text
	if ports, proto, ok := strings.Cut(text, "/"); ok {
		if proto != "tcp" && proto != "udp" {
			return p, fmt.Errorf("unknown protocol %q (tcp, udp)", proto)
		}
		rest, p.Proto = ports, proto
	}
	address, rest, err := cutAddress(rest)
	if err != nil {
		return p, err
	}
	host, container, two := strings.Cut(rest, ":")
	if !two {
		container = host
	}
	if address != "" {
		if !two {
			return p, errors.New("an address needs two ports: ADDRESS:HOSTPORT:PORT")
		}
		addr, ok := parseIP(address)
		if !ok {
			return p, fmt.Errorf("%q is not an IP address", address)
		}
		p.HostIP = addr.String()
	}
	if p.HostPort, err = parsePort(host); err != nil {
		return p, err
	}
	p.ContainerPort, err = parsePort(container)
	return p, err
}

// ParsePublishes is ParsePublish for ranges of ports too, [[ADDRESS:]FROM-TO:]FROM-TO: one for each port.
func ParsePublishes(text string) ([]Publish, error) {
	ports, proto, hasProto := strings.Cut(text, "/")
	if hasProto {
		proto = "/" + proto
	}
	at := strings.LastIndexByte(ports, ':')
	if !strings.Contains(ports[strings.LastIndexByte(ports, ']')+1:], "-") {
		p, err := ParsePublish(text)
		return []Publish{p}, err
	}
	container := ports[at+1:]
	address, host := "", container
	if at >= 0 {
		front := ports[:at]
		cut := strings.LastIndexByte(front, ':')
		address, host = front[:cut+1], front[cut+1:]
	}
	hostFrom, hostTo, err := parsePortRange(host)
	if err != nil {
		return nil, err
	}
	from, to, err := parsePortRange(container)
	if err != nil {
		return nil, err
	}
	if hostTo-hostFrom != to-from {
		return nil, fmt.Errorf("%s and %s are ranges of different lengths", host, container)
	}
	var all []Publish
	for i := 0; i <= int(to-from); i++ {
		p, err := ParsePublish(fmt.Sprintf("%s%d:%d%s", address, int(hostFrom)+i, int(from)+i, proto))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// cutAddress splits off what stands before the ports: [v6]: or the first of three parts.
func cutAddress(text string) (address, rest string, err error) {
	if strings.HasPrefix(text, "[") {
		address, rest, ok := strings.Cut(text[1:], "]:")
		if !ok || address == "" {
			return "", "", errors.New("an IPv6 address is written [ADDRESS]:HOSTPORT:PORT")
		}
		if !strings.Contains(address, ":") {
			return "", "", fmt.Errorf("%q is not an IPv6 address", address)
		}
		return address, rest, nil
	}
	switch strings.Count(text, ":") {
	case 0, 1:
		return "", text, nil
	case 2:
		address, rest, _ = strings.Cut(text, ":")
		if address == "" {
			return "", "", errors.New("the address before the first colon is empty")
		}
		return address, rest, nil
	}
	return "", "", errors.New("an IPv6 address is written [ADDRESS]:HOSTPORT:PORT")
}

func parsePort(text string) (uint16, error) {
	for _, c := range text {
		if c < '0' || c > '9' { // ParseUint would take "+80"
			return 0, fmt.Errorf("%q is not a port (1-65535)", text)
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port (1-65535)", text)
	}
	return uint16(n), nil
}

// maxPublish bounds the ports of one list: each range in it may be of all there are.
const maxPublish = 1<<16 - 1

// listeners are ports of this machine that are taken, of one protocol and address family each. The families are apart: whoever
// listens does so with IPV6_V6ONLY.
type listeners map[listener]*takers

type listener struct {
	proto string
	port  uint16
	is4   bool
}

// takers are who listens on a port, by number, -1 for nobody.
type takers struct {
	first, everywhere int // at all, and on all addresses
	at                map[string]int
}

// add notes that one listens there as well, and returns who of those before it is in its way, the first of them; -1 for nobody.
func (l listeners) add(one Publish, number int) int {
	addr, ok := parseIP(one.HostIP)
	key := listener{one.Proto, one.HostPort, addr.is4()}
	all := ok && addr.unspecified()
	t := l[key]
	if t == nil {
		t = &takers{first: -1, everywhere: -1, at: map[string]int{}}
		l[key] = t
	}
	conflict := -1
	if all {
		conflict = t.first
	} else {
		conflict = t.everywhere
		if j, there := t.at[one.HostIP]; there && (conflict < 0 || j < conflict) {
			conflict = j
		}
	}
	if t.first < 0 {
		t.first = number
	}
	if all && t.everywhere < 0 {
		t.everywhere = number
	}
	if _, there := t.at[one.HostIP]; !there {
		t.at[one.HostIP] = number
	}
	return conflict
}

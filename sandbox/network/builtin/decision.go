package builtin

import (
	"net/netip"
	"time"

	"cove/sandbox/network/egress"
)

// Decision is one line of the log: a connection, a flow of datagrams, an echo request, or a question to the name server.
type Decision struct {
	Time    time.Time     `json:"time"`
	Kind    string        `json:"kind"`           // tcp, udp, icmp, dns
	Name    string        `json:"name,omitempty"` // that the address is known by, or that was asked for
	Address string        `json:"address,omitempty"`
	Port    uint16        `json:"port,omitempty"`
	Type    string        `json:"type,omitempty"` // of a question
	Told    []string      `json:"told,omitempty"` // addresses that answered it
	Allowed bool          `json:"allowed"`
	Reason  string        `json:"reason,omitempty"` // why not
	Entry   string        `json:"entry,omitempty"`  // of the profile, that decided
	Error   string        `json:"error,omitempty"`  // allowed, and could not be done
	Sent    int64         `json:"sent,omitempty"`   // bytes, by the sandbox
	Got     int64         `json:"got,omitempty"`
	Took    time.Duration `json:"ns,omitempty"`
}

func (n *Network) log(d Decision) {
	if n.opts.Log != nil {
		n.opts.Log(d)
	}
}

// decision begins the line for an address.
func (n *Network) decision(kind string, to netip.AddrPort, v egress.Verdict) Decision {
	return Decision{Time: time.Now(), Kind: kind, Name: n.policy.NameOf(to.Addr()), Address: to.Addr().String(), Port: to.Port(),
		Allowed: v.OK, Reason: v.Reason, Entry: v.Entry}
}

func (n *Network) logName(name, kind string, v egress.Verdict, told []netip.Addr) {
	d := Decision{Time: time.Now(), Kind: "dns", Name: name, Type: kind, Allowed: v.OK, Reason: v.Reason, Entry: v.Entry}
	for _, a := range told {
		d.Told = append(d.Told, a.String())
	}
	n.log(d)
}

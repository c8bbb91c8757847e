package builtin

import (
	"net/netip"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/network/egress"
)

// log tells of a decision. It is called before who asked is answered, where the answer is no: what they do next finds it told.
func (n *Network) log(d network.Decision) {
	if !d.Allowed {
		n.pace.charge(refusalTime)
	}
	if n.opts.Log != nil {
		n.opts.Log(d)
	}
}

// decision begins the line for an address.
func (n *Network) decision(kind string, to netip.AddrPort, v egress.Verdict) network.Decision {
	name := v.Name
	if name == "" {
		name = n.policy.NameOf(to.Addr())
	}
	return network.Decision{Time: time.Now(), Kind: kind, Name: name, Address: to.Addr().String(), Port: to.Port(),
		Allowed: v.OK, Reason: v.Reason, Entry: v.Entry}
}

func (n *Network) logName(name, kind string, v egress.Verdict, told []netip.Addr) {
	d := network.Decision{Time: time.Now(), Kind: "dns", Name: name, Type: kind, Allowed: v.OK, Reason: v.Reason, Entry: v.Entry}
	for _, a := range told {
		d.Told = append(d.Told, a.String())
	}
	n.log(d)
}

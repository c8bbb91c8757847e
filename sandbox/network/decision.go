package network

import "time"

// Decision is what cove's own network decided on one connection, flow of datagrams, echo request, or question to its
// name server: a line of the network's log.
type Decision struct {
	Time    time.Time     `json:"time"`
	Kind    string        `json:"kind"`           // tcp, udp, icmp, dns
	Name    string        `json:"name,omitempty"` // that the address is known by, that the client said, or that was asked for
	Address string        `json:"address,omitempty"`
	Port    uint16        `json:"port,omitempty"`
	Type    string        `json:"type,omitempty"` // of a question
	Told    []string      `json:"told,omitempty"` // addresses that answered it
	Allowed bool          `json:"allowed"`
	Reason  string        `json:"reason,omitempty"` // why not: package egress has the words
	Entry   string        `json:"entry,omitempty"`  // of the profile, that decided
	Error   string        `json:"error,omitempty"`  // allowed, and could not be done; or what of the client's form is wrong
	Sent    int64         `json:"sent,omitempty"`   // bytes, by the sandbox
	Got     int64         `json:"got,omitempty"`
	Took    time.Duration `json:"ns,omitempty"`
	// Count says of what came to nothing that it did so that often since the line before on it; 0 is once.
	Count int `json:"count,omitempty"`
}

// More is the kind of a line that stands for Count others, which were too many to be told apart.
const More = "more"

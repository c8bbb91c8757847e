// Package names is the name server of a sandbox whose network is cove's own: it asks the host's name servers for what
// the sandbox's policy lets be asked, and tells the policy what was answered.
//
// A question is read, judged, and asked anew, and of an answer only what belongs to the question is told, so that neither
// side can use it for more than names: nothing of the sandbox's own bytes goes out but a name that is allowed,
// and nothing comes in that was not asked for (RFC 5452).
//
// It speaks DNS as RFC 1035, 6891 (EDNS) and 7766 (TCP) have it, and reads resolv.conf(5).
package names

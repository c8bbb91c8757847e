// Package egress decides where a sandbox may connect to: a Policy made of the profile's entries, and what the
// sandbox's own questions to its name server have taught it.
//
// Names are not addresses, and a connection has only an address. So a name opens an address when the name server has
// told it to this sandbox, for as long as the answer holds. Where two names share an address the name that a
// client says itself is asked for (Sniff): the one in a TLS ClientHello, or in every request of HTTP/1.
//
// It reads what strangers wrote (ClientHello, HTTP), moves no packet, and knows nothing of network stacks: package
// builtin beside it does.
package egress

// Package network is the child half of the sandbox's network: what init does inside its own
// network namespace. Package driver beside it is the parent half, which starts the user-mode
// network and says in a spec.Link what is to be configured here.
//
// Configure closes what must not be reached twice over, because either way alone has a hole:
//
//   - Routes of type prohibit make a connect(2) fail at once with EACCES, a clear answer. They are
//     no wall: a process without any privilege names its interface (SO_BINDTODEVICE since Linux
//     5.7, IP_PKTINFO, IP_MULTICAST_IF), and then IPv6 passes over a prohibit route because that lies on lo,
//     while IPv4 takes a failed look-up to mean that the destination is on the link.
//   - A packet filter (nf_tables) on everything that leaves by the interface is that wall. Alone it would
//     let a program wait for a time-out instead of telling it no.
//
// Both are the sandbox's own and hold as long as nothing inside has CAP_NET_ADMIN; CAP_NET_RAW
// would also walk past the filter's output hook with a packet socket.
//
// Everything is rtnetlink(7) and nf_tables by hand, since init must start in 2 ms: the package imports
// neither net nor any netlink library.
package network

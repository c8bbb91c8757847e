// Package builtin is cove's own user-mode network: a TCP/IP stack in the sandbox's parent, which ends every connection of
// the sandbox and makes one of its own to where that was to lead, if the policy lets it.
//
//	sandbox's kernel          parent
//	  tun0  ==== packets ====> link -> gVisor's netstack -> tcp.go, udp.go, echo.go -> sockets of this machine
//	                                                     \-> names (10.0.2.3:53)
//
// The interface is made by init, in the sandbox's network namespace, and its descriptor comes here (spec.Link.Tun): it
// takes no helper program. Nothing inside can widen what is reached, whatever capabilities it has over its own
// interfaces, for the policy is out here.
//
// A connection is made outside first and answered inside then: so a refusal, a closed port and a dead host look inside
// as they would without a stack between.
//
// The stack is gvisor.dev/gvisor/pkg/tcpip, used directly; the link to the interface is ours, for it hands packets over
// without checksums, which both ends of one machine's memory can do without (virtio's header, tuntap.rst).
package builtin

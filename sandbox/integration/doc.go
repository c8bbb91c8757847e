// Package integration is what the parts of a sandbox say to each other of what it may use of its caller's session: the
// ssh agent's keys, and what else the table [host] of a profile grants.
//
// Init makes a socket for each such thing, inside, in a file system that holds nothing else (package rootfs), and sends the
// listening descriptor to the parent, which serves it. So there is no folder of the host's inside, nothing listens on the
// host, and with the parent the service is gone. What the parent does there is a Driver's, package outside's: it is handed to
// who runs a sandbox, so that a sandbox without integrations links none of it before it has started. What GPUs need is found by package gpu, before the decision.
package integration

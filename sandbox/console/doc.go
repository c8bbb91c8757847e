// Package console is the client's side of a session: it starts a command in a sandbox over the
// session's socket, relays between the caller's descriptors and the command's, passes signals on,
// and puts the terminal back whatever happens.
//
// A host terminal never enters a sandbox: with one, the command gets a pty of the sandbox's own
// and the bytes are relayed. Pipes and sockets are handed in as they are, so that they stay
// byte-exact and separate. Everything else is relayed through a pipe: a descriptor that was opened
// for reading can be opened again for writing through /proc/self/fd.
package console

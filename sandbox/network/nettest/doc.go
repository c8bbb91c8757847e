// Nettest is the world outside for tests of the network: testdata/netns runs it in a network
// namespace that answers on every address, so that a test can tell "closed" from "nobody there".
//
// It serves DNS (53/udp and 53/tcp, see names.go), an echo (7/udp and 7/tcp) that begins with the
// address it was reached at, HTTP (80), and the same over TLS (443, 8444):
//
//	/            the address that was reached
//	/bytes?n=N   N bytes
//	/seen?dst=A  how many packets came for the address A since the start, by a sniffer (AF_PACKET); with http=0 without
//	             those to its port 80
//	/who         the host that the request names, and over TLS the name that the ClientHello has
//	/ca.pem      the authority of the TLS server's certificate, which is for *.example.test and proxy.golang.org
//	/ws, /no-ws  a WebSocket that says everything back, and what is none
//	/git/        a repository, project.git, by git's own server; it is made below COVE_NETTEST_DIR
//	/debian/     a Debian archive with one package, cove-hello
//	/hello.example.test/hello/@v/   what a Go module proxy has of a module, v1.0.0
//
// It is a program of the tests alone; nothing of cove's imports it.
package main

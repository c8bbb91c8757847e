// Nettest is the world outside for tests of the network: testdata/netns runs it in a network
// namespace that answers on every address, so that a test can tell "closed" from "nobody there".
//
// It serves DNS (53/udp and 53/tcp, see names.go), an echo (7/udp and 7/tcp) that begins with the
// address it was reached at, and HTTP (80):
//
//	/            the address that was reached
//	/bytes?n=N   N bytes
//	/seen?dst=A  how many packets came for the address A since the start, by a sniffer (AF_PACKET)
//
// It is a program of the tests alone; nothing of cove's imports it.
package main

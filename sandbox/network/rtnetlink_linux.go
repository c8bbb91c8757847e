package network

import (
	"encoding/binary"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// The fixed parts of rtnetlink's messages, byte by byte as <linux/rtnetlink.h> and its neighbours
// lay them out.

// ifinfomsg is struct ifinfomsg for an interface that is to have the flags.
func ifinfomsg(index, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg) // family, pad, type: 0
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags) // which of them to change
	return b
}

// ifaddrmsg is struct ifaddrmsg. Its eight bits of flags are too few: IFA_FLAGS carries them.
func ifaddrmsg(index uint32, a spec.Prefix) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0] = family(a.IP)
	b[1] = byte(a.Bits)
	b[3] = unix.RT_SCOPE_UNIVERSE
	binary.NativeEndian.PutUint32(b[4:], index)
	return b
}

// rtmsg is struct rtmsg for a route to p.
func rtmsg(p spec.Prefix, table, kind, scope int, flags uint32) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0] = family(p.IP)
	b[1] = byte(p.Bits)
	b[4] = byte(table)
	b[5] = unix.RTPROT_STATIC
	b[6] = byte(scope)
	b[7] = byte(kind)
	binary.NativeEndian.PutUint32(b[8:], flags)
	return b
}

func family(a spec.IP) byte {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

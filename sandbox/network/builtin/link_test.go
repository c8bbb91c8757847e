package builtin

import (
	"bytes"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// What the interface lets through fits into a buffer that is used again.
func TestReadSize(t *testing.T) {
	if readSize > buffer.MaxChunkSize || readSize < vnetHeader+mtu {
		t.Errorf("%d bytes, for packets of %d and buffers of %d", readSize, vnetHeader+mtu, buffer.MaxChunkSize)
	}
}

// A large segment's headers stand alone, those of TCP's options with them; whatever else it is is left whole.
func TestParted(t *testing.T) {
	v4 := syn(netip.MustParseAddr("10.0.2.100"), netip.MustParseAddrPort("203.0.113.1:80"), 1024)
	options := bytes.Clone(v4)
	options[header.IPv4MinimumSize+12] = 8 << 4
	v6 := make([]byte, header.IPv6MinimumSize+header.TCPMinimumSize)
	header.IPv6(v6).Encode(&header.IPv6Fields{TransportProtocol: header.TCPProtocolNumber})
	v6[header.IPv6MinimumSize+12] = 5 << 4
	short := bytes.Clone(v4)
	short[header.IPv4MinimumSize+12] = 4 << 4
	ihl := bytes.Clone(v4)
	ihl[0] = 0x44
	for name, c := range map[string]struct {
		head []byte
		want int
	}{
		"IPv4": {v4, 40}, "options": {options, 52}, "IPv6": {v6, 60}, "short": {short, 0}, "short IP": {ihl, 0},
		"UDP":     {datagram(netip.MustParseAddr("10.0.2.100"), netip.MustParseAddrPort("203.0.113.1:9"), 1024, nil), 0},
		"nothing": {make([]byte, 1), 0},
	} {
		packet := append(bytes.Clone(c.head), bytes.Repeat([]byte("0123456789"), 1000)...)
		if got := headers(packet); got != c.want {
			t.Errorf("%s: headers of %d bytes, want %d", name, got, c.want)
		}
		checkParted(t, packet)
		checkParted(t, packet[:100])
	}
}

func checkParted(t *testing.T, packet []byte) {
	t.Helper()
	b := parted(buffer.NewViewWithData(packet))
	defer b.Release()
	if got := b.Flatten(); !bytes.Equal(got, packet) {
		t.Errorf("%d bytes became %d", len(packet), len(got))
	}
}

// FuzzParted: no byte of a packet is lost or moved, whatever its headers say.
func FuzzParted(f *testing.F) {
	f.Add(syn(netip.MustParseAddr("10.0.2.100"), netip.MustParseAddrPort("203.0.113.1:80"), 1024))
	f.Add([]byte{0x60, 0, 0, 0, 0, 0, 6, 64})
	f.Fuzz(func(t *testing.T, head []byte) {
		if len(head) > 0 && len(head) <= maxPacket {
			checkParted(t, append(bytes.Clone(head), make([]byte, min(smallPacket, maxPacket-len(head)))...))
			checkParted(t, head)
		}
	})
}

package builtin

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// vnetHeader stands before every packet of the interface (IFF_VNET_HDR, struct virtio_net_hdr). needsChecksum says that
// the packet holds no more than the beginning of one, to be finished by whoever sends it over a wire: here nobody does.
const (
	vnetHeader    = 10
	needsChecksum = 1
	maxPacket     = 65535
	// readSize has room for what the MTU lets through, and is the largest that buffers are kept in a pool of: one a few bytes larger is
	// made anew for each packet, and collected.
	readSize = buffer.MaxChunkSize
	// smallPacket is what is copied rather than handed on in the buffer that could hold the largest.
	smallPacket = 4096
)

// link is the stack's end of the interface. It implements stack.LinkEndpoint.
type link struct {
	file *os.File // non-blocking
	raw  syscall.RawConn
	mtu  uint32

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
	readers    sync.WaitGroup
	lost       func(error)          // told when the interface can no longer be read
	owed       func() time.Duration // asked before each packet: how long to leave the sandbox's packets where they are
}

// newLink takes file over: a tun interface that init has made with IFF_VNET_HDR.
func newLink(file *os.File, mtu uint32, owed func() time.Duration, lost func(error)) (*link, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	file.Close()
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	l := &link{file: os.NewFile(uintptr(fd), "tun"), mtu: mtu, owed: owed, lost: lost}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, err
	}
	return l, nil
}

var _ stack.LinkEndpoint = (*link)(nil)

func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	l.dispatcher = d
	l.mu.Unlock()
	if d == nil {
		l.Close()
		return
	}
	l.readers.Go(l.read)
}

// read hands on what the sandbox sends, until the interface is closed.
func (l *link) read() {
	view := buffer.NewViewSize(readSize)
	defer func() { view.Release() }()
	for {
		if wait := l.owed(); wait > 0 {
			time.Sleep(wait)
		}
		n, err := l.file.Read(view.AsSlice())
		if err != nil {
			if !errors.Is(err, os.ErrClosed) && l.lost != nil {
				l.lost(err)
			}
			return
		}
		if n <= vnetHeader {
			continue
		}
		packet := view
		if n <= smallPacket {
			packet = buffer.NewViewWithData(view.AsSlice()[vnetHeader:n])
		} else {
			packet.CapLength(n)
			packet.TrimFront(vnetHeader)
			view = buffer.NewViewSize(readSize)
		}
		l.deliver(packet)
	}
}

func (l *link) deliver(packet *buffer.View) {
	proto := tcpip.NetworkProtocolNumber(0)
	switch packet.AsSlice()[0] >> 4 {
	case 4:
		proto = header.IPv4ProtocolNumber
	case 6:
		proto = header.IPv6ProtocolNumber
	default:
		packet.Release()
		return
	}
	l.mu.RLock()
	d := l.dispatcher
	l.mu.RUnlock()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: parted(packet)})
	defer pkt.DecRef()
	if d == nil {
		return
	}
	pkt.RXChecksumValidated = true
	d.DeliverNetworkPacket(proto, pkt)
}

// parted puts a large packet's headers into a view of their own. The stack reads them again and again, and while it holds on to them makes
// a copy of all that is in one view with them (Buffer.PullUp).
func parted(packet *buffer.View) buffer.Buffer {
	size := headers(packet.AsSlice())
	if size == 0 || packet.Size() <= smallPacket {
		return buffer.MakeWithView(packet)
	}
	b := buffer.MakeWithView(buffer.NewViewWithData(packet.AsSlice()[:size]))
	packet.TrimFront(size)
	rest := buffer.MakeWithView(packet)
	b.Merge(&rest) // Append would fill the first up
	return b
}

// headers is how long the headers of a TCP segment are; 0 where it is none, or has more than the two.
func headers(p []byte) int {
	at := 0 // of the segment
	switch {
	case len(p) >= header.IPv4MinimumSize && p[0]>>4 == 4 && p[9] == byte(header.TCPProtocolNumber):
		at = int(p[0]&0xf) * 4
	case len(p) >= header.IPv6MinimumSize && p[0]>>4 == 6 && p[6] == byte(header.TCPProtocolNumber):
		at = header.IPv6MinimumSize
	}
	if at < header.IPv4MinimumSize || len(p) < at+header.TCPMinimumSize {
		return 0
	}
	if size := at + int(p[at+12]>>4)*4; size >= at+header.TCPMinimumSize && size < len(p) {
		return size
	}
	return 0
}

// WritePackets sends packets into the sandbox. A full queue loses them, as every network may.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	for _, pkt := range list.AsSlice() {
		header := vnet(pkt)
		if err := l.write(header[:], pkt.AsSlices()...); err != nil {
			if n == 0 {
				return 0, &tcpip.ErrClosedForSend{}
			}
			break
		}
		n++
	}
	return n, nil
}

// vnet is a packet's virtio header. The checksum's beginning, that of the pseudo header, is put in its place.
func vnet(pkt *stack.PacketBuffer) (h [vnetHeader]byte) {
	transport := pkt.TransportHeader().Slice()
	var offset int
	switch {
	case pkt.TransportProtocolNumber == header.TCPProtocolNumber && len(transport) >= header.TCPMinimumSize:
		offset = header.TCPChecksumOffset
	case pkt.TransportProtocolNumber == header.UDPProtocolNumber && len(transport) >= header.UDPMinimumSize:
		offset = 6
	default:
		return h // with a whole checksum
	}
	ip := pkt.Network()
	size := pkt.Size() - len(pkt.NetworkHeader().Slice())
	seed := header.PseudoHeaderChecksum(pkt.TransportProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(size))
	binary.BigEndian.PutUint16(transport[offset:], seed)
	h[0] = needsChecksum
	binary.LittleEndian.PutUint16(h[6:], uint16(len(pkt.NetworkHeader().Slice())))
	binary.LittleEndian.PutUint16(h[8:], uint16(offset))
	return h
}

// send puts a whole packet of ours into the sandbox.
func (l *link) send(packet []byte) {
	var h [vnetHeader]byte
	_ = l.write(h[:], packet)
}

func (l *link) write(head []byte, parts ...[]byte) error {
	var few [8][]byte
	iov := append(few[:0], head)
	iov = append(iov, parts...)
	var err error
	closed := l.raw.Write(func(fd uintptr) bool { // the descriptor cannot become another's meanwhile
		for {
			if _, err = unix.Writev(int(fd), iov); err != unix.EINTR {
				return true
			}
		}
	})
	return errors.Join(closed, err)
}

func (l *link) MTU() uint32                             { return l.mtu }
func (l *link) SetMTU(mtu uint32)                       {}
func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) Wait()                                   { l.readers.Wait() }

func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
}

func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// Close ends reading. The interface goes with its namespace.
func (l *link) Close() { _ = l.file.Close() }

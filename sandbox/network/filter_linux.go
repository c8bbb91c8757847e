package network

import (
	"encoding/binary"
	"fmt"

	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// filter puts a chain on everything that this network namespace sends, which drops what goes out by
// the interface to a closed address. It is what `nft` would call
//
//	table inet cove {
//	  chain output {
//	    type filter hook output priority filter
//	    oif != tap0 accept
//	    ip daddr 10.0.2.3 udp dport 53 accept                     for each name server
//	    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
//	    ip daddr 10.0.0.0/8 drop                                  for each closed range
//	  }
//	}
//
// with all of IPv6 dropped where the link has none. The output hook sees a packet after its route
// is chosen, by whatever trick, and before it is cut into fragments.
func filter(p *plan) error {
	nl, err := openNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer nl.close()
	b := &batch{nl: nl}
	b.edge(unix.NFNL_MSG_BATCH_BEGIN)
	b.first = nl.serial
	b.table()
	b.chain()
	b.rules(p)
	b.edge(unix.NFNL_MSG_BATCH_END)
	return b.commit()
}

// NoFilter begins the error of a kernel without what the filter is made of. It comes out of a stage as text.
const NoFilter = "this kernel does not have nf_tables, or not enough of it"

const (
	tableName = "cove"
	chainName = "output"

	// Of <linux/netfilter.h>, which x/sys does not have.
	nfDrop   = 0
	nfAccept = 1

	protoICMPv6       = 58
	neighbourSolicit  = 135 // RFC 4861
	neighbourAdvert   = 136
	dnsPort           = 53
	ipv4Destination   = 16 // offsets in the headers
	ipv6Destination   = 24
	portDestination   = 2
	networkHeader     = unix.NFT_PAYLOAD_NETWORK_HEADER
	transportHeader   = unix.NFT_PAYLOAD_TRANSPORT_HEADER
	register          = unix.NFT_REG_1
	messagesOfNftable = unix.NFNL_SUBSYS_NFTABLES << 8
)

// batch is a transaction: the kernel takes all of its messages or none.
type batch struct {
	nl    *netlink
	bytes []byte
	first uint32 // the serial of its beginning
}

func (b *batch) add(m *message) {
	b.nl.serial++
	b.bytes = append(b.bytes, m.finish(b.nl.serial)...)
}

// nfgenmsg is the fixed part of every nfnetlink message.
func nfgenmsg(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// edge begins or ends the batch. Its resource says that it is one of nf_tables.
func (b *batch) edge(kind uint16) {
	b.add(newMessage(kind, 0, nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)))
}

func (b *batch) request(kind, flags uint16) *message {
	return newMessage(messagesOfNftable|kind, flags|unix.NLM_F_CREATE|unix.NLM_F_ACK,
		nfgenmsg(unix.NFPROTO_INET, 0))
}

func (b *batch) table() {
	m := b.request(unix.NFT_MSG_NEWTABLE, 0)
	m.attrString(unix.NFTA_TABLE_NAME, tableName)
	b.add(m)
}

func (b *batch) chain() {
	m := b.request(unix.NFT_MSG_NEWCHAIN, 0)
	m.attrString(unix.NFTA_CHAIN_TABLE, tableName)
	m.attrString(unix.NFTA_CHAIN_NAME, chainName)
	m.nest(unix.NFTA_CHAIN_HOOK, func() {
		m.attrBE32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_OUT)
		m.attrBE32(unix.NFTA_HOOK_PRIORITY, 0)
	})
	m.attrBE32(unix.NFTA_CHAIN_POLICY, nfAccept)
	m.attrString(unix.NFTA_CHAIN_TYPE, "filter")
	b.add(m)
}

// commit sends the batch and waits for the answer to each of its requests. The beginning is answered
// only where the kernel has no nf_tables to give the batch to, the end never.
func (b *batch) commit() error {
	if err := b.nl.send(b.bytes); err != nil {
		return err
	}
	err := b.nl.acks(b.first, b.nl.serial-1)
	if err == unix.EOPNOTSUPP || err == unix.EINVAL {
		return fmt.Errorf(NoFilter+": %w", err)
	}
	return err
}

func (b *batch) rules(p *plan) {
	b.rule(nfAccept, func(r *rule) {
		r.meta(unix.NFT_META_OIF)
		r.compare(unix.NFT_CMP_NEQ, binary.NativeEndian.AppendUint32(nil, p.index))
	})
	for _, d := range p.dns {
		for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			if proto == unix.IPPROTO_TCP && !p.dnsTCP {
				continue
			}
			b.rule(nfAccept, func(r *rule) {
				r.destination(spec.Prefix{IP: d, Bits: 8 * len(d)})
				r.protocol(proto)
				r.payload(transportHeader, portDestination, 2)
				r.equal(0, dnsPort)
			})
		}
	}
	for _, kind := range []byte{neighbourSolicit, neighbourAdvert} {
		// Only the kernel and CAP_NET_RAW can send these.
		b.rule(nfAccept, func(r *rule) {
			r.protocol(protoICMPv6)
			r.payload(transportHeader, 0, 1)
			r.equal(kind)
		})
	}
	closed := p.closed
	if !p.has6() {
		closed = append(closed[:len(closed):len(closed)], spec.Prefix{IP: make(spec.IP, 16)})
	}
	for _, c := range closed {
		b.rule(nfDrop, func(r *rule) { r.destination(c) })
	}
}

// has6 tells whether the link carries IPv6 at all.
func (p *plan) has6() bool {
	for _, a := range p.addresses {
		if a.IP.Is6() {
			return true
		}
	}
	return false
}

// rule is one rule of the chain: expressions that load a register and compare it, until one does
// not match.
type rule struct{ m *message }

func (b *batch) rule(verdict uint32, match func(*rule)) {
	m := b.request(unix.NFT_MSG_NEWRULE, unix.NLM_F_APPEND)
	m.attrString(unix.NFTA_RULE_TABLE, tableName)
	m.attrString(unix.NFTA_RULE_CHAIN, chainName)
	m.nest(unix.NFTA_RULE_EXPRESSIONS, func() {
		r := &rule{m}
		match(r)
		r.expr("immediate", func() {
			m.attrBE32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
			m.nest(unix.NFTA_IMMEDIATE_DATA, func() {
				m.nest(unix.NFTA_DATA_VERDICT, func() { m.attrBE32(unix.NFTA_VERDICT_CODE, verdict) })
			})
		})
	})
	b.add(m)
}

func (r *rule) expr(name string, data func()) {
	r.m.nest(unix.NFTA_LIST_ELEM, func() {
		r.m.attrString(unix.NFTA_EXPR_NAME, name)
		r.m.nest(unix.NFTA_EXPR_DATA, data)
	})
}

// meta loads something known about the packet.
func (r *rule) meta(key uint32) {
	r.expr("meta", func() {
		r.m.attrBE32(unix.NFTA_META_DREG, register)
		r.m.attrBE32(unix.NFTA_META_KEY, key)
	})
}

// payload loads bytes of a header.
func (r *rule) payload(base, offset, size uint32) {
	r.expr("payload", func() {
		r.m.attrBE32(unix.NFTA_PAYLOAD_DREG, register)
		r.m.attrBE32(unix.NFTA_PAYLOAD_BASE, base)
		r.m.attrBE32(unix.NFTA_PAYLOAD_OFFSET, offset)
		r.m.attrBE32(unix.NFTA_PAYLOAD_LEN, size)
	})
}

// compare goes on with the rule where the register holds value (or does not).
func (r *rule) compare(op uint32, value []byte) {
	r.expr("cmp", func() {
		r.m.attrBE32(unix.NFTA_CMP_SREG, register)
		r.m.attrBE32(unix.NFTA_CMP_OP, op)
		r.m.nest(unix.NFTA_CMP_DATA, func() { r.m.attr(unix.NFTA_DATA_VALUE, value) })
	})
}

func (r *rule) equal(value ...byte) { r.compare(unix.NFT_CMP_EQ, value) }

// protocol matches the transport protocol, behind IPv6's extension headers too.
func (r *rule) protocol(proto byte) {
	r.meta(unix.NFT_META_L4PROTO)
	r.equal(proto)
}

// destination matches packets to a prefix, of its own family only.
func (r *rule) destination(p spec.Prefix) {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(ipv4Destination)
	if p.IP.Is6() {
		family, offset = unix.NFPROTO_IPV6, ipv6Destination
	}
	r.meta(unix.NFT_META_NFPROTO)
	r.equal(family)
	if p.Bits == 0 {
		return
	}
	size := len(p.IP)
	r.payload(networkHeader, offset, uint32(size))
	r.mask(p.Bits, size)
	r.equal(p.Masked()...)
}

// mask keeps the first bits of the register's size bytes: register & mask ^ 0.
func (r *rule) mask(bits, size int) {
	if bits == size*8 {
		return
	}
	mask := make([]byte, size)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	r.expr("bitwise", func() {
		r.m.attrBE32(unix.NFTA_BITWISE_SREG, register)
		r.m.attrBE32(unix.NFTA_BITWISE_DREG, register)
		r.m.attrBE32(unix.NFTA_BITWISE_LEN, uint32(size))
		r.m.nest(unix.NFTA_BITWISE_MASK, func() { r.m.attr(unix.NFTA_DATA_VALUE, mask) })
		r.m.nest(unix.NFTA_BITWISE_XOR, func() { r.m.attr(unix.NFTA_DATA_VALUE, make([]byte, size)) })
	})
}

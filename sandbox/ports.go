package sandbox

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"cove/sandbox/network"
	"cove/sandbox/spec"
)

// ports are the sandbox's published ports; made by the first who wants some.
func (b *box) ports() (network.Ports, error) {
	b.portsMu.Lock()
	defer b.portsMu.Unlock()
	if b.published != nil {
		return b.published, nil
	}
	if b.spec.Network.Mode != "user" {
		return nil, fmt.Errorf("the sandbox's network is %s: ports of one with network user are published", b.spec.Network.Mode)
	}
	// Not the caller's context: ^C is the command's to handle, and its ports stay open while it does.
	p, err := b.opts.Network.Publish(context.Background(), b.spec.Network.Publish, b.control.dial)
	if err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	b.published = p
	return p, nil
}

// publishPorts publishes what the Spec asks for.
func (b *box) publishPorts() error {
	n := b.spec.Network
	// Whatever is published later goes with the sandbox too.
	b.undo(b.unpublish)
	if len(n.Publish) > 0 {
		if _, err := b.ports(); err != nil {
			return err
		}
	}
	if n.PublishAuto {
		go b.publishListeners()
	}
	return nil
}

func (b *box) unpublish() error {
	b.portsMu.Lock()
	p := b.published
	b.portsMu.Unlock()
	if p == nil {
		return nil
	}
	return p.Close()
}

// portRequest asks the parent of a sandbox for a change of its ports; portReply answers.
type portRequest struct {
	Add    []spec.Port `json:"add,omitempty"`
	Remove []spec.Port `json:"remove,omitempty"`
}

type portReply struct {
	Ports []spec.Port `json:"ports"` // all that are published, after the change
	Error string      `json:"error,omitempty"`
}

// changePorts carries a request out. What it has added before an error stays.
func (b *box) changePorts(r *portRequest) (reply portReply) {
	b.portsMu.Lock()
	p := b.published
	b.portsMu.Unlock()
	var err error
	if p == nil && len(r.Add)+len(r.Remove) > 0 {
		p, err = b.ports()
	}
	for _, port := range r.Add {
		if err == nil {
			_, err = p.Add(port)
		}
	}
	for _, port := range r.Remove {
		if err == nil && !p.Remove(port) {
			err = fmt.Errorf("port %s is not published", PortText(port))
		}
	}
	if err != nil {
		reply.Error = err.Error()
	}
	if p != nil {
		reply.Ports = p.Ports()
	}
	return reply
}

// PortText is a port as -p takes it.
func PortText(p spec.Port) string {
	host := p.HostIP
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d:%d/%s", host, p.HostPort, p.ContainerPort, p.Proto)
}

// ChangePorts publishes ports of a running sandbox, and takes others back; it returns all that are published then.
func ChangePorts(runtimeDir, name string, add, remove []spec.Port) ([]spec.Port, error) {
	dir, r, err := find(runtimeDir, name)
	if err != nil {
		return nil, err
	}
	conn, err := dialSocket(dir)
	if err != nil {
		return nil, fmt.Errorf("sandbox %q: %w", r.Name, err)
	}
	defer conn.Close()
	if err := conn.Send(request{Ports: &portRequest{Add: add, Remove: remove}}); err != nil {
		return nil, fmt.Errorf("sandbox %q: %w", r.Name, err)
	}
	var reply portReply
	if _, err := conn.Recv(&reply); err != nil {
		return nil, fmt.Errorf("sandbox %q: %w", r.Name, err)
	}
	if reply.Error != "" {
		return reply.Ports, fmt.Errorf("sandbox %q: %s", r.Name, reply.Error)
	}
	return reply.Ports, nil
}

// listenPause is between two looks for what listens inside.
const listenPause = 500 * time.Millisecond

// maxAuto bounds the ports that are published because something listens there: each takes a port of the host's from its
// programs, and a descriptor of this process's.
const maxAuto = 256

// publishListeners publishes whatever begins to listen inside, on 127.0.0.1 under the same number or, where that is
// taken or not ours to have, another; and takes it back when it has ended.
func (b *box) publishListeners() {
	a := &autoPorts{mine: map[uint16]spec.Port{}, asked: map[uint16]bool{}, publish: b.publishOne, known: b.isPublished, tell: b.tellPort,
		remove: func(at spec.Port) { b.published.Remove(at) }}
	for {
		select {
		case <-b.ended:
			return
		case <-time.After(listenPause):
		}
		if now, err := listeners(b.child.Pid()); err == nil {
			a.look(now)
		}
	}
}

// autoPorts are the ports that are published because something listens there.
type autoPorts struct {
	mine    map[uint16]spec.Port
	asked   map[uint16]bool // what could not be had is told once
	full    bool            // and so is that there are too many
	publish func(port uint16) (spec.Port, error)
	remove  func(spec.Port)
	known   func(port uint16) bool // published already
	tell    func(format string, args ...any)
}

// look takes what listens now.
func (a *autoPorts) look(now []uint16) {
	for port, at := range a.mine {
		if !slices.Contains(now, port) {
			a.remove(at)
			delete(a.mine, port)
			a.tell("port %d inside has closed: %s:%d is taken back", port, at.HostIP, at.HostPort)
		}
	}
	for _, port := range now {
		if _, done := a.mine[port]; done || a.asked[port] || a.known(port) {
			continue
		}
		if len(a.mine) >= maxAuto {
			if !a.full {
				a.tell("port %d inside is not published: %d are, which is the most", port, maxAuto)
			}
			a.full = true
			return
		}
		at, err := a.publish(port)
		if err != nil {
			a.asked[port] = true
			a.tell("port %d inside could not be published: %v", port, err)
			continue
		}
		a.mine[port] = at
		a.tell("port %d inside is at %s:%d", port, at.HostIP, at.HostPort)
	}
}

// publishOne publishes a port under its own number, or under any.
func (b *box) publishOne(port uint16) (spec.Port, error) {
	p, err := b.ports()
	if err != nil {
		return spec.Port{}, err
	}
	want := spec.Port{HostIP: "127.0.0.1", HostPort: port, ContainerPort: port, Proto: "tcp"}
	at, err := p.Add(want)
	if err != nil {
		want.HostPort = 0
		at, err = p.Add(want)
	}
	return at, err
}

func (b *box) isPublished(port uint16) bool {
	b.portsMu.Lock()
	p := b.published
	b.portsMu.Unlock()
	return p != nil && slices.ContainsFunc(p.Ports(), func(one spec.Port) bool { return one.ContainerPort == port && one.Proto == "tcp" })
}

// tellPort tells who started the sandbox; a keeper has nobody to tell but those in its shells.
func (b *box) tellPort(format string, args ...any) {
	if b.opts.shell {
		_ = b.control.conn.Send(spec.ToInit{Notice: fmt.Sprintf("cove: "+format, args...)})
		return
	}
	b.warn(format, args...)
}

// listeners are the TCP ports that are listened on in the network namespace of a process, on every address or on loopback,
// from proc_pid_net(5): "sl local_address rem_address st ...", addresses as hexadecimal HOST:PORT, state 0A.
func listeners(pid int) ([]uint16, error) {
	var out []uint16
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/" + table)
		if errors.Is(err, os.ErrNotExist) && table == "tcp6" {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "0A" {
				continue
			}
			host, port, _ := strings.Cut(f[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			if err != nil || !nearAddress(host) || slices.Contains(out, uint16(n)) {
				continue
			}
			out = append(out, uint16(n))
		}
	}
	return out, nil
}

// nearAddress tells an address that a connection to the sandbox's loopback reaches. The kernel prints it in words of 32 bits,
// each in the machine's byte order.
func nearAddress(text string) bool {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return false
	}
	addr := make([]byte, len(raw))
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(addr[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	switch {
	case len(addr) == 4:
		return addr[0] == 127 || string(addr) == "\x00\x00\x00\x00"
	case string(addr[:10]) == string(make([]byte, 10)) && addr[10] == 0xff && addr[11] == 0xff:
		return addr[12] == 127 || string(addr[12:]) == "\x00\x00\x00\x00"
	}
	return string(addr[:15]) == string(make([]byte, 15)) && addr[15] <= 1
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	log.SetPrefix("nettest: ")
	log.SetFlags(0)
	seen, err := sniff()
	if err != nil {
		log.Fatal(err)
	}
	for _, serve := range []func() error{
		func() error { return serveTCP(":7", echoTCP) },
		func() error { return serveTCP(":53", answerTCP) },
		func() error { return serveUDP("udp4", 7, echoUDP) },
		func() error { return serveUDP("udp6", 7, echoUDP) },
		func() error { return serveUDP("udp4", 53, answerUDP) },
		func() error { return serveUDP("udp6", 53, answerUDP) },
		func() error { return serveHTTP(seen) },
	} {
		if err := serve(); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("up")
	os.Stdout.Close()
	select {}
}

func serveTCP(addr string, handle func(net.Conn)) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				handle(c)
			}()
		}
	}()
	return nil
}

// echoTCP says the address that was reached, a newline, and then whatever it is told.
func echoTCP(c net.Conn) {
	fmt.Fprintln(c, host(c.LocalAddr()))
	_, _ = io.Copy(c, c)
	_ = c.(*net.TCPConn).CloseWrite()
}

func echoUDP(local net.IP, p []byte) []byte {
	return append([]byte(local.String()+"\n"), p...)
}

// serveUDP answers each datagram from the address it came to. A socket bound to the wildcard would
// answer from the interface's own, so the address travels as IP_PKTINFO (ip(7), ipv6(7)).
func serveUDP(network string, port int, handle func(local net.IP, p []byte) []byte) error {
	level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
	if network == "udp6" {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var serr error
		err := raw.Control(func(fd uintptr) {
			serr = unix.SetsockoptInt(int(fd), level, option, 1)
			if serr == nil && network == "udp6" {
				// IPv6 lets a socket send from an AnyIP address only with this.
				serr = unix.SetsockoptInt(int(fd), level, unix.IPV6_FREEBIND, 1)
			}
		})
		return errors.Join(err, serr)
	}}
	pc, err := lc.ListenPacket(context.Background(), network, ":"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	go func() {
		c := pc.(*net.UDPConn)
		buf, oob := make([]byte, 65535), make([]byte, 256)
		for {
			n, oobn, _, from, err := c.ReadMsgUDP(buf, oob)
			if err != nil {
				log.Fatal(err)
			}
			local, back := pktinfo(oob[:oobn])
			if answer := handle(local, buf[:n]); answer != nil {
				_, _, _ = c.WriteMsgUDP(answer, back, from)
			}
		}
	}()
	return nil
}

// pktinfo tells the address a datagram came to, and the control message that answers from it.
func pktinfo(oob []byte) (net.IP, []byte) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, nil
	}
	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			// ipi_ifindex, ipi_spec_dst, ipi_addr
			info := &unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[8:12])}
			return net.IP(append([]byte{}, m.Data[8:12]...)), unix.PktInfo4(info)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16:
			info := &unix.Inet6Pktinfo{Addr: [16]byte(m.Data[0:16])}
			return net.IP(append([]byte{}, m.Data[0:16]...)), unix.PktInfo6(info)
		}
	}
	return nil, nil
}

func serveHTTP(seen *counter) error {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, host(r.Context().Value(http.LocalAddrContextKey).(net.Addr)))
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 || n > 1<<30 {
			http.Error(w, "n is no count", http.StatusBadRequest)
			return
		}
		_, _ = io.CopyN(w, zeros{}, n)
	})
	mux.HandleFunc("/seen", func(w http.ResponseWriter, r *http.Request) {
		ip := net.ParseIP(r.FormValue("dst"))
		if ip == nil {
			http.Error(w, "dst is no address", http.StatusBadRequest)
			return
		}
		time.Sleep(20 * time.Millisecond) // what came before this request may be in the sniffer's queue
		fmt.Fprintln(w, seen.of(ip, r.FormValue("http") != "0"))
	})
	handle(mux, os.Getenv("COVE_NETTEST_DIR"))
	if err := serveTLS(mux); err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadTimeout: time.Minute}
	go func() { log.Fatal(server.Serve(l)) }()
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}

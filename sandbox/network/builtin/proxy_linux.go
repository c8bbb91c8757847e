package builtin

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Proxy says through which proxy, if any, a URL is to be asked for: what golang.org/x/net/http/httpproxy makes of the
// environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
type Proxy func(*url.URL) (*url.URL, error)

const (
	connectTime = 30 * time.Second
	maxConnect  = 16 << 10
)

// proxyFor is the proxy that a connection is to take, nil for none. name is what the address is known by inside, or "".
func (n *Network) proxyFor(to netip.AddrPort, name string) (*url.URL, error) {
	if n.opts.Proxy == nil || to.Addr().IsLoopback() {
		return nil, nil
	}
	scheme := "http"
	if to.Port() == 443 {
		scheme = "https"
	}
	u, err := n.opts.Proxy(&url.URL{Scheme: scheme, Host: authority(to, name)})
	if err != nil || u == nil {
		return nil, err
	}
	if u.Scheme != "http" || u.Hostname() == "" {
		return nil, fmt.Errorf("the proxy %s: only http://HOST:PORT is known", u.Redacted())
	}
	return u, nil
}

// authority is where a connection leads, by name where it is known: a proxy may only know names.
func authority(to netip.AddrPort, name string) string {
	if name == "" {
		return to.String()
	}
	return net.JoinHostPort(name, strconv.Itoa(int(to.Port())))
}

// connect has a proxy connect us (RFC 9110 9.3.6).
func connect(ctx context.Context, proxy *url.URL, to string) (*net.TCPConn, error) {
	port := proxy.Port()
	if port == "" {
		port = "80"
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(connectTime))
	if err := askProxy(c, proxy.User, to); err != nil {
		c.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
	}
	_ = c.SetDeadline(time.Time{})
	return c.(*net.TCPConn), nil
}

func askProxy(c net.Conn, user *url.Userinfo, to string) error {
	request := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n"
	if user != nil {
		password, _ := user.Password()
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		return err
	}
	// Byte by byte: what follows the head is the other's, who may speak first.
	head, err := readHead(c)
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(head, "\r\n")
	fields := strings.SplitN(line, " ", 3)
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.") {
		return fmt.Errorf("no answer to CONNECT: %.60q", line)
	}
	if !strings.HasPrefix(fields[1], "2") || len(fields[1]) != 3 {
		return fmt.Errorf("it refuses: %.60q", line)
	}
	return nil
}

func readHead(c net.Conn) (string, error) {
	var head strings.Builder
	one := make([]byte, 1)
	for head.Len() < maxConnect {
		if _, err := io.ReadFull(c, one); err != nil {
			return "", err
		}
		head.WriteByte(one[0])
		if strings.HasSuffix(head.String(), "\r\n\r\n") {
			return head.String(), nil
		}
	}
	return "", errors.New("an endless answer to CONNECT")
}

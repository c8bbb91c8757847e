package wire

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const userAgent = "cove"

// Credentials are what a registry knows the user by.
type Credentials struct {
	Username, Password string
	IdentityToken      string // exchanged for others (OAuth 2's refresh token)
}

// Settings are how a registry is asked. A zero field means the default.
type Settings struct {
	// Credentials is called when the registry asks for them, once. nil, or empty ones: there are none.
	Credentials func() (Credentials, error)
	// Trusted tells a host that the user has named, so that a registry may lead to it wherever it is.
	Trusted func(hostport string) bool
	// Waiting is told of every wait before another attempt.
	Waiting func(d time.Duration, why string)

	Connect  time.Duration // to connect, and once more for the TLS handshake: 30 s
	Silence  time.Duration // without a byte, while one is waited for: 2 min
	Slow     time.Duration // over which a body must come at MinRate, counting only the time that it is waited for: 1 min
	MinRate  int64         // bytes a second: 1024
	Document time.Duration // for a manifest or a token, whole: 2 min
	MaxWait  time.Duration // the longest Retry-After that is waited for: 1 min
	Pause    time.Duration // before the second attempt, then 3 and 9 times that: 200 ms
	Attempts int           // of a request, or without progress of a blob: 4

	Proxy func(*http.Request) (*url.URL, error) // http.ProxyFromEnvironment
	Dial  func(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error)

	classOf func(netip.Addr) class
}

func (s Settings) withDefaults() Settings {
	for p, d := range map[*time.Duration]time.Duration{&s.Connect: 30 * time.Second, &s.Silence: 2 * time.Minute, &s.Slow: time.Minute,
		&s.Document: 2 * time.Minute, &s.MaxWait: time.Minute, &s.Pause: 200 * time.Millisecond} {
		if *p <= 0 {
			*p = d
		}
	}
	if s.MinRate <= 0 {
		s.MinRate = 1024
	}
	if s.Attempts <= 0 {
		s.Attempts = 4
	}
	if s.Trusted == nil {
		s.Trusted = func(string) bool { return false }
	}
	if s.Proxy == nil {
		s.Proxy = http.ProxyFromEnvironment
	}
	if s.classOf == nil {
		s.classOf = classOf
	}
	return s
}

func (s Settings) dial(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(ctx, d, network, addr)
	}
	return d.DialContext(ctx, network, addr)
}

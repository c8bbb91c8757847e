package config

import (
	"strings"
	"testing"
)

func TestParseEgress(t *testing.T) {
	for text, want := range map[string]string{
		"Proxy.Golang.org":      "proxy.golang.org",
		"proxy.golang.org.":     "proxy.golang.org",
		"*.debian.org:80":       "*.debian.org:80",
		"a.example:80-80/tcp":   "a.example:80",
		"a.example:8000-8100":   "a.example:8000-8100",
		"a.example/udp":         "a.example/udp",
		"_srv.a-b.example":      "_srv.a-b.example",
		"bücher.example":        "bücher.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example",
		"localhost":             "localhost",
		"10.1.0.0/16:5432":      "10.1.0.0/16:5432",
		"10.1.2.3":              "10.1.2.3",
		"10.1.2.3/32":           "10.1.2.3",
		"0.0.0.0/0":             "0.0.0.0/0",
		"*":                     "*",
		"*:443/udp":             "*:443/udp",
		"192.0.2.1:53/udp":      "192.0.2.1:53/udp",
		"2001:DB8::1":           "2001:db8::1",
		"2001:db8::/32":         "2001:db8::/32",
		"[2001:db8::/32]:443":   "[2001:db8::/32]:443",
		"[2001:db8::1]":         "2001:db8::1",
		"::/0":                  "::/0",
	} {
		e, err := ParseEgress(text)
		if err != nil || e.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, e, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                "names nothing",
		"*.":                              "names nothing",
		"a.example:":                      "port",
		"a.example:0":                     "not a port",
		"a.example:+1":                    "not a port",
		"a.example:9-8":                   "ends before it begins",
		"a.example:80:90":                 "not an IP address",
		"a.example/":                      "unknown protocol",
		"a.example/icmp":                  "unknown protocol",
		"https://a.example":               "unknown protocol",
		"a b.example":                     "not part of a domain name",
		"a.*.example":                     "only at the beginning",
		"-a.example":                      "hyphen",
		"a\x00.example":                   "not part of a domain name",
		"a\xff.example":                   "not part of a domain name",
		"a\u202e.example":                 "not part of a domain name",
		strings.Repeat("a", 64) + ".org":  "63",
		strings.Repeat("a.", 127) + "org": "253",
		"1.2.3":                           "not an IP address",
		"1.2.3.256":                       "not an IP address",
		"10.0.0.0/33":                     "length of a network",
		"10.0.0.0/08":                     "length of a network",
		"10.0.0.1/8":                      `write "10.0.0.0/8"`,
		"127.0.0.1":                       "host_ports",
		"127.5.0.0/16:80":                 "host_ports",
		"::1":                             "host_ports",
		"[::1]:80":                        "host_ports",
		"::1:80":                          "[ADDRESS]:PORT",
		"::ffff:1.2.3.4":                  "in disguise",
		"[1.2.3.4]:80":                    "[ADDRESS]:PORT",
		"[2001:db8::1]80":                 "[ADDRESS]:PORT",
	} {
		if e, err := ParseEgress(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want an error with %q", text, e, err, want)
		}
	}
}

// What is shown is what was meant: an entry reads back as itself, and says one thing in one way.
func FuzzParseEgress(f *testing.F) {
	for _, s := range []string{"*.a.example:1-2/udp", "[2001:db8::/32]:443", "10.0.0.0/8:1", "a_b.c", "::/0", "bücher.example."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEgress(text)
		if err != nil {
			return
		}
		again, err := ParseEgress(e.String())
		if err != nil || again.String() != e.String() {
			t.Fatalf("%q: shown as %q, which reads as %q, %v", text, e, again, err)
		}
		if !e.Any && (e.Name == "") == (e.Address == nil) || e.Any && (e.Name != "" || e.Address != nil) {
			t.Fatalf("%q: %+v is not one of a name, an address, or any", text, e)
		}
	})
}

package sandbox

import (
	"testing"

	"cove/sandbox/spec"
)

func TestResolvText(t *testing.T) {
	for name, c := range map[string]struct{ host, want string }{
		"nothing":        {"", ""},
		"a plain one":    {"nameserver 192.0.2.1\n", ""},
		"resolved":       {"# This is /run/systemd/resolve/stub-resolv.conf\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example lan\n", "search corp.example lan\noptions edns0\n"},
		"resolved alone": {"nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", "search .\noptions edns0\n"},
		"domain":         {"domain a.example\n", "search a.example\n"},
		"the last":       {"domain a.example\nsearch b.example c.example\n", "search b.example c.example\n"},
		"the last, too":  {"search b.example c.example\ndomain a.example x\n", "search a.example\n"},
		"options":        {"options ndots:2 timeout:1\noptions rotate ndots:2 attempts:3", "options ndots:2 timeout:1 rotate attempts:3\n"},
		"no keywords":    {" search a.example\n#search b.example\n;options rotate\nsearch\nSEARCH c.example\n", ""},
		"odd words":      {"search a.example \x1b[2J *.b ${HOME}\noptions ndots:1 \x1bx;y\n", "search a.example\noptions ndots:1\n"},
		"CRLF, blanks":   {"search\ta.example   b.example \r\n", "search a.example b.example\n"},
	} {
		if got, want := resolvText([]spec.IP{{10, 0, 2, 3}}, c.host), "nameserver 10.0.2.3\n"+c.want; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

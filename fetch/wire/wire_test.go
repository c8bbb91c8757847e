package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"cove/fetch/oci"
)

func TestClassOf(t *testing.T) {
	for addr, want := range map[string]class{
		"8.8.8.8": public, "2606:4700::1": public, "10.1.2.3": private, "192.168.0.1": private, "172.16.0.1": private, "100.64.0.1": private,
		"fd00::1": private, "fec0::1": private, "198.18.0.1": private, "0.1.2.3": private, "255.255.255.255": private,
		"127.0.0.1": loopback, "127.8.8.8": loopback, "::1": loopback, "0.0.0.0": loopback, "::": loopback,
		"169.254.169.254": linkLocal, "fe80::1": linkLocal, "fe80::1%lo": linkLocal, "224.0.0.1": linkLocal, "ff02::1": linkLocal,
		"::ffff:10.0.0.1": private, "::ffff:127.0.0.1": loopback, "64:ff9b::a9fe:a9fe": linkLocal, "64:ff9b::7f00:1": loopback, "64:ff9b::808:808": public,
		"2002:7f00:1::": loopback, "2002:808:808::1": public,
	} {
		if got := classOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is %s one, want %s", addr, got, want)
		}
	}
	for _, c := range []struct {
		from, to class
		ok       bool
	}{
		{public, public, true}, {public, private, false}, {public, loopback, false}, {public, linkLocal, false},
		{private, public, true}, {private, private, true}, {private, loopback, false}, {private, linkLocal, false},
		{loopback, public, true}, {loopback, private, true}, {loopback, loopback, true}, {loopback, linkLocal, false},
		{unknown, public, true}, {unknown, private, true}, {unknown, loopback, false}, {unknown, linkLocal, false},
		{linkLocal, linkLocal, true}, {linkLocal, private, false},
	} {
		if mayLead(c.from, c.to) != c.ok {
			t.Errorf("from %s to %s: %v", c.from, c.to, !c.ok)
		}
	}
}

// A registry in the internet leads nobody to where it cannot go itself, by address or by name, and neither does its
// token service; who the user has named is reached.
func TestPublicRegistryLeadsNowherePrivate(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the private service was asked") }))
	defer inner.Close()
	innerPort := inner.Listener.Addr().(*net.TCPAddr).Port
	to := ""
	registry := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if strings.HasSuffix(to, "/token") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+to+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, &http.Request{Method: http.MethodGet, URL: &url.URL{}}, to, http.StatusFound)
	}))
	// The registry's own address, which is one of this machine, counts as public here.
	const home = "127.0.0.2"
	var err error
	if registry.Listener, err = net.Listen("tcp", home+":0"); err != nil {
		t.Fatal(err)
	}
	registry.Start()
	defer registry.Close()
	s := Settings{Pause: time.Millisecond, classOf: func(a netip.Addr) class {
		if a.String() == home {
			return public
		}
		return classOf(a)
	}}
	s.Dial = func(ctx context.Context, d *net.Dialer, network, addr string) (net.Conn, error) {
		return d.DialContext(ctx, network, strings.Replace(addr, "inner.example", "127.0.0.1", 1))
	}
	for _, where := range []string{"http://127.0.0.1:%d/x", "http://localhost:%d/x", "http://[::1]:%d/x", "http://inner.example:%d/x", "http://127.0.0.1:%d/token", "http://inner.example:%d/token"} {
		to = fmt.Sprintf(where, innerPort)
		c := New(Endpoint{Host: registry.Listener.Addr().String(), Repo: "a", Insecure: true}, s)
		_, err := c.Manifest(t.Context(), "1", 1<<20)
		if !errors.Is(err, errUnreachable) || !strings.Contains(err.Error(), "is a loopback address, and it is a registry at a public one that leads there") {
			t.Errorf("%s: %v", to, err)
		}
		c.Close()
	}
	to = registry.URL + "/y" // its own is its own
	s.Trusted = func(hostport string) bool { return strings.HasPrefix(hostport, "inner.example:") }
	c := New(Endpoint{Host: registry.Listener.Addr().String(), Repo: "a", Insecure: true}, s)
	if _, err := c.Manifest(t.Context(), "1", 1<<20); err == nil || !strings.Contains(err.Error(), "more than 5 redirects") {
		t.Error(err)
	}
	inner.Config.Handler = http.NotFoundHandler()
	to = fmt.Sprintf("http://inner.example:%d/x", innerPort)
	var status *StatusError
	if _, err := c.Manifest(t.Context(), "1", 1<<20); !errors.As(err, &status) || status.Status != 404 {
		t.Errorf("a host that the user has named: %v", err)
	}
}

func TestChallenges(t *testing.T) {
	for line, want := range map[string]string{
		`Bearer realm="https://a/b",service="x y",scope="repository:a:pull"`: `bearer[realm:https://a/b scope:repository:a:pull service:x y]`,
		`Basic realm="a, Bearer realm=\"evil\""`:                             `basic[realm:a, Bearer realm="evil"]`,
		`Negotiate, Basic realm=x , Bearer realm = "y"`:                      `negotiate[] basic[realm:x] bearer[realm:y]`,
		`bearer realm=a,realm=b`:                                             `bearer[realm:a]`,
		`Negotiate YIIC==, Basic realm="z"`:                                  `negotiate[]`, // token68: nothing that is answered
		`realm="x"`:                                                          ``,
		`Bearer realm="cut`:                                                  `bearer[]`,
		`Bearer realm="cut\`:                                                 `bearer[]`,
		``:                                                                   ``,
		"\x00\xff":                                                           ``,
		`Basic`:                                                              `basic[]`,
	} {
		var got []string
		for _, c := range parseChallenges(line) {
			got = append(got, c.scheme+strings.TrimPrefix(fmt.Sprint(c.params), "map"))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s gives %s, want %s", line, s, want)
		}
	}
}

// The law: it ends, schemes are words, and what is written back in the plainest way is read the same.
func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/b",service="x",Basic realm=z`)
	f.Fuzz(func(t *testing.T, line string) {
		cs := parseChallenges(line)
		var b strings.Builder
		for _, c := range cs {
			if c.scheme == "" || tokenLen(c.scheme) != len(c.scheme) {
				t.Fatalf("scheme %q", c.scheme)
			}
			b.WriteString(c.scheme + " ")
			for k, v := range c.params {
				b.WriteString(k + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `",`)
			}
			b.WriteString(",")
		}
		if again := parseChallenges(b.String()); fmt.Sprint(again) != fmt.Sprint(cs) {
			t.Errorf("%q: %v, then %v", line, cs, again)
		}
	})
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "1.5": 0, "soon": 0, "18446744073709551616": 0, "9223372036854775807": (1 << 31) * time.Second,
		now.Add(time.Hour).Format(http.TimeFormat): time.Hour, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestRanges(t *testing.T) {
	resp := func(v ...string) *http.Response {
		u, _ := url.Parse("http://h/p?secret")
		return &http.Response{Header: http.Header{"Content-Range": v}, Request: &http.Request{Method: "GET", URL: u}, Body: http.NoBody}
	}
	for v, ok := range map[string]bool{"bytes 5-9/10": true, "bytes 5-9/*": true, "bytes 4-9/10": false, "bytes 5-8/10": false, "bytes 5-9/11": false,
		"bytes 5-9": false, "5-9/10": false, "bytes  5-9/10": false, "bytes +5-9/10": false, "bytes */10": false, "": false} {
		if err := checkRange(resp(v), 5, 10); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", v, err)
		}
	}
	if checkRange(resp("bytes 5-9/10", "bytes 5-9/10"), 5, 10) == nil {
		t.Error("two headers")
	}
}

// The law: whatever a server writes, what is shown of it has neither secrets, nor queries, nor anything that is not printable.
func FuzzShownText(f *testing.F) {
	for _, s := range []string{"no", `{"errors":[{"code":"DENIED","message":"\u001b[2J https://x/y?token=hunter22"}]}`, "http://me:hunter22@h/p#hunter22", "\xff\x00"} {
		f.Add(s, "text/plain", "/a?X-Amz-Signature=1")
	}
	f.Fuzz(func(t *testing.T, text, contentType, location string) {
		c := New(Endpoint{Host: "h", Repo: "r"}, Settings{})
		c.hide("hunter22")
		u := &url.URL{Scheme: "https", Host: "h", Path: "/v2/r/manifests/1", RawQuery: "token=hunter22"}
		resp := &http.Response{StatusCode: 500, Header: http.Header{"Content-Type": {contentType}}, Request: &http.Request{Method: "GET", URL: u}}
		resp.Body = struct {
			*strings.Reader
			nopCloser
		}{strings.NewReader(text), nopCloser{}}
		errs := []error{c.status(resp), c.failed("GET", u, errors.New(text))}
		if to, why := follow(u, location); why != "" {
			errs = append(errs, &RedirectError{"GET", shown(u), shown(u), why})
		} else {
			errs = append(errs, c.failed("GET", to, errors.New("x")))
		}
		for _, err := range errs {
			s := err.Error()
			if strings.Contains(s, "hunter22") || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || len(s) > 4000 {
				t.Errorf("%q", s)
			}
		}
	})
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// A token that was got for one request serves the others, and one that has run out is got again.
func TestTokenRunsOut(t *testing.T) {
	tokens, valid := 0, ""
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			tokens++
			valid = fmt.Sprintf("token-%d", tokens)
			fmt.Fprintf(w, `{"token":%q}`, valid)
		case r.Header.Get("Authorization") != "Bearer "+valid || valid == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="s"`)
			w.WriteHeader(401)
		default:
			fmt.Fprint(w, "{}")
		}
	}))
	defer s.Close()
	c := New(Endpoint{Host: s.Listener.Addr().String(), Repo: "a", Insecure: true}, Settings{})
	defer c.Close()
	for n := range 3 {
		if n == 2 {
			valid = "another"
		}
		if _, err := c.Manifest(t.Context(), "1", 100); err != nil {
			t.Fatal(err)
		}
	}
	if tokens != 2 {
		t.Errorf("%d tokens were got, want 2", tokens)
	}
	var long *TooLargeError
	if _, err := c.Manifest(t.Context(), "1", 1); !errors.As(err, &long) {
		t.Error(err)
	}
	if d, err := c.Digest(t.Context(), "1"); d != oci.Digest("") || err != nil {
		t.Error(d, err)
	}
}

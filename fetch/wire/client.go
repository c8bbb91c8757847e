package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"cove/fetch/oci"
)

// Endpoint says which registry, and which repository there.
type Endpoint struct {
	Host      string // host[:port], as references have it
	Repo      string
	Namespace string // sent as "ns", when not "": registries.conf's namespace-proxy
	// Insecure lets the certificate be anybody's, and http be used where https is not spoken:
	// registries.conf has it, and registries on loopback are so.
	Insecure bool
	TLS      *tls.Config // nil: the machine's
	Push     bool        // credentials that may write are asked for
	From     []string    // other repositories there that blobs may be mounted from
}

// Client asks one registry for one repository. Its methods may be called at the same time.
type Client struct {
	Endpoint
	set    Settings
	reach  *reach
	schema sync.Mutex // of scheme
	scheme string     // "" until the first answer

	logins sync.Mutex // held while a token is got
	mu     sync.Mutex // of the rest
	auth   string     // the Authorization that the registry has let pass, or ""
	secret []string   // what no message may show
}

// New makes a client. Nothing is asked yet.
func New(e Endpoint, s Settings) *Client {
	if e.Host == "docker.io" {
		e.Host = "registry-1.docker.io" // the name of the service is not that of its API
	}
	c := &Client{Endpoint: e, set: s.withDefaults()}
	c.reach = newReach(c.set, e.TLS, e.Insecure)
	if !e.Insecure {
		c.scheme = "https"
	}
	return c
}

// Close ends the connections that wait for another request.
func (c *Client) Close() { c.reach.close() }

// get asks for a path of the repository, by GET or HEAD, and returns the answer that is no redirect and
// no demand for credentials that there are.
func (c *Client) get(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	header = header.Clone()
	header.Set("User-Agent", userAgent)
	header.Set("Docker-Distribution-API-Version", "registry/2.0")
	resp, err := c.first(ctx, method, path, header)
	for again := 0; err == nil && resp.StatusCode == http.StatusUnauthorized && again < 2; again++ {
		// Who asks for credentials further along is not who they are for.
		if !sameOrigin(resp.Request.URL, c.url(path)) {
			break
		}
		used := resp.Request.Header.Get("Authorization")
		auth, aerr := c.login(ctx, resp.Header, used)
		if aerr != nil {
			drop(resp)
			return nil, aerr
		}
		if auth == "" {
			break
		}
		drop(resp)
		resp, err = c.walk(ctx, method, c.url(path), header, auth)
	}
	return resp, err
}

func (c *Client) url(path string) *url.URL {
	u := &url.URL{Scheme: c.scheme, Host: c.Host, Path: "/v2/" + c.Repo + path}
	if c.Namespace != "" {
		u.RawQuery = url.Values{"ns": {c.Namespace}}.Encode()
	}
	return u
}

// first sends a request, and, when it is the first of all and https need not be spoken, over http where https fails.
func (c *Client) first(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	c.schema.Lock()
	if c.scheme != "" {
		c.schema.Unlock()
		return c.walk(ctx, method, c.url(path), header, c.authorization())
	}
	defer c.schema.Unlock()
	var errs []error
	for _, scheme := range []string{"https", "http"} {
		c.scheme = scheme
		resp, err := c.walk(ctx, method, c.url(path), header, "")
		if err == nil {
			return resp, nil
		}
		errs = append(errs, err)
		// A redirect that is refused is an answer in https; silence is none over http either.
		if ctx.Err() != nil || !errors.As(err, new(*RequestError)) || errors.Is(err, errStalled) {
			break
		}
	}
	c.scheme = ""
	return nil, errs[len(errs)-1]
}

func (c *Client) authorization() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.auth
}

const maxRedirects = 5

// walk sends a request and follows where it leads. auth is sent to where it begins only.
func (c *Client) walk(ctx context.Context, method string, u *url.URL, header http.Header, auth string) (*http.Response, error) {
	begin := u
	for hop := 0; ; hop++ {
		resp, err := c.send(ctx, method, u, header, auth, sameOrigin(begin, u))
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return resp, nil
		}
		drop(resp)
		if hop == maxRedirects {
			return nil, &RedirectError{method, shown(begin), shown(u), fmt.Sprintf("more than %d redirects", maxRedirects)}
		}
		next, why := follow(u, resp.Header.Get("Location"))
		if why != "" {
			return nil, &RedirectError{method, shown(begin), shown(u), why}
		}
		u = next
	}
}

// follow is where a redirect leads, or why nobody goes there.
func follow(from *url.URL, location string) (*url.URL, string) {
	to, err := from.Parse(location)
	switch {
	case err != nil || location == "":
		return nil, "a redirect to no address"
	case to.Scheme != "http" && to.Scheme != "https":
		return nil, fmt.Sprintf("a redirect to %s: is not followed, only to https: and http:", oci.Short(to.Scheme))
	case to.Host == "":
		return nil, "a redirect to no host"
	case from.Scheme == "https" && to.Scheme == "http":
		return nil, fmt.Sprintf("a redirect from https to http (%s) is not followed", shown(to))
	case to.User != nil:
		return nil, fmt.Sprintf("a redirect with a user name in the address (%s) is not followed", shown(to))
	}
	to.Fragment = ""
	return to, ""
}

// send sends one request to one address. There are no cookies and no Referer, which would hold what an
// address before had in its query.
func (c *Client) send(ctx context.Context, method string, u *url.URL, header http.Header, auth string, known bool) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, c.failed(method, u, err)
	}
	req.Header = header.Clone()
	if known && auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := c.reach.roundTrip(req, strings.EqualFold(u.Host, c.Host))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		} else if strings.HasSuffix(err.Error(), "timeout awaiting response headers") {
			err = fmt.Errorf("%w for %v", errStalled, c.set.Silence)
		}
		return nil, c.failed(method, u, err)
	}
	return resp, nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

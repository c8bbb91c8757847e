package wire

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// login answers a 401 and returns the Authorization to try, or "" when there is nothing to try: no
// credentials, or those that have just been refused.
func (c *Client) login(ctx context.Context, h http.Header, used string) (string, error) {
	c.logins.Lock()
	defer c.logins.Unlock()
	if auth := c.authorization(); auth != "" && auth != used {
		return auth, nil // another request has got one in the meantime
	}
	have, err := c.credentials()
	if err != nil {
		return "", err
	}
	auth := ""
	challenges := challengesIn(h)
	if ch := pick(challenges, "bearer"); ch != nil {
		token, err := c.token(ctx, ch, have)
		if err != nil {
			return "", fmt.Errorf("get a token: %w", err)
		}
		c.hide(token)
		auth = "Bearer " + token
	} else if pick(challenges, "basic") != nil && have.Username != "" {
		auth = basic(have)
	}
	if auth == used {
		return "", nil
	}
	c.mu.Lock()
	c.auth = auth
	c.mu.Unlock()
	return auth, nil
}

func (c *Client) credentials() (Credentials, error) {
	if c.set.Credentials == nil {
		return Credentials{}, nil
	}
	have, err := c.set.Credentials()
	if err != nil {
		return have, fmt.Errorf("credentials for %s: %s", c.Host, clean(err.Error()))
	}
	c.hide(have.Password, have.IdentityToken, strings.TrimPrefix(basic(have), "Basic "))
	return have, nil
}

func basic(have Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(have.Username+":"+have.Password))
}

// hide keeps words out of messages. Short ones would take letters from other words.
func (c *Client) hide(words ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range words {
		if len(w) >= 4 && !slices.Contains(c.secret, w) {
			c.secret = append(c.secret, w)
		}
	}
}

const maxToken = 64 << 10

// token gets a token from the service that the challenge names. What is sent there: the repository's
// name, and the user's credentials for the registry, which has them anyway; over https, and never on to
// where the service might send us.
func (c *Client) token(ctx context.Context, ch *challenge, have Credentials) (string, error) {
	realm, err := url.Parse(ch.params["realm"])
	switch {
	case err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http":
		return "", errors.New("the registry names no service to get one from")
	case realm.Scheme == "http" && c.scheme != "http":
		return "", fmt.Errorf("the registry, asked over https, names a service over http (%s): nothing is sent there", shown(realm))
	case realm.User != nil:
		return "", errors.New("the registry names a service with a user name in its address")
	}
	query := realm.Query()
	if service := ch.params["service"]; service != "" {
		query.Set("service", service)
	}
	for _, scope := range c.scopes() {
		query.Add("scope", scope)
	}
	ctx, cancel := c.documentTime(ctx)
	defer cancel()
	var resp *http.Response
	if have.IdentityToken != "" {
		query.Set("grant_type", "refresh_token")
		query.Set("refresh_token", have.IdentityToken)
		query.Set("client_id", "cove")
		resp, err = c.post(ctx, realm, query)
	} else {
		auth := ""
		if have.Username != "" {
			query.Set("account", have.Username)
			auth = basic(have)
		}
		realm.RawQuery = query.Encode()
		resp, err = c.walk(ctx, http.MethodGet, realm, http.Header{"User-Agent": {userAgent}}, auth)
	}
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", c.status(resp)
	}
	return c.readToken(ctx, resp)
}

// post sends a form, and follows no redirect: the form is the secret.
func (c *Client) post(ctx context.Context, realm *url.URL, form url.Values) (*http.Response, error) {
	realm.RawQuery = ""
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, c.failed(http.MethodPost, realm, err)
	}
	req.Header = http.Header{"User-Agent": {userAgent}, "Content-Type": {"application/x-www-form-urlencoded"}}
	resp, err := c.reach.roundTrip(req, strings.EqualFold(realm.Host, c.Host))
	if err != nil {
		return nil, c.failed(http.MethodPost, realm, err)
	}
	return resp, nil
}

func (c *Client) readToken(ctx context.Context, resp *http.Response) (string, error) {
	defer drop(resp)
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxToken+1))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", c.failed(resp.Request.Method, resp.Request.URL, err)
	}
	var answer struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	// Neither the answer nor the decoder's error, which quotes it, is shown: it may hold a token.
	if len(data) > maxToken || json.Unmarshal(data, &answer) != nil {
		return "", c.failed(resp.Request.Method, resp.Request.URL, errors.New("the answer is not understood"))
	}
	token := answer.Token
	if token == "" {
		token = answer.Access
	}
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", c.failed(resp.Request.Method, resp.Request.URL, errors.New("the answer holds no token"))
	}
	return token, nil
}

// challenge is one way to authenticate that a server takes (RFC 9110 11.6.1).
type challenge struct {
	scheme string
	params map[string]string
}

func pick(cs []challenge, scheme string) *challenge {
	for i := range cs {
		if cs[i].scheme == scheme {
			return &cs[i]
		}
	}
	return nil
}

func challengesIn(h http.Header) []challenge {
	var out []challenge
	for _, line := range h.Values("WWW-Authenticate") {
		out = append(out, parseChallenges(line)...)
	}
	return out
}

// parseChallenges reads SCHEME [NAME=VALUE{, NAME=VALUE}]{, SCHEME ...}. A word that no "=" follows begins a challenge.
func parseChallenges(s string) []challenge {
	var out []challenge
	for {
		s = strings.TrimLeft(s, " \t,")
		word := s[:tokenLen(s)]
		if word == "" {
			return out
		}
		s = strings.TrimLeft(s[len(word):], " \t")
		value, isParam := strings.CutPrefix(s, "=")
		if !isParam {
			out = append(out, challenge{strings.ToLower(word), map[string]string{}})
			continue
		}
		text, rest, ok := parseValue(strings.TrimLeft(value, " \t"))
		if !ok || len(out) == 0 {
			return out
		}
		s = rest
		if p := out[len(out)-1].params; p[strings.ToLower(word)] == "" {
			p[strings.ToLower(word)] = text
		}
	}
}

// tokenLen is how much of s is a token (RFC 9110 5.6.2).
func tokenLen(s string) int {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return i
		}
	}
	return len(s)
}

// parseValue reads a token or a quoted string.
func parseValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		n := tokenLen(s)
		return s[:n], s[n:], n > 0
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

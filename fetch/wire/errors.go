package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"cove/fetch/oci"
)

// A StatusError is an answer that is not what was asked for.
type StatusError struct {
	Method, URL string // without a query, which for redirects is as good as a password
	Status      int
	Text        string        // what the server said to it, quoted and cut
	RetryAfter  time.Duration // 0: it said nothing
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s: %d", e.Method, e.URL, e.Status)
	if name := http.StatusText(e.Status); name != "" {
		s += " " + name
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// A RequestError says that no answer came, or not the whole of it.
type RequestError struct {
	Method, URL string
	Text        string // fit to be shown
	Err         error  // not to be shown: it may hold what a server wrote
}

func (e *RequestError) Error() string { return e.Method + " " + e.URL + ": " + e.Text }
func (e *RequestError) Unwrap() error { return e.Err }

// A RedirectError says that an answer leads where nobody goes.
type RedirectError struct {
	Method, URL string
	From        string // the address that leads there
	Why         string
}

func (e *RedirectError) Error() string {
	if e.From == e.URL {
		return e.Method + " " + e.URL + ": " + e.Why
	}
	return e.Method + " " + e.URL + ": from " + e.From + ": " + e.Why
}

// An AnswerError says that an answer contradicts itself or what is known of what was asked for.
type AnswerError struct {
	Method, URL string
	Why         string
}

func (e *AnswerError) Error() string { return e.Method + " " + e.URL + ": " + e.Why }

// A TooLargeError says that a document is not read to its end.
type TooLargeError struct {
	Method, URL string
	Max         int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s %s: more than %d bytes", e.Method, e.URL, e.Max)
}

var (
	errStalled      = errors.New("the server has sent nothing")
	errSlow         = errors.New("the server sends too slowly")
	errSlowDocument = errors.New("the answer has not come to its end")
)

// shown is an address fit to be shown.
func shown(u *url.URL) string {
	s := u.Scheme + "://" + u.Host + u.EscapedPath()
	return clean(s)
}

const mostText = 300

// clean makes a stranger's text fit to be shown, in one line.
func clean(s string) string {
	if len(s) > mostText {
		s = s[:mostText] + "..."
	}
	return oci.Clean(s)
}

var (
	inURL = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(https?://)(?:[^\s"'/?#]*@)?([^\s"'?#]*)(?:[?#][^\s"']*)?`)
	})
	inQuery = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)([a-z0-9_-]*(?:signature|token|credential|secret|password|key|sig)[a-z0-9_-]*=)[^&\s"'<>]+`)
	})
)

// scrub takes from a text what was sent in secret, also in the query of the address that it came from, and from the
// addresses in it all but host and path.
func (c *Client) scrub(from *url.URL, s string) string {
	if from.RawQuery != "" {
		s = strings.ReplaceAll(s, from.RawQuery, "...")
		for _, values := range from.Query() {
			for _, v := range values {
				if len(v) >= 6 {
					s = strings.ReplaceAll(s, v, "...")
					s = strings.ReplaceAll(s, url.QueryEscape(v), "...")
				}
			}
		}
	}
	c.mu.Lock()
	for _, word := range c.secret {
		s = strings.ReplaceAll(s, word, "...")
		// As a query or a path would hold it.
		s = strings.ReplaceAll(s, url.QueryEscape(word), "...")
		s = strings.ReplaceAll(s, url.PathEscape(word), "...")
	}
	c.mu.Unlock()
	return inQuery().ReplaceAllString(inURL().ReplaceAllString(s, "$1$2"), "$1...")
}

// failed is for a request that had no answer.
func (c *Client) failed(method string, u *url.URL, err error) error {
	var already *RequestError
	if errors.As(err, &already) {
		return err
	}
	return &RequestError{method, shown(u), clean(c.scrub(u, err.Error())), err}
}

// status makes an error of an answer, and reads what the server says to it.
func (c *Client) status(resp *http.Response) error {
	defer drop(resp)
	e := &StatusError{Method: resp.Request.Method, URL: shown(resp.Request.URL), Status: resp.StatusCode,
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	if resp.Request.Method == http.MethodHead {
		return e
	}
	// Who drips an error is not waited for: it is only its text.
	timer := time.AfterFunc(min(5*time.Second, c.set.Silence), func() { resp.Body.Close() })
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	timer.Stop()
	e.Text = clean(c.scrub(resp.Request.URL, said(resp.Header.Get("Content-Type"), data)))
	return e
}

// said is what an error's body says: the errors of the distribution specification, or a line of plain text.
func said(contentType string, data []byte) string {
	var answer struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Message string `json:"message"`
		Details string `json:"details"`
	}
	if json.Unmarshal(data, &answer) == nil {
		var parts []string
		for i, e := range answer.Errors {
			if i == 3 {
				break
			}
			parts = append(parts, strings.TrimSuffix(strings.ToLower(e.Code)+": "+e.Message, ": "))
		}
		if len(parts) == 0 && answer.Message+answer.Details != "" {
			parts = append(parts, strings.TrimSpace(answer.Message+" "+answer.Details))
		}
		return strings.Join(parts, "; ")
	}
	if t, _, _ := mime.ParseMediaType(contentType); t == "text/plain" || t == "" {
		line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
		return strings.TrimSpace(line)
	}
	return ""
}

// drop ends an answer. What is left of a short one is read, so that its connection can serve again.
func drop(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= 4<<10 {
		timer := time.AfterFunc(time.Second, func() { resp.Body.Close() })
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10+1)
		timer.Stop()
	}
	resp.Body.Close()
}

// retryAfter reads a Retry-After: seconds or a date (RFC 9110 10.2.3); 0 when there is none.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 63); err == nil {
		return time.Duration(min(n, 1<<31)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

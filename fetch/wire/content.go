package wire

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cove/fetch/oci"
)

// accepted are the documents that are asked for. docker's schema 1 is not read: that it is there is
// said better than that nothing is.
const accepted = oci.MediaTypeIndex + ", " + oci.MediaTypeManifest + ", " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, " +
	"application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, application/vnd.docker.distribution.manifest.v1+json;q=0.1"

// Document is a manifest or an index as it came. Nothing of it is checked.
type Document struct {
	Data      []byte
	MediaType string     // by the server's word, or ""
	Digest    oci.Digest // by the server's word, or ""
}

// Manifest gets the document of a tag or a digest, of at most that many bytes.
func (c *Client) Manifest(ctx context.Context, name string, most int64) (doc *Document, err error) {
	err = c.retry(ctx, func() error {
		doc, err = c.manifest(ctx, http.MethodGet, name, most)
		return err
	})
	return doc, err
}

// Digest asks what a tag names, without the document. "" when the server does not say.
func (c *Client) Digest(ctx context.Context, name string) (d oci.Digest, err error) {
	err = c.retry(ctx, func() error {
		doc, err := c.manifest(ctx, http.MethodHead, name, 0)
		if err == nil {
			d = doc.Digest
		}
		return err
	})
	return d, err
}

func (c *Client) manifest(ctx context.Context, method, name string, most int64) (*Document, error) {
	ctx, cancel := c.documentTime(ctx)
	defer cancel()
	resp, err := c.get(ctx, method, "/manifests/"+name, http.Header{"Accept": {accepted}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.status(resp)
	}
	defer drop(resp)
	doc := &Document{}
	doc.MediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if d := oci.Digest(resp.Header.Get("Docker-Content-Digest")); d.Validate() == nil {
		doc.Digest = d
	}
	if method == http.MethodHead {
		return doc, nil
	}
	if err := plain(resp); err != nil {
		return nil, err
	}
	tooLarge := &TooLargeError{method, shown(resp.Request.URL), most}
	if resp.ContentLength > most {
		return nil, tooLarge
	}
	doc.Data, err = io.ReadAll(io.LimitReader(resp.Body, most+1))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, c.failed(method, resp.Request.URL, err)
	}
	if int64(len(doc.Data)) > most {
		return nil, tooLarge
	}
	return doc, nil
}

// documentTime is the time for one small answer.
func (c *Client) documentTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.set.Document, fmt.Errorf("%w within %v", errSlowDocument, c.set.Document))
}

// plain refuses a body that is not sent as it is, although nobody asked for that.
func plain(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return answer(resp, "a body with the encoding %s, which was not asked for", oci.Short(e))
	}
	return nil
}

func answer(resp *http.Response, format string, args ...any) error {
	resp.Body.Close()
	return &AnswerError{resp.Request.Method, shown(resp.Request.URL), fmt.Sprintf(format, args...)}
}

// Blob opens the blob of a digest, which has size bytes, at the byte from. A server need not be able to
// begin there: at is where the body does.
func (c *Client) Blob(ctx context.Context, d oci.Digest, size, from int64) (body io.ReadCloser, at int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	header := http.Header{}
	if from > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := c.get(ctx, http.MethodGet, "/blobs/"+d.String(), header)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent && from > 0:
		at, err = from, checkRange(resp, from, size)
	case resp.StatusCode == http.StatusOK:
		err = plain(resp)
	default:
		err = c.status(resp)
	}
	if err == nil && resp.ContentLength >= 0 && resp.ContentLength != size-at {
		err = answer(resp, "the size does not match: Content-Length is %d, and there are %d bytes to come", resp.ContentLength, size-at)
	}
	if err != nil {
		resp.Body.Close()
		return nil, 0, err
	}
	return newBody(ctx, cancel, c, resp), at, nil
}

// checkRange compares a 206's Content-Range with what was asked for (RFC 9110 14.4).
func checkRange(resp *http.Response, from, size int64) error {
	values := resp.Header.Values("Content-Range")
	if len(values) == 1 {
		if span, ok := strings.CutPrefix(values[0], "bytes "); ok {
			span, total, _ := strings.Cut(span, "/")
			first, last, _ := strings.Cut(span, "-")
			if first == strconv.FormatInt(from, 10) && last == strconv.FormatInt(size-1, 10) && (total == "*" || total == strconv.FormatInt(size, 10)) {
				return nil
			}
		}
	}
	return answer(resp, "asked for the bytes %d-%d of %d, and got %s", from, size-1, size, oci.Short(strings.Join(values, ", ")))
}

// body is a blob's body that does not wait for ever.
type body struct {
	io.ReadCloser
	c      *Client
	url    *url.URL
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	waited time.Duration // since moved was 0
	moved  int64
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, c *Client, resp *http.Response) *body {
	b := &body{ReadCloser: resp.Body, c: c, url: resp.Request.URL, ctx: ctx, cancel: cancel}
	b.timer = time.AfterFunc(time.Hour, func() { cancel(fmt.Errorf("%w for %v", errStalled, c.set.Silence)) })
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	began := time.Now()
	b.timer.Reset(b.c.set.Silence)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	// Only the time that we wait for the server is its own: who reads may be the slow one.
	b.waited += time.Since(began)
	b.moved += int64(n)
	if err == nil && b.waited >= b.c.set.Slow {
		if b.moved < b.c.set.MinRate*int64(b.waited/time.Millisecond)/1000 {
			err = fmt.Errorf("%w (less than %d bytes a second)", errSlow, b.c.set.MinRate)
			b.cancel(err)
		}
		b.waited, b.moved = 0, 0
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, b.c.failed(http.MethodGet, b.url, err)
}

// Close ends the body. It may be called while another goroutine reads, whose read it ends.
func (b *body) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}

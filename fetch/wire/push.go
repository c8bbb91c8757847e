package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cove/fetch/oci"
)

// The push side of the specification: a blob is there, or is mounted from another repository, or is sent whole (POST
// for a place, PUT of the bytes), and last the manifest. A registry forgets what no manifest names.

// HasBlob asks whether the repository has a blob.
func (c *Client) HasBlob(ctx context.Context, d oci.Digest, size int64) (has bool, err error) {
	err = c.retry(ctx, func() error {
		ctx, cancel := c.documentTime(ctx)
		defer cancel()
		resp, err := c.get(ctx, http.MethodHead, "/blobs/"+d.String(), http.Header{})
		if err != nil {
			return err
		}
		switch resp.StatusCode {
		case http.StatusOK:
			drop(resp)
			// Another size is another blob, whatever it calls itself.
			has = resp.ContentLength < 0 || resp.ContentLength == size
			return nil
		case http.StatusNotFound:
			drop(resp)
			has = false
			return nil
		}
		return c.status(resp)
	})
	return has, err
}

// Mount makes a blob of another repository of the same registry one of this repository's. false: the registry does not,
// and what it began instead is called off.
func (c *Client) Mount(ctx context.Context, d oci.Digest, from string) (mounted bool, err error) {
	err = c.retry(ctx, func() error {
		u := c.uploads()
		q := u.Query()
		q.Set("mount", d.String())
		q.Set("from", from)
		u.RawQuery = q.Encode()
		resp, err := c.exchange(ctx, http.MethodPost, u, nil, nil)
		if err != nil {
			return err
		}
		switch resp.StatusCode {
		case http.StatusCreated:
			drop(resp)
			mounted = true
			return nil
		case http.StatusAccepted:
			drop(resp)
			if at, err := c.location(resp); err == nil {
				if resp, err := c.exchange(ctx, http.MethodDelete, at, nil, nil); err == nil {
					drop(resp)
				}
			}
			return nil
		}
		return c.status(resp)
	})
	return mounted, err
}

// PutBlob sends a blob of size bytes. What may pass is tried again from the blob's first byte, by another call of open.
func (c *Client) PutBlob(ctx context.Context, d oci.Digest, size int64, open func() io.Reader) error {
	return c.retry(ctx, func() error {
		resp, err := c.exchange(ctx, http.MethodPost, c.uploads(), nil, nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusAccepted {
			return c.status(resp)
		}
		drop(resp)
		at, err := c.location(resp)
		if err != nil {
			return err
		}
		q := at.Query()
		q.Set("digest", d.String())
		at.RawQuery = q.Encode()
		resp, err = c.exchange(ctx, http.MethodPut, at, http.Header{"Content-Type": {"application/octet-stream"}}, &content{size, open})
		if err != nil {
			return err
		}
		return c.created(resp, d)
	})
}

// PutManifest gives a document a name, a tag or its digest.
func (c *Client) PutManifest(ctx context.Context, name, mediaType string, data []byte) error {
	return c.retry(ctx, func() error {
		body := &content{int64(len(data)), func() io.Reader { return strings.NewReader(string(data)) }}
		resp, err := c.exchange(ctx, http.MethodPut, c.url("/manifests/"+name), http.Header{"Content-Type": {mediaType}}, body)
		if err != nil {
			return err
		}
		return c.created(resp, oci.FromBytes(data))
	})
}

// created is what a registry says to what it has taken in.
func (c *Client) created(resp *http.Response, d oci.Digest) error {
	if resp.StatusCode != http.StatusCreated {
		return c.status(resp)
	}
	drop(resp)
	if got := oci.Digest(resp.Header.Get("Docker-Content-Digest")); got != "" && got != d {
		return answer(resp, "%s was sent, and it has taken %s", d, oci.Short(string(got)))
	}
	return nil
}

func (c *Client) uploads() *url.URL { return c.url("/blobs/uploads/") }

// location is where a registry wants something sent: anywhere that a redirect of it may lead.
func (c *Client) location(resp *http.Response) (*url.URL, error) {
	at, why := follow(resp.Request.URL, resp.Header.Get("Location"))
	if why != "" {
		return nil, &RedirectError{resp.Request.Method, shown(resp.Request.URL), shown(resp.Request.URL), why}
	}
	return at, nil
}

// content is what goes along with a request.
type content struct {
	size int64
	open func() io.Reader
}

// exchange sends a request with a body and returns the answer. Redirects are not followed: the registry has said where
// to, by a Location. Credentials go to the registry alone.
func (c *Client) exchange(ctx context.Context, method string, u *url.URL, header http.Header, body *content) (*http.Response, error) {
	if header == nil {
		header = http.Header{}
	}
	header.Set("User-Agent", userAgent)
	home := sameOrigin(u, c.url(""))
	for again := 0; ; again++ {
		auth := ""
		if home {
			auth = c.authorization()
		}
		resp, err := c.sendBody(ctx, method, u, header, auth, body)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || !home || again == 2 {
			return resp, nil
		}
		next, err := c.login(ctx, resp.Header, auth)
		if err != nil {
			drop(resp)
			return nil, err
		}
		if next == "" {
			return resp, nil
		}
		drop(resp)
	}
}

// errNotTaken says that a server takes no bytes any more.
var errNotTaken = errors.New("the server has taken nothing for too long")

func (c *Client) sendBody(ctx context.Context, method string, u *url.URL, header http.Header, auth string, body *content) (_ *http.Response, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, c.failed(method, u, err)
	}
	req.Header = header.Clone()
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	// The answer is short: it may take as long as a document, from when all is sent.
	watch := time.AfterFunc(c.set.Silence, func() { cancel(errNotTaken) })
	if body != nil && body.size > 0 {
		req.Body, req.ContentLength = io.NopCloser(&watched{io.LimitReader(body.open(), body.size), watch, c.set.Silence}), body.size
	}
	resp, err := c.reach.roundTrip(req, strings.EqualFold(u.Host, c.Host))
	watch.Stop()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		cancel(nil)
		return nil, c.failed(method, u, err)
	}
	resp.Body = &cancelled{resp.Body, cancel}
	return resp, nil
}

// watched puts off the end of patience with every byte that is taken.
type watched struct {
	io.Reader
	watch   *time.Timer
	silence time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.watch.Reset(w.silence)
	return w.Reader.Read(p)
}

type cancelled struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *cancelled) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// scopes are what a token is asked for.
func (c *Client) scopes() []string {
	if !c.Push {
		return []string{"repository:" + c.Repo + ":pull"}
	}
	out := []string{"repository:" + c.Repo + ":pull,push"}
	for _, repo := range c.From {
		out = append(out, fmt.Sprintf("repository:%s:pull", repo))
	}
	return out
}

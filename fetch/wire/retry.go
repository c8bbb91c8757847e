package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Retry counts the attempts at one thing.
type Retry struct {
	set  Settings
	left int
	wait time.Duration
	all  int // whatever progress there is, it ends
}

// NewRetry allows the attempts that the settings say.
func NewRetry(s Settings) *Retry {
	s = s.withDefaults()
	return &Retry{set: s, left: s.Attempts, wait: s.Pause, all: 50}
}

// Progress says that so much has come that the next failure is a new one.
func (r *Retry) Progress() { r.left, r.wait = r.set.Attempts, r.set.Pause }

// Again waits and returns nil when there is to be another attempt after err; else the error to give up with.
func (r *Retry) Again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.all--
	// A server that lets us wait until the end of our patience will do so again: once more, not three times.
	if r.left--; waitedLong(err) {
		r.left -= 2
	}
	if !MayPass(err) || r.left <= 0 || r.all <= 0 {
		return err
	}
	d := r.wait + rand.N(r.wait/4+1)
	r.wait *= 3
	var status *StatusError
	if errors.As(err, &status) && status.RetryAfter > 0 {
		if d = status.RetryAfter; d > r.set.MaxWait {
			return fmt.Errorf("%w (it asks to wait %v, and %v is the longest that is waited)", err, d.Round(time.Second), r.set.MaxWait)
		}
	}
	if r.set.Waiting != nil && d >= time.Second {
		r.set.Waiting(d, err.Error())
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// retry runs do until it succeeds or there is to be no other attempt.
func (c *Client) retry(ctx context.Context, do func() error) error {
	r := NewRetry(c.set)
	for {
		err := do()
		if err == nil {
			return nil
		}
		if err = r.Again(ctx, err); err != nil {
			return err
		}
	}
}

func waitedLong(err error) bool {
	var netErr net.Error
	return errors.Is(err, errStalled) || errors.Is(err, errNotTaken) || errors.Is(err, errSlow) || errors.Is(err, errSlowDocument) || errors.As(err, &netErr) && netErr.Timeout()
}

// MayPass tells failures of a server or a connection, which another attempt may not meet, from answers.
func MayPass(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	if errors.As(err, new(*AnswerError)) || errors.As(err, new(*RedirectError)) || errors.As(err, new(*TooLargeError)) || errors.Is(err, errUnreachable) {
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary && !dns.IsNotFound
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false // nobody is there: say so at once
	}
	return waitedLong(err) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// Unreachable tells that no answer to the question came: from nobody, or from a server that is out of order.
func Unreachable(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return MayPass(err)
	}
	return errors.As(err, new(*RequestError))
}

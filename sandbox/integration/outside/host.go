package outside

import (
	"context"
	"errors"
	"sync"
	"time"

	"cove/sandbox/integration"
)

// services are what is asked for on the host socket, by the kind of request.
type services map[string]service

// service does what the words ask for. What it returns besides is for the log: e is filled with what it was about; the answer's
// words go inside. An errNot is told inside, any other error only outside.
type service interface {
	serve(ctx context.Context, words []string, e *integration.Event) ([]string, error)
}

// errNot is why something is not done, for those who asked too.
type errNot struct{ reason, text string }

func (e *errNot) Error() string { return e.text }

// serveHost answers one request.
func (o *opened) serveHost(ctx context.Context, c *client) {
	if c.SetDeadline(time.Now().Add(messageTime)) != nil {
		return
	}
	var r integration.Request
	if err := integration.Receive(c, &r); err != nil {
		e := c.event("host", "message")
		e.Reason = "bad-form"
		o.tell(e)
		return
	}
	s, ok := o.services[r.Kind]
	var answer integration.Answer
	e := c.event("host", "message")
	if !ok {
		answer.Refused, e.Reason = "this sandbox was not granted that", "not-granted"
	} else {
		answer = handle(ctx, s, r.Words, &e)
	}
	o.tell(e)
	if c.SetDeadline(time.Now().Add(messageTime)) == nil {
		_ = integration.Send(c, answer)
	}
}

func handle(ctx context.Context, s service, words []string, e *integration.Event) (a integration.Answer) {
	out, err := s.serve(ctx, words, e)
	var not *errNot
	switch {
	case errors.As(err, &not):
		e.Reason, a.Refused = not.reason, not.text
	case err != nil:
		e.Allowed, e.Error, a.Refused = true, err.Error(), "it failed outside"
	default:
		e.Allowed, a.Words = true, out
	}
	return a
}

// limiter lets a number of things through at once, and then one every while: a flood of windows on somebody's desktop is one
// more way to hinder them.
type limiter struct {
	burst int
	every time.Duration
	mu    sync.Mutex
	next  time.Time // when it will be as if nothing had come
}

func (l *limiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next.Before(now) {
		l.next = now
	}
	if l.next.Sub(now) > time.Duration(l.burst-1)*l.every {
		return false
	}
	l.next = l.next.Add(l.every)
	return true
}

var errTooMany = &errNot{"too-many", "too many at once: try again later"}

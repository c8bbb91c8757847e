package egress

import (
	"bytes"
	"sync"
)

// Answer watches what a server says first, to learn whether its answer to the first request of a connection is that it speaks something
// else from then on (101, RFC 9110 15.2.2). One side feeds it and another waits for it.
type Answer struct {
	once     sync.Once
	known    chan struct{} // closed when switched holds
	switched bool
	said     []byte
}

// maxAnswer bounds what may come before it is known: interim answers (103) and their headers.
const maxAnswer = 16 << 10

// NewAnswer begins at the first byte that a server says.
func NewAnswer() *Answer { return &Answer{known: make(chan struct{})} }

// Watch takes the next of what the server says. It returns false when no more is needed.
func (a *Answer) Watch(data []byte) bool {
	select {
	case <-a.known:
		return false
	default:
	}
	a.said = append(a.said, data[:min(len(data), maxAnswer)]...)
	for {
		line, _, whole := bytes.Cut(a.said, []byte("\n"))
		code := statusOf(line)
		if whole && (len(code) != 3 || code[0] != '1' || code == "101") {
			a.tell(code == "101")
			return false
		}
		// An interim answer: the next begins behind an empty line. What ends in a bare line feed some take for one, and some do not.
		head := a.said[len(line):]
		end, bare := bytes.Index(head, []byte("\n\r\n")), bytes.Index(head, []byte("\n\n"))
		if bare >= 0 && (end < 0 || bare < end) {
			a.tell(false)
			return false
		}
		if end >= 0 {
			a.said = head[end+3:]
		} else if len(a.said) < maxAnswer {
			return true
		} else {
			a.tell(false)
			return false
		}
	}
}

// statusOf is the code in a status line; "" where it is none (RFC 9112 4).
func statusOf(line []byte) string {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[7] < '0' || line[7] > '9' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return ""
	}
	if code := line[9:12]; len(bytes.Trim(code, "0123456789")) == 0 {
		return string(code)
	}
	return ""
}

// End says that the server says nothing more.
func (a *Answer) End() { a.tell(false) }

func (a *Answer) tell(switched bool) {
	a.once.Do(func() {
		a.switched, a.said = switched, nil
		close(a.known)
	})
}

// Known is closed when it is known.
func (a *Answer) Known() <-chan struct{} { return a.known }

// Switched waits until it is known.
func (a *Answer) Switched() bool {
	<-a.known
	return a.switched
}

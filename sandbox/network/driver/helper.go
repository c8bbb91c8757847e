package driver

import (
	"context"
	"runtime"
	"sync"
)

// helper is a started program and the thread that it must not outlive.
type helper struct {
	done chan struct{} // closed when the program is gone
	stop func()        // ends the program; done follows
	once sync.Once
}

func (h *helper) close() error {
	h.once.Do(h.stop)
	<-h.done
	return nil
}

// start runs begin on a thread of its own, and wait after it on the same thread until the program is gone:
// PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process
// (PR_SET_PDEATHSIG(2const)), and Go ends idle threads' lives as it likes. When ctx ends first,
// what begin started is stopped as soon as it returns.
func start(ctx context.Context, begin func() (wait, stop func(), err error)) (*helper, error) {
	type result struct {
		h   *helper
		err error
	}
	results := make(chan result, 1)
	abandoned := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		wait, stop, err := begin()
		if err != nil {
			results <- result{nil, err}
			return
		}
		h := &helper{done: make(chan struct{}), stop: stop}
		results <- result{h, nil}
		go func() {
			select {
			case <-abandoned:
				_ = h.close()
			case <-h.done:
			}
		}()
		wait()
		close(h.done)
	}()
	select {
	case r := <-results:
		return r.h, r.err
	case <-ctx.Done():
		close(abandoned)
		return nil, ctx.Err()
	}
}

// tail keeps the end of what a helper says, for the error, and passes all of it on.
type tail struct {
	mu   sync.Mutex
	text []byte
	pass func([]byte)
}

const tailSize = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > tailSize {
		t.text = append(t.text[:0], t.text[len(t.text)-tailSize:]...)
	}
	if t.pass != nil {
		t.pass(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

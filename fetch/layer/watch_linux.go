package layer

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// errStuck is a stage that did nothing for longer than any disk takes.
var errStuck = errors.New("it has done nothing")

var (
	// stuckAfter is how long a stage may do nothing while it is its turn. It takes a disk that is about to fail, or a
	// server of files that is gone, to be this slow.
	stuckAfter = 10 * time.Minute
	watchEvery = 5 * time.Second
)

// A watch looks at a stage from outside: one that a stranger's bytes have led astray cannot be asked. It ends the stage
// when it is stuck, or has taken more of the processor than an image may.
//
// A tar that takes long in proportion to its size is no progress to wait for: bytes and entries are bounded, so that
// what honest images take is too, and the bound lies far beyond it.
type watch struct {
	pid   int
	stuck time.Duration // stuckAfter
	every time.Duration // watchEvery
	moved atomic.Int64  // counts what the stage has taken and said
	turns atomic.Int64  // how many calls wait for the stage, and not the stage for us

	mu      sync.Mutex
	unpacks int
	limit   time.Duration // of the processor, while anything is unpacked
	used    time.Duration
	cpu     time.Duration // of the process, when last looked at

	idle    time.Time // since when it has done nothing
	seen    int64     // moved, then
	idleCPU time.Duration
}

// run looks until the session is over. end is told why the stage is to end.
func (w *watch) run(done <-chan struct{}, end func(error)) {
	t := time.NewTicker(w.every)
	defer t.Stop()
	w.idle = time.Now()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		cpu, err := processorTime(w.pid)
		if err != nil {
			return // it has ended
		}
		if err := w.look(time.Now(), cpu); err != nil {
			end(err)
			return
		}
	}
}

func (w *watch) look(now time.Time, cpu time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unpacks > 0 {
		w.used += cpu - w.cpu
	}
	w.cpu = cpu
	if w.limit > 0 && w.used > w.limit {
		return &LimitError{What: "processor", Max: int64(w.limit / time.Second)}
	}
	// Of an idle process Go's runtime takes less than a thousandth; reading a disk that is nearly dead takes more.
	if moved := w.moved.Load(); w.turns.Load() == 0 || moved != w.seen || cpu-w.idleCPU > w.stuck/1000 {
		w.idle, w.seen, w.idleCPU = now, moved, cpu
	}
	if idle := now.Sub(w.idle); idle > w.stuck {
		return fmt.Errorf("%w for %v", errStuck, idle.Round(time.Second))
	}
	return nil
}

// processorTime is what a process has used of the processor, by its clock (clock_getcpuclockid(3)).
func processorTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// unpacking counts a call of Unpack; done is to be called at its end.
func (w *watch) unpacking(limit time.Duration) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unpacks++
	w.limit = limit
	if cpu, err := processorTime(w.pid); err == nil && w.unpacks == 1 {
		w.cpu = cpu
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if cpu, err := processorTime(w.pid); err == nil {
			w.used += cpu - w.cpu
			w.cpu = cpu
		}
		w.unpacks--
	}
}

// A turn is one unpacking's: the stage's when there are bytes for it, or no more will come, and it does not wait to be
// told what lies below.
type turn struct {
	w            *watch
	mu           sync.Mutex
	bytes, below bool
	counted      bool
}

// offer says that there are bytes to take, or that those before have been taken.
func (t *turn) offer(bytes bool) { t.change(&t.bytes, bytes) }

// asked says that the stage waits for what lies below, or waits no more.
func (t *turn) asked(below bool) { t.change(&t.below, below) }

func (t *turn) change(what *bool, to bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*what = to
	if now := t.bytes && !t.below; now != t.counted {
		t.counted = now
		if now {
			t.w.turns.Add(1)
		} else {
			t.w.turns.Add(-1)
		}
	}
	t.w.moved.Add(1)
}

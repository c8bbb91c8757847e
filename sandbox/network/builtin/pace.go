package builtin

import (
	"context"
	"sync/atomic"
	"time"
)

// pacer bounds this process's time for what comes to nothing: connections, datagrams and questions that are refused, and packets that
// belong to nothing. No limit of the sandbox's holds this process. Each costs refusalTime, and who owes more than
// refusalCredit of it has the packets that it sends left in its interface's queue meanwhile, which is short: what floods is
// slow, and loses packets, in all that it does. An ordinary program never gets there.
type pacer struct {
	paid    atomic.Int64 // the time until which it is paid, in nanoseconds since began; the algorithm is GCRA
	charged atomic.Int64 // all of it, for the tests
}

const (
	refusalTime   = time.Millisecond
	refusalCredit = 2000 * refusalTime
	// strayTime is for a packet of no connection: it takes less, and some come behind the end of ordinary ones.
	strayTime = refusalTime / 8
	// maxOwed bounds the debt, and maxPause one wait: the end of the network waits for it too.
	maxOwed  = time.Second
	maxPause = 10 * time.Millisecond
)

var began = time.Now()

// charge counts one that costs so much. It may be called from many goroutines.
func (p *pacer) charge(cost time.Duration) {
	p.charged.Add(int64(cost))
	now := int64(time.Since(began))
	for {
		paid := p.paid.Load()
		next := min(max(paid, now)+int64(cost), now+int64(refusalCredit+maxOwed))
		if p.paid.CompareAndSwap(paid, next) {
			return
		}
	}
}

// owed is how long to wait before the next packet.
func (p *pacer) owed() time.Duration {
	paid := p.paid.Load()
	if paid == 0 {
		return 0 // nothing has ever been refused, and the clock costs something
	}
	return min(time.Duration(paid)-time.Since(began)-refusalCredit, maxPause)
}

// wait waits until nothing is owed, or for the end.
func (p *pacer) wait(ctx context.Context) {
	for p.owed() > 0 {
		left := time.Duration(p.paid.Load()) - time.Since(began) - refusalCredit
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"cove/sandbox/network"
)

const (
	// What came to nothing is written once in logPause, with how often it did: else whoever is inside would fill the log,
	// and this process's time, with one line over and over. Of different ones maxInPause are told apart.
	logPause   = time.Second
	maxInPause = 256
)

// netLog is the log of one sandbox's network.
type netLog struct {
	log     *stateLog
	mu      sync.Mutex
	learn   bool // what was let through is kept as well
	refused *refusals

	again map[fruitless]*network.Decision // what came to nothing in this pause, with the lines that are not written yet
	more  int                             // what was not told apart
	pause *time.Timer
	over  bool
}

// fruitless is what makes two decisions that came to nothing one and the same.
type fruitless struct {
	kind, name, address, typ, reason, entry, err string
	port                                         uint16
}

// netLog begins the log, and returns what takes its lines; nil where the network makes none.
func (b *box) netLog() (func(network.Decision), error) {
	if b.spec.Network.Driver != network.Builtin {
		return nil, nil
	}
	listed := []string{"*", "*/udp"}
	if e := b.spec.Network.Egress; e.Listed {
		listed = nil
		for _, r := range e.Allow {
			listed = append(listed, r.Text)
		}
	}
	l := newNetLog(b.newLog(netLogName), listed)
	l.learn, l.refused.setup = b.opts.Learned != nil, b.opts.setup
	if err := l.refused.share(b.state.dir); err != nil {
		return nil, fmt.Errorf("begin the network's log: %w", err)
	}
	b.undo(func() error {
		l.end()
		if l.learn {
			b.opts.Learned(l.learned())
		} else if !b.opts.shell { // each shell tells what was refused while it was there
			l.mu.Lock()
			defer l.mu.Unlock()
			l.refused.tell(b.warn)
		}
		return nil
	})
	return l.add, nil
}

func newNetLog(log *stateLog, listed []string) *netLog {
	return &netLog{log: log, refused: newRefusals(listed), again: map[fruitless]*network.Decision{}}
}

func (l *netLog) add(d network.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !d.Allowed || l.learn && d.Kind != "dns" && (d.Entry == "*" || d.Entry == "*/udp") {
		l.refused.add(d)
	}
	if d.Allowed && (d.Error == "" || d.Sent+d.Got > 0) || l.first(d) {
		l.log.add(d)
	}
}

// first tells whether a decision that came to nothing is the first of its like in this pause. Others are counted.
func (l *netLog) first(d network.Decision) bool {
	if l.over {
		return false
	}
	if l.pause == nil {
		l.pause = time.AfterFunc(logPause, l.tellAgain)
	}
	key := fruitless{d.Kind, d.Name, d.Address, d.Type, d.Reason, d.Entry, d.Error, d.Port}
	if like, ok := l.again[key]; ok {
		d.Count = like.Count + 1
		*like = d
		return false
	}
	if len(l.again) == maxInPause {
		l.more++
		return false
	}
	l.again[key] = &network.Decision{}
	return true
}

func (l *netLog) tellAgain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush ends a pause.
func (l *netLog) flush() {
	if l.pause == nil {
		return
	}
	l.pause.Stop()
	l.pause = nil
	for _, d := range l.again {
		if d.Count > 0 {
			l.log.add(*d)
		}
	}
	if l.more > 0 {
		l.log.add(network.Decision{Time: time.Now(), Kind: network.More, Count: l.more})
	}
	clear(l.again)
	l.more = 0
}

func (l *netLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	l.log.end()
	l.refused.close()
	l.over = true // what still comes is not written
}

// learned are the entries that would have been needed, and those of them that lead to closed addresses. They are sorted:
// connections are told of when they end, and in what order two end is chance.
func (l *netLog) learned() (entries, closed []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.refused.order {
		if l.refused.closed[e] {
			closed = append(closed, e)
		} else {
			entries = append(entries, e)
		}
	}
	slices.Sort(entries)
	slices.Sort(closed)
	return entries, closed
}

var errNoNetLog = errors.New("this sandbox has no network of cove's own, or has not used it")

// NetLog opens a sandbox's log of its network, as openLog does.
func NetLog(runtimeDir, name string) (old, now *os.File, ended func() bool, err error) {
	return openLog(runtimeDir, name, netLogName, errNoNetLog)
}

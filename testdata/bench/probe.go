package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	rateRow   = "connections one after the other"
	medianRow = "small request, median"
	p99Row    = "small request, p99"

	rateTime    = 3 * time.Second
	rateWorkers = 16
	latencies   = 2000
	manyHeld    = 2000
)

// probe is what runs inside a network that is measured.
func probe(kind, addr string) error {
	var said map[string]float64
	var err error
	switch kind {
	case "rate":
		said, err = rate(addr)
	case "latency":
		said, err = latency(addr)
	case "hold":
		return hold(addr)
	case "first":
		return first(addr)
	default:
		return fmt.Errorf("-probe %q: it is one of rate, latency, hold, first", kind)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(said)
}

// request makes a connection for one request, and reads the answer to its end.
func request(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && len(answer) < 12 {
		err = fmt.Errorf("answered %q", answer)
	}
	return err
}

func rate(addr string) (map[string]float64, error) {
	var done atomic.Int64
	var all sync.WaitGroup
	errs := make(chan error, rateWorkers)
	start := time.Now()
	for range rateWorkers {
		all.Go(func() {
			for time.Since(start) < rateTime {
				if err := request(addr); err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	return map[string]float64{rateRow: float64(done.Load()) / time.Since(start).Seconds()}, nil
}

func latency(addr string) (map[string]float64, error) {
	var took []time.Duration
	for range latencies {
		start := time.Now()
		if err := request(addr); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	ms := func(at int) float64 { return float64(took[at]) / float64(time.Millisecond) }
	return map[string]float64{medianRow: ms(latencies / 2), p99Row: ms(latencies * 99 / 100)}, nil
}

// hold opens manyHeld connections when it is told to, and keeps them until it is told to leave, by files.
func hold(addr string) error {
	if err := os.WriteFile("ready", []byte("ready"), 0o600); err != nil {
		return err
	}
	until("go")
	var all sync.WaitGroup
	slots := make(chan struct{}, 32)
	errs := make(chan error, manyHeld)
	conns := make([]net.Conn, manyHeld)
	start := time.Now()
	for i := range conns {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			var err error
			if conns[i], err = echo(addr); err != nil {
				errs <- err
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	select {
	case err := <-errs:
		return err
	default:
	}
	if err := os.WriteFile("open", fmt.Append(nil, float64(took)/float64(time.Millisecond)), 0o600); err != nil {
		return err
	}
	until("leave")
	return nil
}

// echo is a connection over which something has gone there and back.
func echo(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = io.WriteString(c, "x"); err == nil {
		_, err = c.Read(make([]byte, 100))
	}
	_ = c.SetDeadline(time.Time{})
	return c, err
}

// until waits for a file, or for the end.
func until(name string) {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, told := range []string{name, "leave"} {
			if _, err := os.Stat(told); err == nil {
				return
			}
		}
	}
}

// first tries until something answers.
func first(addr string) error {
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err = request(addr); err == nil {
			return nil
		}
	}
	return err
}

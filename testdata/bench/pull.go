package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
)

// coldStore gives each pull an empty place. What the one before has left is moved away and not removed, until the end:
// where ext4 has no journal it does not take an inode again for a minute or five after a removal, and looks each of
// them up for every file that is made (recently_deleted in the kernel's fs/ext4/ialloc.c).
func (b *bench) coldStore() (reset func() error, cold string) {
	cold = filepath.Join(b.dir, "cold")
	return func() error {
		if _, err := os.Lstat(cold); err == nil {
			b.used++
			if err := os.Rename(cold, filepath.Join(b.dir, fmt.Sprintf("used-%d-%d", os.Getpid(), b.used))); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(cold, 0o700); err != nil {
			return err
		}
		syscall.Sync() // or one pays for what the other wrote
		return nil
	}, cold
}

// pullers are the ways to pull what ref names, all the way to a root file system that can be used.
func (b *bench) pullers(ref, cold string, reset func() error) (cove, podman, umoci command) {
	cove = command{name: "cove pull", argv: []string{b.cove, "--store", filepath.Join(cold, "cove"), "pull", ref}, reset: reset}
	podman = command{name: "podman pull", reset: reset, argv: b.podman("--root", filepath.Join(cold, "podman"), "--runroot", filepath.Join(cold, "run"),
		"pull", "-q", "--tls-verify=false", ref)}
	umoci = command{name: "skopeo + umoci", reset: reset,
		argv: []string{"skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "docker://" + ref, "oci:" + filepath.Join(cold, "oci") + ":bench"},
		then: []string{"umoci", "unpack", "--rootless", "--image", filepath.Join(cold, "oci") + ":bench", filepath.Join(cold, "bundle")}}
	return cove, podman, umoci
}

// pull is from a registry on loopback into an empty store. gunzip is the limit: the same blobs decompressed by the same
// package on as many cores as there are, and thrown away.
func (b *bench) pull() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	reset, cold := b.coldStore()
	for _, s := range shapes {
		if s.memoryOnly || s.startOnly {
			continue
		}
		blobs, err := b.layers(s.name)
		if err != nil {
			return err
		}
		cove, podman, umoci := b.pullers(b.ref(s.name), cold, reset)
		gunzip := command{name: "gunzip limit", argv: append([]string{self, "-gunzip"}, blobs...)}
		times, err := b.turns(b.pulls, cove, podman, umoci, gunzip)
		if err != nil {
			return err
		}
		b.out.times("pull "+s.what, times, []command{cove, podman, umoci, gunzip})
	}
	return nil
}

// gunzipAll decompresses files, side by side as a pull does, into nothing.
func gunzipAll(paths []string) error {
	next, errs := make(chan string), make(chan error)
	workers := min(runtime.GOMAXPROCS(0), len(paths))
	for range workers {
		go func() {
			var first error
			for path := range next {
				if err := gunzip(path); err != nil && first == nil {
					first = err
				}
			}
			errs <- first
		}()
	}
	for _, p := range paths {
		next <- p
	}
	close(next)
	var first error
	for range workers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func gunzip(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<18))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, struct{ io.Reader }{z})
	return err
}

// pullAgain is a pull of what is there already: how long it takes, and how many requests it sends.
func (b *bench) pullAgain() error {
	proxy, requests, stop, err := b.countingProxy()
	if err != nil {
		return err
	}
	defer stop()
	reset, cold := b.coldStore()
	if err := reset(); err != nil {
		return err
	}
	cove, podman, _ := b.pullers(proxy+"/bench/many:latest", cold, nil)
	sent := map[string]float64{}
	for _, c := range []command{cove, podman} {
		if err := b.do(c.argv...); err != nil {
			return err
		}
		before := requests.Load()
		if err := b.do(c.argv...); err != nil {
			return err
		}
		sent[c.name] = float64(requests.Load() - before)
	}
	times, err := b.race(b.few(), cove, podman)
	if err != nil {
		return err
	}
	b.out.times("pull, nothing new", times, []command{cove, podman})
	b.out.add("pull, nothing new", "requests", sent[cove.name], podman.name, sent[podman.name])
	return nil
}

// countingProxy passes requests on to the registry and counts them.
func (b *bench) countingProxy() (addr string, requests *atomic.Int64, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, nil, err
	}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: b.registry})
	requests = new(atomic.Int64)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		to.ServeHTTP(w, r)
	})}
	go func() { _ = srv.Serve(l) }()
	return l.Addr().String(), requests, func() { srv.Close() }, nil
}

// pullMemory is the most that a pull takes: the peaks (VmHWM) of cove and of its stage, added up, so that what the two
// share counts twice and what they reached at different times does too.
func (b *bench) pullMemory() error {
	reset, cold := b.coldStore()
	for _, s := range shapes {
		if s.startOnly {
			continue
		}
		cove, podman, _ := b.pullers(b.ref(s.name), cold, reset)
		if err := reset(); err != nil {
			return err
		}
		mine, err := b.peak(cove.argv)
		if err != nil {
			return err
		}
		if s.memoryOnly {
			b.out.add("peak memory, "+s.what, "MB", mine, "", 0)
			continue
		}
		theirs, err := b.peak(podman.argv)
		if err != nil {
			return err
		}
		b.out.add("peak memory, "+s.what, "MB", mine, podman.name, theirs)
	}
	return nil
}

// peak runs argv and returns the highest sum of VmHWM of it and what descends from it, looked at every few milliseconds.
func (b *bench) peak(argv []string) (megabytes float64, err error) {
	ended := make(chan error, 1)
	go func() { ended <- b.do(argv...) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil && megabytes == 0 {
				err = fmt.Errorf("%s: ended before its memory was seen", strings.Join(argv, " "))
			}
			return megabytes, err
		case <-tick.C:
			megabytes = max(megabytes, descendants(os.Getpid()))
		}
	}
}

// descendants adds up VmHWM, in MB, of all processes below pid but the registry.
func descendants(pid int) float64 {
	var total float64
	for _, child := range children(pid) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child))
		// One that is about to become another program still has this one's memory.
		name := field(status, "Name:")
		if err != nil || name == "docker-registry" || name == filepath.Base(os.Args[0]) {
			continue
		}
		kb, _ := strconv.ParseFloat(strings.TrimSuffix(field(status, "VmHWM:"), " kB"), 64)
		total += kb/1024 + descendants(child)
	}
	return total
}

func children(pid int) []int {
	var out []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for f := range strings.FieldsSeq(string(data)) {
			if child, err := strconv.Atoi(f); err == nil && !slices.Contains(out, child) {
				out = append(out, child)
			}
		}
	}
	return out
}

func field(status []byte, name string) string {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

package stage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// Names take room on the disk, and what a directory holds takes time: both have a bound.
func TestNameLimit(t *testing.T) {
	b := newBench(t, testMap(t))
	lim := layer.Limits{NameBytes: 80_000}
	unpack := func(hdrs ...tar.Header) error {
		at, _ := b.fresh()
		_, err := b.s.Unpack(layer.UnpackRequest{At: at, Limits: lim}, bytes.NewReader(tarOf(t, nil, hdrs...)))
		return err
	}
	var dirs, files, back []tar.Header
	for i := range 600 {
		dirs = append(dirs, dir(fmt.Sprintf("%0100d", i)))
		files = append(files, file(fmt.Sprintf("d/%0200d", i)))
		back = append(back, dir("x"), file("x")) // kept and forgotten
	}
	var limit *layer.LimitError
	for name, hdrs := range map[string][]tar.Header{"directories": dirs, "files": files} {
		if err := unpack(hdrs...); !errors.As(err, &limit) || limit.What != "names" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 3 { // each layer has its own
		if err := unpack(append(dirs[:300:300], back...)...); err != nil {
			t.Error(err)
		}
	}
}

// One name may have 2000 directories that no entry describes: they count.
func TestImplicitLimit(t *testing.T) {
	b := newBench(t, testMap(t))
	unpack := func(lim layer.Limits, hdrs ...tar.Header) error {
		at, _ := b.fresh()
		_, err := b.s.Unpack(layer.UnpackRequest{At: at, Limits: lim}, bytes.NewReader(tarOf(t, nil, hdrs...)))
		return err
	}
	deep := []tar.Header{file("a/" + strings.Repeat("d/", 50) + "f"), file("b/" + strings.Repeat("d/", 50) + "f")}
	var limit *layer.LimitError
	if err := unpack(layer.Limits{Entries: 100}, deep...); !errors.As(err, &limit) || limit.What != "entries" {
		t.Errorf("%v", err)
	}
	if err := unpack(layer.Limits{Entries: 104}, deep...); err != nil {
		t.Error(err)
	}
}

// memory is what a process has used at most, and may.
func memory(t *testing.T, pid int) (high, data, limit int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmHWM":
			high = kb << 10
		case "VmData":
			data = kb << 10
		}
	}
	var lim unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_DATA, nil, &lim); err != nil {
		t.Fatal(err)
	}
	return high, data, int64(min(lim.Cur, 1<<62))
}

// What is made to eat memory does not.
func TestHostileMemory(t *testing.T) {
	b := roomyBench(t, testMap(t))
	comment := strings.Repeat("c", 1_000_000)
	sparse := strings.Repeat("0,0,", 250_000) // a map of a file of nothing
	hostile := map[string][]byte{
		"PAX records":     bytes.Repeat(append(record('x', "comment="+comment), raw('0', "x", 0, nil)...), 10),
		"global records":  bytes.Repeat(record('g', "comment="+comment), 10),
		"many attributes": append(record('x', many("SCHILY.xattr.trusted.%d=v", 30_000)...), raw('0', "x", 0, nil)...),
		"sparse maps": bytes.Repeat(append(record('x', "GNU.sparse.map="+sparse+"0,0", "GNU.sparse.numblocks=250001", "GNU.sparse.size=0"),
			raw('0', "x", 0, nil)...), 5),
		"long links":  bytes.Repeat(append(append(raw('K', "././@LongLink", 1<<20, nil), bytes.Repeat([]byte("n"), 1<<20)...), raw('2', "x", 0, nil)...), 5),
		"a window":    window128(800),
		"two windows": append(window128(800), window128(800)...),
	}
	for name, stream := range hostile {
		_, _, _, err := b.unpack(stream)
		t.Logf("%s: %.100v", name, err)
	}
	high, _, limit := memory(t, b.s.Pid())
	t.Logf("%d MiB at most, of %d", high>>20, limit>>20)
	if high > 200<<20 || limit > hardMemory {
		t.Errorf("it used %d MiB, and may use %d", high>>20, limit>>20)
	}
}

// window128 is a zstd frame of zeros, 128 KiB a block, with the largest window there may be, by hand: RFC 8878 3.1.1.
func window128(blocks int) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3} // no checksum, no size; 2^(10+17)
	for n := range blocks {
		block := uint32(128<<10)<<3 | 1<<1 // one byte, that often
		if n == blocks-1 {
			block |= 1 // the last
		}
		out = append(out, byte(block), byte(block>>8), byte(block>>16), 0)
	}
	return out
}

func many(format string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}

// A stage without memory ends, and nothing else does: whoever waits for it is told.
func TestMemoryLimit(t *testing.T) {
	b := roomyBench(t, testMap(t))
	_, data, _ := memory(t, b.s.Pid())
	lim := unix.Rlimit{Cur: uint64(data) + 4<<20, Max: uint64(data) + 4<<20}
	if err := unix.Prlimit(b.s.Pid(), unix.RLIMIT_DATA, &lim, nil); err != nil {
		t.Fatal(err)
	}
	// Layers side by side have buffers, each 2 MiB and more, and Go begins with 64 MiB. A hundred that wait for their end.
	got := make(chan error, 100)
	body := make([]byte, 8<<20)
	head := tarOf(t, nil, dir("d"))
	head = append(head[:len(head)-1024], raw('0', "f", int64(len(body)), nil)[:512]...)
	var pipes []*io.PipeWriter
	for range cap(got) {
		pr, pw := io.Pipe()
		defer pr.Close()
		pipes = append(pipes, pw)
		go func() {
			if _, err := pw.Write(head); err == nil {
				_, _ = pw.Write(body)
			}
		}()
		at, _ := b.fresh()
		go func() {
			_, err := b.s.Unpack(layer.UnpackRequest{At: at}, pr)
			got <- err
		}()
	}
	told := false
	for range cap(got) {
		select {
		case err := <-got:
			if err == nil {
				t.Fatal("a layer that is cut was taken")
			}
			told = told || strings.Contains(err.Error(), "ended early")
		case <-time.After(time.Minute):
			t.Fatal("it has all the memory that it wants")
		}
		for _, pw := range pipes {
			pw.Close() // who waits for more of a layer learns that nobody takes it
		}
		pipes = nil
	}
	if !told {
		t.Error("nobody was told that the stage has ended")
	}
	b.restart()
}

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

// Names take memory: what is remembered of them, and what one directory may hold, has a bound, which all layers share.
func TestNameLimit(t *testing.T) {
	b := newBench(t, testMap(t))
	lim := layer.Limits{NameBytes: 100_000}
	unpackAt := func(at layer.Place, stream io.Reader) error {
		_, err := b.s.Unpack(layer.UnpackRequest{At: at, Limits: lim}, stream)
		return err
	}
	unpack := func(stream io.Reader) error {
		at, _ := b.fresh()
		return unpackAt(at, stream)
	}
	var dirs, files, back []tar.Header
	for i := range 600 {
		dirs = append(dirs, dir(fmt.Sprintf("%0100d", i)))
		files = append(files, file(fmt.Sprintf("d/%0200d", i)))
		back = append(back, dir("x"), file("x")) // kept and forgotten
	}
	var limit *layer.LimitError
	for name, hdrs := range map[string][]tar.Header{"directories": dirs, "files": files} {
		if err := unpack(bytes.NewReader(tarOf(t, nil, hdrs...))); !errors.As(err, &limit) || limit.What != "names" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 3 { // what has been unpacked is not counted any more
		if err := unpack(bytes.NewReader(tarOf(t, nil, append(dirs[:300:300], back...)...))); err != nil {
			t.Error(err)
		}
	}
	// Two layers at once have one bound: the first waits, having used most of it.
	pr, pw := io.Pipe()
	defer pr.Close()
	first := make(chan error, 1)
	at, _ := b.fresh()
	go func() { first <- unpackAt(at, pr) }()
	// Enough of the file for all before it to have gone through the stage's buffers.
	head := tarOf(t, map[string]string{"f": strings.Repeat("f", 4<<20)}, append(dirs[:400:400], file("f"))...)
	if _, err := pw.Write(head[:3<<20]); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; { // until it has the first's directories
		if time.Since(began) > time.Minute {
			t.Fatal("two layers have two bounds")
		}
		err := unpack(bytes.NewReader(tarOf(t, nil, dirs[:250]...)))
		if errors.As(err, &limit) && limit.What == "names" {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := pw.Write(head[3<<20:])
	if err = errors.Join(err, pw.Close(), <-first); err != nil {
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
	b := newBench(t, testMap(t))
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
	b := newBench(t, testMap(t))
	_, data, _ := memory(t, b.s.Pid())
	lim := unix.Rlimit{Cur: uint64(data) + 4<<20, Max: uint64(data) + 4<<20}
	if err := unix.Prlimit(b.s.Pid(), unix.RLIMIT_DATA, &lim, nil); err != nil {
		t.Fatal(err)
	}
	// Directories whose names are 4000 bytes long are remembered: Go begins with 64 MiB, and these take twice that.
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() {
		w := tar.NewWriter(pw)
		deep := strings.Repeat(strings.Repeat("d", 250)+"/", 15)
		for i := range 32_000 {
			if w.WriteHeader(&tar.Header{Name: fmt.Sprintf("%s%0200d", deep, i), Mode: 0o755, Typeflag: tar.TypeDir}) != nil {
				return
			}
		}
		pw.CloseWithError(w.Close())
	}()
	at, _ := b.fresh()
	_, err := b.s.Unpack(layer.UnpackRequest{At: at}, pr)
	if err == nil || !strings.Contains(err.Error(), "ended early") {
		t.Errorf("%v", err)
	}
	b.restart()
}

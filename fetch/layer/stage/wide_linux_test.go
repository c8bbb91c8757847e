package stage

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"cove/fetch/layer"
	"cove/sandbox/clitest"

	"golang.org/x/sys/unix"
)

// wideFrame packs a tar of a file of zeros, which becomes a hole, with a window of 128 MiB: blocks of one byte, repeated.
func wideFrame(t *testing.T, size int64) []byte {
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Typeflag: tar.TypeReg, Size: size}); err != nil {
		t.Fatal(err)
	}
	const magic, window, run = 0xfd2fb528, (27 - 10) << 3, 1 << 1
	out := binary.LittleEndian.AppendUint32(nil, magic)
	out = append(out, 0, window)
	block := func(kind, n int, data ...byte) {
		head := n<<3 | kind
		out = append(append(out, byte(head), byte(head>>8), byte(head>>16)), data...)
	}
	block(0, head.Len(), head.Bytes()...)
	for left := size; left > 0; left -= 128 << 10 {
		block(run, int(min(left, 128<<10)), 0)
	}
	block(run|1, 1024, 0) // two empty blocks end a tar
	return out
}

// However many layers with the widest windows there are, the stage has a few megabytes for each.
func TestWideMemory(t *testing.T) {
	b := newBench(t, testMap(t))
	const size = 160 << 20
	frame := wideFrame(t, size)
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		at, path := b.fresh()
		wg.Go(func() {
			res, err := b.s.Unpack(layer.UnpackRequest{At: at}, bytes.NewReader(frame))
			var st unix.Stat_t
			if err == nil {
				err = unix.Lstat(path+"/zeros", &st)
			}
			if err == nil && (res.Bytes != size || st.Size != size || st.Blocks > 8) {
				err = fmt.Errorf("%d bytes, file of %d in %d blocks", res.Bytes, st.Size, st.Blocks)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("layer %d: %v", i, err)
		}
	}
	most := uint64(80 << 20)
	if clitest.Race {
		most *= 3 // the detector keeps a shadow of all of it
	}
	if high, _, _ := memory(t, b.s.Pid()); uint64(high) > most {
		t.Errorf("%d layers took %d MB", len(errs), high>>20)
	} else {
		t.Logf("%d MB", high>>20)
	}
}

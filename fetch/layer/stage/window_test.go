package stage

import (
	"bufio"
	"bytes"
	"io"
	"math/rand"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func frame(t *testing.T, data []byte, window int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 { // in pieces, so that the encoder does not know the size
		n := min(len(data), 1<<20)
		if _, err := w.Write(data[:n]); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Whatever comes, it passes unchanged; each frame with a large window is told of.
func TestWindows(t *testing.T) {
	skip := []byte{0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}
	text := make([]byte, 3<<20)
	for i := range text {
		text[i] = byte(rand.Intn(4))
	}
	small, large := frame(t, text, 1<<20), frame(t, text, 64<<20)
	junk := []byte("(\xb5/\xfd and no frame")
	for name, c := range map[string]struct {
		stream []byte
		calls  int
	}{
		"small": {small, 0}, "large": {large, 1}, "two": {bytes.Join([][]byte{skip, small, skip, large, skip, large, small}, nil), 2},
		"cut": {large[:len(large)/2], 1}, "cut header": {append(bytes.Clone(small), large[:5]...), 0}, "junk": {junk, 0},
		"junk after": {append(bytes.Clone(small), junk...), 0}, "empty": {nil, 0},
	} {
		calls := 0
		w := &windows{r: bufio.NewReader(bytes.NewReader(c.stream)), large: func() error { calls++; return nil }}
		got, err := io.ReadAll(w)
		if err != nil || !bytes.Equal(got, c.stream) || calls != c.calls {
			t.Errorf("%s: %d of %d bytes, %d calls (%v)", name, len(got), len(c.stream), calls, err)
		}
	}
	w := &windows{r: bufio.NewReader(bytes.NewReader(large)), large: func() error { return io.ErrClosedPipe }}
	if _, err := io.ReadAll(w); err != io.ErrClosedPipe {
		t.Errorf("%v", err)
	}
}

package unzip

import (
	"bufio"
	"bytes"
	"io"
	"math/rand"
	"os"
	"strings"
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

// Frames of both widths in one stream, and what lies between them, are one stream's content.
func TestFrames(t *testing.T) {
	skip := []byte{0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'}
	text := make([]byte, 3<<20)
	for i := range text {
		text[i] = byte(rand.Intn(4))
	}
	narrow, wide, wider, plain := frame(t, text, 1<<20), frame(t, text, 64<<20), frame(t, text, 256<<20), frame(t, text, 4<<20)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	junk := []byte("(\xb5/\xfd and no frame")
	for name, c := range map[string]struct {
		stream []byte
		texts  int
		files  int
		broken bool
	}{
		"narrow": {narrow, 1, 0, false}, "wide": {wide, 1, 1, false},
		"both":          {join(skip, narrow, skip, wide, skip, wide, narrow, narrow, wide), 6, 1, false},
		"skipped last":  {join(wide, skip), 1, 1, false},
		"cut":           {wide[:len(wide)/2], 0, 1, true},
		"cut header":    {join(narrow, wide[:5]), 1, 0, true},
		"cut narrow":    {join(wide, narrow[:len(narrow)/2]), 1, 1, true},
		"junk":          {junk, 0, 0, true},
		"junk after":    {join(narrow, junk), 1, 0, true},
		"zeros after":   {join(wide, make([]byte, 100)), 1, 1, true},
		"too wide":      {wider, 0, 0, true},
		"too wide last": {join(wide, narrow, wider), 2, 1, true},
		"common":        {join(narrow, plain, narrow, plain), 4, 0, false}, "common and wide": {join(plain, wide, plain), 3, 1, false},
		"common, no room": {join(narrow, plain, narrow, plain), 4, 1, false},
	} {
		if strings.HasSuffix(name, "no room") {
			for range cap(roomy) {
				roomy <- struct{}{}
			}
		}
		files := 0
		f := &frames{in: bufio.NewReader(bytes.NewReader(c.stream)), spill: func() (*os.File, error) {
			files++
			return os.CreateTemp(t.TempDir(), "")
		}}
		got, err := io.ReadAll(f)
		f.close()
		if strings.HasSuffix(name, "no room") {
			for range cap(roomy) {
				<-roomy
			}
		}
		if len(roomy) != 0 {
			t.Errorf("%s: room for a window is still taken", name)
		}
		if (err != nil) != c.broken || len(got) < c.texts*len(text) || files != c.files {
			t.Errorf("%s: %d bytes, %d files (%v)", name, len(got), files, err)
			continue
		}
		for n := range c.texts {
			if !bytes.Equal(got[n*len(text):(n+1)*len(text)], text) {
				t.Errorf("%s: frame %d is another", name, n)
			}
		}
	}
	f := &frames{in: bufio.NewReader(bytes.NewReader(wide)), spill: func() (*os.File, error) { return nil, io.ErrClosedPipe }}
	if _, err := io.ReadAll(f); err != io.ErrClosedPipe {
		t.Errorf("%v", err)
	}
}

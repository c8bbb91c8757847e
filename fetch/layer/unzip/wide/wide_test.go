package wide

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// pack makes a frame of data with that window, in pieces, so that the encoder does not know the size.
func pack(t testing.TB, data []byte, window int, level zstd.EncoderLevel) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(len(data), 100_000)
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

// memory is a file.
type memory []byte

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	if n := copy(b, (*m)[min(at, int64(len(*m))):]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if end := int(at) + len(b); end > len(*m) {
		*m = append(*m, make([]byte, end-len(*m))...)
	}
	return copy((*m)[at:], b), nil
}

func unpack(t testing.TB, frame []byte) ([]byte, *bufio.Reader, error) {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(frame))
	d, err := New(in, new(memory))
	if err != nil {
		return nil, in, err
	}
	out, err := io.ReadAll(d)
	return out, in, err
}

func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b)
	return b
}

func words(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var out []byte
	for len(out) < n {
		out = fmt.Appendf(out, "%x ", uint16(r.ExpFloat64()*300))
	}
	return out[:n]
}

// far is text of which each megabyte has come before: just now, beyond what memory keeps, and as far back as can be.
func far() []byte {
	text := words(9 << 20)
	r := rand.New(rand.NewPCG(3, 4))
	for at := 1 << 20; at < len(text); {
		n := min(20+r.IntN(3000), len(text)-at)
		from := r.IntN(at)
		copy(text[at:at+n], text[from:])
		at += n + r.IntN(200)
	}
	return text
}

func TestDecode(t *testing.T) {
	far := far()
	for name, data := range map[string][]byte{
		"empty": nil, "one byte": []byte("x"), "run": bytes.Repeat([]byte("a"), 1<<20), "noise": noise(5<<20, 1), "words": words(3 << 20), "far": far,
		"mixed": bytes.Join([][]byte{noise(300_000, 2), words(300_000), make([]byte, 300_000), noise(300_000, 2)}, nil),
	} {
		for level := zstd.SpeedFastest; level <= zstd.SpeedBestCompression; level++ {
			for _, window := range []int{1 << 10, 1 << 20, 16 << 20} {
				if level > zstd.SpeedDefault && (len(data) > 1<<20) != (window > 1<<20) {
					continue // these take their time
				}
				frame := pack(t, data, window, level)
				next := []byte("what follows")
				got, rest, err := unpack(t, append(bytes.Clone(frame), next...))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s, %s, window %d: %d bytes of %d (%v)", name, level, window, len(got), len(data), err)
				}
				if after, _ := io.ReadAll(rest); !bytes.Equal(after, next) {
					t.Errorf("%s, %s: it read beyond the frame: %q is left", name, level, after)
				}
			}
		}
	}
}

// A frame of a known size has it in its header; one segment needs no window descriptor.
func TestDecodeSized(t *testing.T) {
	w, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	data := words(2 << 20)
	frame := w.EncodeAll(data, nil)
	if got, _, err := unpack(t, frame); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes (%v)", len(got), err)
	}
	// The header's size is at 5, after the magic number and the descriptor.
	for _, by := range []byte{1, 255} {
		lying := bytes.Clone(frame)
		lying[5] += by
		if _, _, err := unpack(t, lying); !errors.Is(err, errCorrupt) {
			t.Errorf("size off by %d: %v", int8(by), err)
		}
	}
}

// Whatever is cut or changed, it is told, for the checksum is there.
func TestDamage(t *testing.T) {
	data := bytes.Join([][]byte{noise(2000, 1), words(60_000), noise(2000, 1)}, nil)
	frame := pack(t, data, 1<<20, zstd.SpeedDefault)
	if got, _, err := unpack(t, frame); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
	for n := range len(frame) {
		if n > 60 && n%307 != 0 {
			continue
		}
		if _, _, err := unpack(t, frame[:n]); err == nil {
			t.Errorf("cut at %d: nothing was said", n)
		}
		// The header's window is not for the decoder to doubt.
		for bit := range 8 {
			bad := bytes.Clone(frame)
			bad[n] ^= 1 << bit
			if got, _, err := unpack(t, bad); err == nil && !bytes.Equal(got, data) {
				t.Errorf("bit %d of byte %d: nothing was said", bit, n)
			}
		}
	}
}

// What a frame says that it holds is a window of its own, and may be more than any file holds.
func TestWidest(t *testing.T) {
	for _, size := range []byte{0, 1, 0x7f, 0x80, 0xff} {
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 4, 0, size, 1, 0, 0}
		if _, _, err := unpack(t, frame); !errors.Is(err, errWidest) {
			t.Errorf("size of %#x0004_00000000_00: %v", size, err)
		}
	}
}

// deaf is a full disk.
type deaf struct{}

func (deaf) ReadAt([]byte, int64) (int, error)  { return 0, io.ErrUnexpectedEOF }
func (deaf) WriteAt([]byte, int64) (int, error) { return 0, io.ErrShortWrite }

func TestFullDisk(t *testing.T) {
	d, err := New(bufio.NewReader(bytes.NewReader(pack(t, noise(1<<20, 1), 1<<20, zstd.SpeedFastest))), deaf{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(d); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("%v", err)
	}
}

// FuzzDecode holds the decoder to the other one: the same bytes, or an error from both.
func FuzzDecode(f *testing.F) {
	for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("ab"), 3000), words(20_000), noise(500, 1)} {
		for level := zstd.SpeedFastest; level <= zstd.SpeedBestCompression; level++ {
			f.Add(pack(f, data, 1<<20, level))
		}
	}
	// Nothing, in a frame of the widest window that a header can ask for (RFC 8878, section 3.1.1.1.2).
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0})
	// It holds no window when it decodes at once, so that it need not be kept from that one.
	other, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(1<<42), zstd.WithDecoderMaxWindow(1<<41+7<<38))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, rest, err := unpack(t, frame)
		if err != nil {
			return
		}
		after, _ := io.ReadAll(rest)
		frame = frame[:len(frame)-len(after)]
		want, err := other.DecodeAll(frame, nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, the other decoder says %d (%v)", len(got), len(want), err)
		}
	})
}

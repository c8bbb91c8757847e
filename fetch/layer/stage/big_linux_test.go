package stage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"testing"
	"time"
)

func manyFiles(t testing.TB, n, size int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for i := range n {
		if i%100 == 0 {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/", i/100), Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
				t.Fatal(err)
			}
		}
		h := tar.Header{Name: fmt.Sprintf("d%d/f%d", i/100, i), Mode: 0o644, Size: int64(len(body)), Uid: i % 1000, ModTime: time.Unix(int64(i), 0), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestFiftyThousandFiles(t *testing.T) {
	b := roomyBench(t, testMap(t))
	stream := manyFiles(t, 50_000, 512)
	began := time.Now()
	_, _, res, err := b.unpack(stream)
	if err != nil {
		t.Fatal(err)
	}
	if res.Entries != 50_500 {
		t.Errorf("%+v", res)
	}
	t.Logf("50000 files in %v", time.Since(began))
}

func BenchmarkUnpack(b *testing.B) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	raw := manyFiles(b, 6_768, 30<<10)
	_, _ = w.Write(raw)
	w.Close()
	be := roomyBench(b, testMap(b))
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		at, _, _, err := be.unpack(z.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := be.s.Remove(at); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

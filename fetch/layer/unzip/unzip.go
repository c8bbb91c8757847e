package unzip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
)

const bufferSize = 256 << 10

// New decompresses r. By what, its first bytes say: media types are often wrong. spill makes an empty file that has no name, for a window that takes too
// much memory; it may never be called. The function that is returned ends it.
func New(r io.Reader, spill func() (*os.File, error)) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, bufferSize)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	// No bytes at all are a layer without entries: some dockers have sent such (moby issue 18170).
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br) // reads all members, as RFC 1952 has it
		if err != nil {
			return nil, nil, fmt.Errorf("decompress: %w", err)
		}
		return z, func() { z.Close() }, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), skippable(head):
		z := &frames{in: br, spill: spill}
		return z, z.close, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return nil, nil, errors.New("compressed with bzip2, which image layers may not be")
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, nil, errors.New("compressed with xz, which image layers may not be")
	}
	return br, func() {}, nil
}

// skippable tells a zstd skippable frame (RFC 8878 3.1.2), which may come first.
func skippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

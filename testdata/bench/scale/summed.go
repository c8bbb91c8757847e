package main

import (
	"bufio"
	"crypto/sha256"
	"hash"
	"io"

	"cove/fetch/oci"
)

// summed is a file whose digest is told.
type summed struct {
	w    *bufio.Writer
	hash hash.Hash
	size int64
}

func newSummed(w io.Writer) *summed {
	s := &summed{hash: sha256.New()}
	s.w = bufio.NewWriterSize(io.MultiWriter(w, s.hash), 1<<20)
	return s
}

func (s *summed) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	return s.w.Write(p)
}

func (s *summed) flush() error { return s.w.Flush() }

func (s *summed) digest() oci.Digest { return oci.FromHash(s.hash) }

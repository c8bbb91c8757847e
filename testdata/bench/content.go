package main

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// smallFiles is a tree like node_modules: 50 000 files of 2 KB on average, twenty to a directory.
func (b *bench) smallFiles(tarball string) error { return modules(tarball, 2500) }

func modules(tarball string, directories int) error {
	return writeTar(tarball, func(w *tar.Writer) error {
		words := vocabulary()
		r := rand.New(rand.NewPCG(1, 2))
		for d := range directories {
			dir := fmt.Sprintf("modules/package-%04d", d)
			if err := putDir(w, dir); err != nil {
				return err
			}
			for f := range 20 {
				if err := putFile(w, fmt.Sprintf("%s/file-%02d.js", dir, f), text(r, words, r.IntN(4000))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// farMatches is 900 MB of noise, each 100 MB of it twice in a row: what windows of 128 MiB are for.
func (b *bench) farMatches(tarball string) error {
	return writeTar(tarball, func(w *tar.Writer) error {
		block := make([]byte, 25<<20)
		for n := range 36 {
			r := rand.NewChaCha8([32]byte{byte(n / 8), byte(n % 4)})
			_, _ = r.Read(block) // it never fails
			if err := putFile(w, fmt.Sprintf("block-%02d", n), block); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeTar(path string, fill func(*tar.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

var made = time.Unix(1700000000, 0)

func putDir(w *tar.Writer, name string) error {
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: made})
}

func putFile(w *tar.Writer, name string, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: made, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// vocabulary makes text that gzip packs about as well as a program's.
func vocabulary() [][]byte {
	r := rand.New(rand.NewPCG(5, 6))
	words := make([][]byte, 4000)
	for i := range words {
		for range 2 + r.IntN(9) {
			words[i] = append(words[i], byte('a'+r.IntN(26)))
		}
		words[i] = append(words[i], " \n.,;"[r.IntN(5)])
	}
	return words
}

func text(r *rand.Rand, words [][]byte, size int) []byte {
	out := make([]byte, 0, size+16)
	for len(out) < size {
		out = append(out, words[int(r.ExpFloat64()*400)%len(words)]...)
	}
	return out[:size]
}

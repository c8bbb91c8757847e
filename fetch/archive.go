package fetch

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"cove/fetch/layer"
	"cove/fetch/oci"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// An archive is a tar whose files are found once and read in place. The library would unpack a
// compressed one to /var/tmp without a limit, and its layers once more to measure them.
type archive struct {
	f     *os.File
	files map[string]span
	links map[string]string // names that lead to others, as older dockers save a layer that occurs twice
}

type span struct{ off, size int64 }

func openTar(name string, o Options) (*archive, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	a := &archive{f: f, files: map[string]span{}, links: map[string]string{}}
	if err := a.inflate(o); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), a.f.Close())
	}
	if err := a.index(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), a.f.Close())
	}
	return a, nil
}

// compressed tells gzip and zstd by their first bytes.
func compressed(r io.ReaderAt, off int64) string {
	var magic [4]byte
	switch _, err := r.ReadAt(magic[:], off); {
	case err != nil:
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return "gzip"
	case magic == [4]byte{0x28, 0xb5, 0x2f, 0xfd}:
		return "zstd"
	}
	return ""
}

// inflate replaces a compressed archive's file by one without a name in the store, under the
// limits of a layer.
func (a *archive) inflate(o Options) error {
	var r io.Reader
	in := &countingReader{r: a.f}
	switch compressed(a.f, 0) {
	case "":
		return nil
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	}
	out, err := nameless(filepath.Join(o.Store.Dir(), "tmp"))
	if err != nil {
		return fmt.Errorf("make a temporary file in the store: %w", err)
	}
	if err := inflateTo(out, r, in, o.Limits.WithDefaults()); err != nil {
		return errors.Join(fmt.Errorf("decompress: %w", err), out.Close())
	}
	err = a.f.Close()
	a.f = out
	return err
}

// nameless makes a file that is gone with its descriptor.
func nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir), nil
	}
	// Not every file system has O_TMPFILE. A sweep removes such a file if we are killed just here.
	f, err := os.CreateTemp(dir, ".")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func inflateTo(out *os.File, r io.Reader, in *countingReader, lim layer.Limits) error {
	var total int64
	for {
		n, err := io.CopyN(out, r, 1<<20)
		total += n
		if total > lim.Bytes {
			return &layer.LimitError{What: "bytes", Max: lim.Bytes}
		}
		if total > lim.RatioFrom && total/lim.Ratio > in.n {
			return &layer.LimitError{What: "ratio", Max: lim.Ratio}
		}
		if err == io.EOF {
			_, err = out.Seek(0, io.SeekStart)
			return err
		}
		if err != nil {
			return err
		}
	}
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// index finds the files of the tar. Their number is bounded by what an image can have.
func (a *archive) index() error {
	const most = 100_000
	r := tar.NewReader(a.f)
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n > most {
			return fmt.Errorf("more than %d entries", most)
		}
		name := inArchive(h.Name)
		if len(name) >= unix.PathMax || len(h.Linkname) >= unix.PathMax {
			continue // what an image is made of has short names
		}
		if _, again := a.files[name]; again && (name == "manifest.json" || name == "index.json") {
			// Some read the first, some the last.
			return fmt.Errorf("%s occurs twice", name)
		}
		switch {
		case h.Typeflag == tar.TypeSymlink:
			a.links[name] = inArchive(path.Join(path.Dir(name), h.Linkname))
		case h.Typeflag == tar.TypeLink:
			a.links[name] = inArchive(h.Linkname)
		case h.Typeflag == tar.TypeReg && h.PAXRecords["GNU.sparse.major"] == "":
			off, err := a.f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.files[name] = span{off, h.Size}
		}
	}
}

func inArchive(name string) string { return path.Clean(strings.TrimPrefix(name, "/")) }

// open opens a file of the archive.
func (a *archive) open(name string) (*io.SectionReader, error) {
	at := inArchive(name)
	for range 10 {
		if s, ok := a.files[at]; ok {
			return io.NewSectionReader(a.f, s.off, s.size), nil
		}
		next, ok := a.links[at]
		if !ok {
			break
		}
		at = next
	}
	return nil, fmt.Errorf("open %s: %w", oci.Short(name), os.ErrNotExist)
}

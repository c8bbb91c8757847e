package fetch

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"cove/fetch/layer"
	"cove/fetch/layer/unzip"
	"cove/fetch/oci"

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

func openTar(ctx context.Context, name string, o Options) (*archive, error) {
	f, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	a := &archive{f: f, files: map[string]span{}, links: map[string]string{}}
	if err := a.inflate(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), a.f.Close())
	}
	if err := a.index(ctx); err != nil {
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
func (a *archive) inflate(ctx context.Context, o Options) error {
	if compressed(a.f, 0) == "" {
		return nil
	}
	dir := filepath.Join(o.Store.Dir(), "tmp")
	in := &countingReader{r: &ctxReader{ctx, a.f}}
	r, end, err := unzip.New(in, func() (*os.File, error) { return nameless(dir) })
	if err != nil {
		return err
	}
	defer end()
	out, err := nameless(dir)
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
		if total > lim.RatioFrom && total/lim.Ratio > in.n.Load() {
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
	n atomic.Int64 // a decoder reads on a goroutine of its own
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// index finds the files of the tar. Their number is bounded by what an image can have, and so are their names, which are
// kept: docker's longest are 138 bytes, and a link to one has five more.
func (a *archive) index(ctx context.Context) error {
	const most, longest = 100_000, 255
	r := tar.NewReader(a.f)
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
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
		if len(name) > longest || len(h.Linkname) > longest {
			continue
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

package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"cove/fetch/layer"
	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// An OCI layout may come from anybody, as a directory or in a tar. The library would read its
// documents without a limit, wait on a fifo in a blob's place, and unpack an archive's tar into
// a temporary directory: reading it here is less.

const maxIndex = 8 << 20

// layout is the source of oci: and oci-archive:.
type layout struct {
	open  func(name string) (io.ReadCloser, int64, error) // a file of the layout, and its size
	done  func() error
	most  int64          // bytes of a document
	first oci.Descriptor // what the reference names
}

// openLayout opens a layout that is a directory.
func openLayout(t *target, o Options) (source, error) {
	dir, err := unix.Open(t.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: t.Path, Err: err}
	}
	l := &layout{
		open: func(name string) (io.ReadCloser, int64, error) {
			f, err := openIn(dir, name)
			if err != nil {
				return nil, 0, err
			}
			st, err := f.Stat()
			if err != nil {
				f.Close()
				return nil, 0, err
			}
			return f, st.Size(), nil
		},
		done: func() error { return unix.Close(dir) },
		most: o.maxManifest(),
	}
	return l, l.begin(t)
}

// openIn opens a regular file below dir. The links in a layout are its maker's: they may lead
// about in it, and not out of it.
func openIn(dir int, name string) (*os.File, error) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(dir, name, how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err == unix.EXDEV {
			err = errors.New("a link that leads out of the layout")
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return regular(fd, name)
	}
}

// openRegular opens a regular file by path, and waits for no fifo.
func openRegular(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return regular(fd, path)
}

func regular(fd int, name string) (*os.File, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openArchive opens a layout in a tar.
func openArchive(ctx context.Context, t *target, o Options) (source, error) {
	a, err := openTar(ctx, t.Path, o)
	if err != nil {
		return nil, err
	}
	l := &layout{
		open: func(name string) (io.ReadCloser, int64, error) {
			r, err := a.open(name)
			if err != nil {
				return nil, 0, err
			}
			return io.NopCloser(r), r.Size(), nil
		},
		done: a.f.Close,
		most: o.maxManifest(),
	}
	return l, l.begin(t)
}

// begin reads the index and finds what the reference names.
func (l *layout) begin(t *target) error {
	if err := l.find(t.Tag); err != nil {
		return errors.Join(fmt.Errorf("read %s: %w", t.Path, err), l.done())
	}
	return nil
}

func (l *layout) find(tag string) error {
	data, err := l.small("index.json", maxIndex)
	if err != nil {
		return err
	}
	var index oci.Index
	if err := oci.Decode(data, &index); err != nil {
		return jsonError("index.json", err)
	}
	var found []oci.Descriptor
	for _, m := range index.Manifests {
		if tag == "" || m.Annotations[oci.AnnotationRefName] == tag || string(m.Digest) == strings.TrimPrefix(tag, "@") {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 0 && tag == "":
		return errors.New("index.json names no image")
	case len(found) == 0:
		return fmt.Errorf("no image is tagged %q there", tag)
	case len(found) > 1 && tag == "":
		return fmt.Errorf("%d images are there: say which with a tag", len(found))
	}
	l.first = found[0]
	if err := checkDocumentType(l.first.MediaType); err != nil {
		return fmt.Errorf("index.json: the image is %w", err)
	}
	return checkDescriptor(l.first, 1<<50)
}

// small reads a file that is at most that large.
func (l *layout) small(name string, most int64) ([]byte, error) {
	r, size, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > most {
		return nil, fmt.Errorf("%s: %w", name, &layer.LimitError{What: "manifest", Max: most})
	}
	return io.ReadAll(io.LimitReader(r, most))
}

func blobName(d oci.Digest) string { return "blobs/" + d.Algorithm() + "/" + d.Encoded() }

func (l *layout) manifest(_ context.Context, d oci.Digest) ([]byte, string, error) {
	mediaType := ""
	if d == "" {
		d, mediaType = l.first.Digest, l.first.MediaType
	}
	if err := d.Check(); err != nil {
		return nil, "", err
	}
	data, err := l.small(blobName(d), l.most)
	if err != nil {
		return nil, "", err
	}
	if d == l.first.Digest {
		err = verify("manifest", data, l.first)
	}
	return data, mediaType, err
}

func (l *layout) blob(_ context.Context, d oci.Descriptor, _ int64) (io.ReadCloser, int64, error) {
	r, size, err := l.open(blobName(d.Digest))
	if err != nil {
		return nil, 0, err
	}
	if size != d.Size {
		r.Close()
		return nil, 0, &SizeError{"blob " + string(d.Digest), d.Size, size}
	}
	return r, 0, nil
}

func (l *layout) other(oci.Digest) bool { return false }

func (l *layout) close() error { return l.done() }

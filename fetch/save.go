package fetch

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cove/fetch/image"
	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// SaveTarget is where an image is saved.
type SaveTarget struct {
	Format image.Transport // ViaOCIArchive or ViaDockerArchive
	Path   string          // a file, written whole or not at all; "" is Out
	Out    io.Writer
	Tag    string // what it is called in the archive; "" is its name here
}

// Save writes the image that ref means in the store into an archive. When ctx ends, or anything fails, there is no file.
func Save(ctx context.Context, ref string, to SaveTarget, o ShareOptions) (*Shared, error) {
	s, err := newSharer(ref, o)
	if err != nil {
		return nil, fmt.Errorf("save: %w", err)
	}
	out, err := s.save(ctx, to)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("save %q: %w", ref, err), s.close())
	}
	return out, s.close()
}

func (s *sharer) save(ctx context.Context, to SaveTarget) (*Shared, error) {
	if to.Tag == "" && len(s.img.Refs) > 0 {
		to.Tag = s.img.Refs[0]
	}
	c := s.o.Compression
	if to.Format == image.ViaDockerArchive {
		c = Uncompressed // what is in one is named by its diffID
	}
	s.event(Event{Kind: Resolved, Ref: to.name(), Digest: s.img.Record.Manifest, Layers: len(s.doc.Layers)})
	parcels, err := s.all(ctx, func(ctx context.Context, n int) (*parcel, error) {
		p, err := s.pack(ctx, n, c)
		if err != nil {
			return nil, inStore(err, s.o.Store.Dir())
		}
		d := p.desc
		s.event(Event{Kind: LayerStart, Layer: n, Digest: d.Digest, Total: d.Size})
		s.event(Event{Kind: LayerDone, Layer: n, Digest: d.Digest, Bytes: d.Size, Total: d.Size})
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	defer closeAll(parcels)
	manifest, config, _, err := s.manifest(parcels)
	if err != nil {
		return nil, err
	}
	out := &Shared{Ref: to.name(), ID: oci.FromBytes(config), Platform: s.img.Record.Platform}
	out.count(s.img.Record.Layers, parcels)
	write := func(w io.Writer) error {
		a := &archiveWriter{ctx: ctx, w: tar.NewWriter(w), has: map[string]bool{}}
		if to.Format == image.ViaDockerArchive {
			return a.docker(to.Tag, config, parcels)
		}
		out.Digest = oci.FromBytes(manifest)
		return a.oci(to.Tag, manifest, config, parcels)
	}
	if to.Path == "" {
		buffered := bufio.NewWriterSize(to.Out, 1<<20)
		err = errors.Join(write(buffered), buffered.Flush())
	} else {
		err = replaceFile(to.Path, write)
	}
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", to.name(), err)
	}
	s.event(Event{Kind: Finished, Ref: out.Ref, Digest: out.Digest})
	return out, nil
}

// name is the target as a reference.
func (t SaveTarget) name() string {
	if t.Path == "" {
		return string(t.Format)
	}
	return string(t.Format) + ":" + t.Path
}

// archiveWriter writes an image's files into a tar, always in the same way.
type archiveWriter struct {
	ctx context.Context
	w   *tar.Writer
	has map[string]bool
}

func (a *archiveWriter) file(name string, size int64, r io.Reader) error {
	if a.has[name] {
		return nil
	}
	a.has[name] = true
	if err := a.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.Copy(a.w, &ctxReader{a.ctx, r})
	return err
}

func (a *archiveWriter) data(name string, data []byte) error {
	return a.file(name, int64(len(data)), bytes.NewReader(data))
}

func (a *archiveWriter) layer(name string, p *parcel) error {
	return a.file(name, p.desc.Size, io.NewSectionReader(p.file, 0, p.desc.Size))
}

// oci writes an OCI layout (image-spec image-layout.md).
func (a *archiveWriter) oci(tag string, manifest, config []byte, parcels []*parcel) error {
	d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(manifest), Size: int64(len(manifest))}
	if doc, err := parseDocument(manifest, ""); err == nil && doc.MediaType != "" {
		d.MediaType = doc.MediaType
	}
	if tag != "" {
		d.Annotations = map[string]string{oci.AnnotationRefName: tag}
	}
	index, err := json.Marshal(oci.Index{Versioned: oci.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{d}})
	if err != nil {
		return err
	}
	if err := a.data("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	// skopeo 1.9 gives folders that have no entry to root, and fails where it may not.
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := a.w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	for _, p := range parcels {
		if err := a.layer(blobName(p.desc.Digest), p); err != nil {
			return err
		}
	}
	for _, doc := range [][]byte{config, manifest} {
		if err := a.data(blobName(oci.FromBytes(doc)), doc); err != nil {
			return err
		}
	}
	if err := a.data("index.json", index); err != nil {
		return err
	}
	return a.w.Close()
}

// docker writes what `docker save` does.
func (a *archiveWriter) docker(tag string, config []byte, parcels []*parcel) error {
	saved := savedImage{Config: oci.FromBytes(config).Encoded() + ".json", Layers: []string{}}
	if full := fullTag(tag); full != "" && !strings.Contains(full, "@") {
		saved.RepoTags = []string{full}
	}
	for _, p := range parcels {
		name := p.diffID.Encoded() + ".tar"
		saved.Layers = append(saved.Layers, name)
		if err := a.layer(name, p); err != nil {
			return err
		}
	}
	if err := a.data(saved.Config, config); err != nil {
		return err
	}
	manifest, err := json.Marshal([]savedImage{saved})
	if err != nil {
		return err
	}
	if err := a.data("manifest.json", manifest); err != nil {
		return err
	}
	return a.w.Close()
}

// replaceFile writes the file path whole: until it is, what was there stays, and nothing is left of an attempt. What
// is no regular file, a pipe or a device, is written to as it is.
func replaceFile(path string, write func(io.Writer) error) error {
	st, err := os.Stat(path)
	if err == nil && st.IsDir() {
		return &os.PathError{Op: "open", Path: path, Err: unix.EISDIR}
	}
	if err == nil && !st.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(buffered(f, write), f.Close())
	}
	if err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil { // a link stays one
			return err
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".cove-*")
	if err != nil {
		return err
	}
	err = buffered(f, write)
	if err == nil {
		err = f.Chmod(newFileMode(st))
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func buffered(f *os.File, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(f, 1<<20)
	return errors.Join(write(w), w.Flush())
}

// newFileMode is that of the file that was there, or what the umask leaves of 0666.
func newFileMode(was os.FileInfo) os.FileMode {
	if was != nil {
		return was.Mode().Perm()
	}
	mask := unix.Umask(0)
	unix.Umask(mask)
	return 0o666 &^ os.FileMode(mask)
}

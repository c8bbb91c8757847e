package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// A shape is one of the images that are pulled.
type shape struct {
	name, what string
	layers     int
	make       func(b *bench, tarball string) error // the file system it is cut from
	window     int                                  // packed with zstd, which not every peer here takes, and this window
	of         []string                             // made of the layers of these, up to the number
	memoryOnly bool                                 // only what a pull of it takes of memory is of interest
	startOnly  bool                                 // only started, not pulled
}

var shapes = []shape{
	{name: "one", what: "200 MB, 1 layer", layers: 1, make: (*bench).debian},
	{name: "twenty", what: "200 MB, 20 layers", layers: 20, make: (*bench).debian},
	{name: "many", what: "50 000 small files", layers: 1, make: (*bench).smallFiles},
	{name: "deep", what: "150 layers", layers: 150, make: (*bench).smallFiles, memoryOnly: true},
	{name: "zstd8", what: "6 layers, zstd windows of 8 MiB", layers: 6, make: (*bench).farMatches, window: 8 << 20, memoryOnly: true},
	{name: "zstd128", what: "6 layers, zstd windows of 128 MiB", layers: 6, make: (*bench).farMatches, window: 128 << 20, memoryOnly: true},
	{name: "150", what: "150 layers", layers: 150, of: []string{"one", "deep"}, startOnly: true},
	{name: "files", what: "50 000 files more", layers: 2, of: []string{"one", "many"}, startOnly: true},
}

func (b *bench) oci(name string) string { return filepath.Join(b.dir, "oci-"+name) }

// makeImages makes the file systems and lays them out as OCI images, without root, once.
func (b *bench) makeImages() error {
	for _, s := range shapes {
		if s.window != 0 && !b.heavy {
			continue
		}
		if _, err := os.Stat(filepath.Join(b.oci(s.name), "index.json")); err == nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: making image %s (once)\n", s.name)
		tarball := filepath.Join(b.dir, "root.tar")
		lay := b.compose
		if s.make != nil {
			if err := s.make(b, tarball); err != nil {
				return err
			}
			lay = func(s shape) error { return b.layOut(tarball, s) }
		}
		if err := lay(s); err != nil {
			return fmt.Errorf("image %s: %w", s.name, err)
		}
	}
	return os.RemoveAll(filepath.Join(b.dir, "root.tar"))
}

// debian is a Debian of 200 MB with git.
func (b *bench) debian(tarball string) error {
	kept := filepath.Join(b.dir, "debian.tar")
	if _, err := os.Stat(kept); err != nil {
		fmt.Fprintln(os.Stderr, "bench: making a Debian with mmdebstrap (once)")
		part := kept + ".part.tar"
		if err := b.do("mmdebstrap", "--mode=unshare", "--variant=minbase", "--include=git", "--skip=check/qemu", "bookworm", part, b.mirror); err != nil {
			return err
		}
		if err := os.Rename(part, kept); err != nil {
			return err
		}
	}
	if err := os.Remove(tarball); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Link(kept, tarball)
}

// layOut writes the tar as an OCI layout with that many layers of about one size.
func (b *bench) layOut(root string, s shape) error {
	dir := b.oci(s.name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	in, err := os.Open(root)
	if err != nil {
		return err
	}
	defer in.Close()

	image, manifest := newImage()
	entries := tar.NewReader(in)
	for more := true; more; {
		var desc v1.Descriptor
		var diffID digest.Digest
		desc, diffID, more, err = writeLayer(blobs, entries, info.Size()/int64(s.layers), s.window)
		if err != nil {
			return err
		}
		manifest.Layers = append(manifest.Layers, desc)
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, diffID)
		image.History = append(image.History, v1.History{CreatedBy: "bench"})
	}
	return writeIndex(dir, manifest, image)
}

// compose makes an image of the layers of others, of which it has the blobs by hard links.
func (b *bench) compose(s shape) error {
	dir := b.oci(s.name)
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	image, manifest := newImage()
	for _, name := range s.of {
		theirs, config, err := b.read(name)
		if err != nil {
			return err
		}
		for i, l := range theirs.Layers {
			if len(manifest.Layers) == s.layers {
				break
			}
			if err := os.Link(b.blob(name, l.Digest), filepath.Join(blobs, l.Digest.Encoded())); err != nil {
				return err
			}
			manifest.Layers = append(manifest.Layers, l)
			image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, config.RootFS.DiffIDs[i])
			image.History = append(image.History, v1.History{CreatedBy: "bench"})
		}
	}
	if len(manifest.Layers) != s.layers {
		return fmt.Errorf("there are %d layers to make %d of", len(manifest.Layers), s.layers)
	}
	return writeIndex(dir, manifest, image)
}

func newImage() (v1.Image, v1.Manifest) {
	image := v1.Image{Config: v1.ImageConfig{Cmd: []string{"/bin/bash"}}, RootFS: v1.RootFS{Type: "layers"}}
	image.Platform = v1.Platform{OS: "linux", Architecture: "amd64"}
	return image, v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
}

// writeIndex completes a layout whose layers are there.
func writeIndex(dir string, manifest v1.Manifest, image v1.Image) (err error) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if manifest.Config, err = writeJSON(blobs, v1.MediaTypeImageConfig, image); err != nil {
		return err
	}
	desc, err := writeJSON(blobs, v1.MediaTypeImageManifest, manifest)
	if err != nil {
		return err
	}
	desc.Annotations = map[string]string{v1.AnnotationRefName: "bench"}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	index, err := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []v1.Descriptor{desc}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644)
}

func (b *bench) blob(name string, d digest.Digest) string {
	return filepath.Join(b.oci(name), "blobs", "sha256", d.Encoded())
}

// read returns what an image that has been laid out says of itself.
func (b *bench) read(name string) (manifest v1.Manifest, config v1.Image, err error) {
	var index v1.Index
	if err = readJSON(filepath.Join(b.oci(name), "index.json"), &index); err != nil {
		return manifest, config, err
	}
	if err = readJSON(b.blob(name, index.Manifests[0].Digest), &manifest); err != nil {
		return manifest, config, err
	}
	err = readJSON(b.blob(name, manifest.Config.Digest), &config)
	return manifest, config, err
}

// layers are the blobs of an image's layers.
func (b *bench) layers(name string) ([]string, error) {
	manifest, _, err := b.read(name)
	var out []string
	for _, l := range manifest.Layers {
		out = append(out, b.blob(name, l.Digest))
	}
	return out, err
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// writeLayer copies entries into a gzip layer until it is that large; more says that some are left.
func writeLayer(blobs string, entries *tar.Reader, size int64, window int) (desc v1.Descriptor, diffID digest.Digest, more bool, err error) {
	part := filepath.Join(blobs, "part")
	f, err := os.Create(part)
	if err != nil {
		return
	}
	defer f.Close()
	packed, plain := sha256.New(), sha256.New()
	zip, mediaType, err := compressor(io.MultiWriter(f, packed), window)
	if err != nil {
		return
	}
	count := &counter{}
	out := tar.NewWriter(io.MultiWriter(zip, plain, count))
	more = true
	for count.n < size {
		var h *tar.Header
		if h, err = entries.Next(); err == io.EOF {
			more, err = false, nil
			break
		} else if err != nil {
			return
		}
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
			continue // a device cannot be made without root
		}
		if err = out.WriteHeader(h); err != nil {
			return
		}
		if _, err = io.Copy(out, entries); err != nil {
			return
		}
	}
	if err = out.Close(); err != nil {
		return
	}
	if err = zip.Close(); err != nil {
		return
	}
	info, err := f.Stat()
	if err != nil {
		return
	}
	sum := digest.NewDigest(digest.SHA256, packed)
	desc = v1.Descriptor{MediaType: mediaType, Digest: sum, Size: info.Size()}
	return desc, digest.NewDigest(digest.SHA256, plain), more, os.Rename(part, filepath.Join(blobs, sum.Encoded()))
}

// compressor is gzip, as most images have it, or zstd with that window.
func compressor(w io.Writer, window int) (io.WriteCloser, string, error) {
	if window == 0 {
		return gzip.NewWriter(w), v1.MediaTypeImageLayerGzip, nil
	}
	z, err := zstd.NewWriter(w, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	return z, v1.MediaTypeImageLayerZstd, err
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func writeJSON(blobs, mediaType string, v any) (v1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	sum := digest.FromBytes(data)
	return v1.Descriptor{MediaType: mediaType, Digest: sum, Size: int64(len(data))}, os.WriteFile(filepath.Join(blobs, sum.Encoded()), data, 0o644)
}

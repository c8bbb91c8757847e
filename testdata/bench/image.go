package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

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
	memoryOnly bool                                 // only what a pull of it takes of memory is of interest
}

var shapes = []shape{
	{name: "one", what: "200 MB, 1 layer", layers: 1, make: (*bench).debian},
	{name: "twenty", what: "200 MB, 20 layers", layers: 20, make: (*bench).debian},
	{name: "many", what: "50 000 small files", layers: 1, make: (*bench).smallFiles},
	{name: "deep", what: "150 layers", layers: 150, make: (*bench).smallFiles, memoryOnly: true},
	{name: "zstd8", what: "6 layers, zstd windows of 8 MiB", layers: 6, make: (*bench).farMatches, window: 8 << 20, memoryOnly: true},
	{name: "zstd128", what: "6 layers, zstd windows of 128 MiB", layers: 6, make: (*bench).farMatches, window: 128 << 20, memoryOnly: true},
}

func (b *bench) oci(name string) string { return filepath.Join(b.dir, "oci-"+name) }

// makeImages makes the file systems and lays them out as OCI images, without root, once.
func (b *bench) makeImages() error {
	for _, s := range shapes {
		if _, err := os.Stat(filepath.Join(b.oci(s.name), "index.json")); err == nil {
			continue
		}
		tarball := filepath.Join(b.dir, "root.tar")
		if err := s.make(b, tarball); err != nil {
			return err
		}
		if err := b.layOut(tarball, s); err != nil {
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

	image := v1.Image{Config: v1.ImageConfig{Cmd: []string{"/bin/bash"}}, RootFS: v1.RootFS{Type: "layers"}}
	image.Platform = v1.Platform{OS: "linux", Architecture: "amd64"}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
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

// layers are the blobs of an image's layers.
func (b *bench) layers(name string) ([]string, error) {
	dir := b.oci(name)
	var index v1.Index
	if err := readJSON(filepath.Join(dir, "index.json"), &index); err != nil {
		return nil, err
	}
	var manifest v1.Manifest
	if err := readJSON(filepath.Join(dir, "blobs", "sha256", index.Manifests[0].Digest.Encoded()), &manifest); err != nil {
		return nil, err
	}
	var out []string
	for _, l := range manifest.Layers {
		out = append(out, filepath.Join(dir, "blobs", "sha256", l.Digest.Encoded()))
	}
	return out, nil
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

// startRegistry runs Debian's docker-registry on a free port of the loopback.
func (b *bench) startRegistry() (stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.registry = l.Addr().String()
	l.Close()
	config := filepath.Join(b.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n",
		filepath.Join(b.dir, "registry"), b.registry)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	for range 100 {
		if c, err := net.Dial("tcp", b.registry); err == nil {
			c.Close()
			return stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("docker-registry does not answer on %s", b.registry)
}

func (b *bench) ref(name string) string { return b.registry + "/bench/" + name + ":latest" }

func (b *bench) push() error {
	for _, s := range shapes {
		if err := b.do("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
			"oci:"+b.oci(s.name)+":bench", "docker://"+b.ref(s.name)); err != nil {
			return err
		}
	}
	return nil
}

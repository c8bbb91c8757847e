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

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// The images: the same 200 MB of Debian as one layer, and as twenty.
var images = map[string]int{"one": 1, "twenty": 20}

// makeImages makes the Debian (once) and lays it out as OCI images, without root.
func (b *bench) makeImages(mirror string) error {
	root := filepath.Join(b.dir, "root.tar")
	if _, err := os.Stat(root); err != nil {
		fmt.Fprintln(os.Stderr, "bench: making a Debian with mmdebstrap (once)")
		part := root + ".part.tar"
		if err := b.do("mmdebstrap", "--mode=unshare", "--variant=minbase", "--include=git", "--skip=check/qemu", "bookworm", part, mirror); err != nil {
			return err
		}
		if err := os.Rename(part, root); err != nil {
			return err
		}
	}
	for name, layers := range images {
		if err := b.layOut(root, name, layers); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return nil
}

// layOut writes the tar as an OCI layout with that many layers of about one size, once.
func (b *bench) layOut(root, name string, layers int) error {
	dir := filepath.Join(b.dir, "oci-"+name)
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err == nil {
		return nil
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
		desc, diffID, more, err = writeLayer(blobs, entries, info.Size()/int64(layers))
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

// writeLayer copies entries into a gzip layer until it is that large; more says that some are left.
func writeLayer(blobs string, entries *tar.Reader, size int64) (desc v1.Descriptor, diffID digest.Digest, more bool, err error) {
	part := filepath.Join(blobs, "part")
	f, err := os.Create(part)
	if err != nil {
		return
	}
	defer f.Close()
	packed, plain := sha256.New(), sha256.New()
	zip := gzip.NewWriter(io.MultiWriter(f, packed))
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
	desc = v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: sum, Size: info.Size()}
	return desc, digest.NewDigest(digest.SHA256, plain), more, os.Rename(part, filepath.Join(blobs, sum.Encoded()))
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
	for name := range images {
		if err := b.do("skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
			"oci:"+filepath.Join(b.dir, "oci-"+name)+":bench", "docker://"+b.ref(name)); err != nil {
			return err
		}
	}
	return nil
}

package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Compression is how a layer is sent.
type Compression string

const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
	None Compression = ""
)

// Layer is a tar and how it is sent.
type Layer struct {
	Tar         []byte
	Compression Compression
}

// Entry is one tar entry; its Size is that of Body.
type Entry struct {
	tar.Header
	Body string
}

// File is a regular file of mode 0644.
func File(name, body string) Entry {
	return Entry{tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg}, body}
}

// Program is a regular file of mode 0755.
func Program(name, body string) Entry {
	return Entry{tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg}, body}
}

// Dir is a directory of mode 0755.
func Dir(name string) Entry {
	return Entry{tar.Header{Name: name + "/", Mode: 0o755, Typeflag: tar.TypeDir}, ""}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{tar.Header{Name: name, Linkname: target, Mode: 0o777, Typeflag: tar.TypeSymlink}, ""}
}

// Link is a hard link.
func Link(name, target string) Entry {
	return Entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}, ""}
}

// Owned gives e to uid and gid.
func Owned(e Entry, uid, gid int) Entry {
	e.Uid, e.Gid = uid, gid
	return e
}

// Tar packs entries. It panics on one that cannot be packed: that is a mistake in the test.
func Tar(entries ...Entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.Body))
		must(w.WriteHeader(&h))
		_, err := w.Write([]byte(e.Body))
		must(err)
	}
	must(w.Close())
	return buf.Bytes()
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("registrytest: %v", err))
	}
}

// Image is what Add serves. The zero Platform is this machine's.
type Image struct {
	Layers   []Layer
	Config   v1.ImageConfig
	Platform v1.Platform
	Docker   bool // docker's media types, not OCI's
	// Algorithm names everything, diffIDs too; "" is sha256.
	Algorithm digest.Algorithm
	// Mangle, when set, may change the manifest and the config before they are named and served.
	Mangle func(m *v1.Manifest, c *v1.Image)
}

// Simple is an image of one gzip layer.
func Simple(entries ...Entry) Image {
	return Image{Layers: []Layer{{Tar(entries...), Gzip}}}
}

// Blobs are an image's pieces by digest.
type Blobs map[digest.Digest][]byte

// Put adds one, named by its sha256, and describes it.
func (b Blobs) Put(mediaType string, data []byte) v1.Descriptor {
	return b.PutAs(digest.SHA256, mediaType, data)
}

// PutAs adds one, named by that algorithm, and describes it.
func (b Blobs) PutAs(a digest.Algorithm, mediaType string, data []byte) v1.Descriptor {
	d := a.FromBytes(data)
	b[d] = data
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// Build makes the image's blobs and returns its manifest's descriptor, platform set.
func (i Image) Build(b Blobs) v1.Descriptor {
	if i.Platform.Architecture == "" {
		i.Platform = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	if i.Algorithm == "" {
		i.Algorithm = digest.SHA256
	}
	c := v1.Image{Platform: i.Platform, Config: i.Config, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: i.mediaType("manifest"), Layers: []v1.Descriptor{}}
	for _, l := range i.Layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, i.Algorithm.FromBytes(l.Tar))
		m.Layers = append(m.Layers, b.PutAs(i.Algorithm, i.layerType(l.Compression), Compress(l.Tar, l.Compression)))
	}
	if i.Mangle != nil {
		i.Mangle(&m, &c)
	}
	data, err := json.Marshal(c)
	must(err)
	if m.Config.Digest == "" {
		m.Config = b.PutAs(i.Algorithm, i.mediaType("config"), data)
	}
	data, err = json.Marshal(m)
	must(err)
	d := b.PutAs(i.Algorithm, m.MediaType, data)
	d.Platform = &i.Platform
	return d
}

// Index makes an index of manifests.
func Index(b Blobs, manifests ...v1.Descriptor) v1.Descriptor {
	data, err := json.Marshal(v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: manifests})
	must(err)
	return b.Put(v1.MediaTypeImageIndex, data)
}

func (i Image) mediaType(what string) string {
	switch {
	case i.Docker && what == "manifest":
		return "application/vnd.docker.distribution.manifest.v2+json"
	case i.Docker:
		return "application/vnd.docker.container.image.v1+json"
	case what == "manifest":
		return v1.MediaTypeImageManifest
	}
	return v1.MediaTypeImageConfig
}

func (i Image) layerType(c Compression) string {
	base, sep := v1.MediaTypeImageLayer, "+"
	if i.Docker {
		base, sep = "application/vnd.docker.image.rootfs.diff.tar", "."
	}
	if c == None {
		return base
	}
	return base + sep + string(c)
}

// Compress compresses data.
func Compress(data []byte, c Compression) []byte {
	var buf bytes.Buffer
	switch c {
	case Gzip:
		w := gzip.NewWriter(&buf)
		_, err := w.Write(data)
		must(err)
		must(w.Close())
	case Zstd:
		w, err := zstd.NewWriter(&buf)
		must(err)
		_, err = w.Write(data)
		must(err)
		must(w.Close())
	default:
		return data
	}
	return buf.Bytes()
}

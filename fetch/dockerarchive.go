package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"cove/fetch/oci"

	"go.podman.io/image/v5/docker/reference"
)

// dockerArchive is the source of docker-archive:, which has no manifest of its own: one is made
// of what manifest.json says, of docker's schema 2.
type dockerArchive struct {
	a     *archive
	data  []byte // the manifest
	blobs map[oci.Digest]func() (io.Reader, error)
}

// savedImage is an element of manifest.json.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func openDockerArchive(ctx context.Context, t *target, o Options) (source, error) {
	a, err := openTar(ctx, t.Path, o)
	if err != nil {
		return nil, err
	}
	d := &dockerArchive{a: a, blobs: map[oci.Digest]func() (io.Reader, error){}}
	if err := d.read(ctx, t.Tag); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", t.Path, err), d.close())
	}
	return d, nil
}

func (d *dockerArchive) read(ctx context.Context, tag string) error {
	data, err := d.small("manifest.json", maxManifest)
	if err != nil {
		return err
	}
	var images []savedImage
	if err := oci.Decode(data, &images); err != nil {
		return jsonError("manifest.json", err)
	}
	img, err := chooseSaved(images, tag)
	if err != nil {
		return err
	}
	if len(img.Layers) > maxLayers {
		return fmt.Errorf("%d layers, and overlayfs stacks at most %d", len(img.Layers), maxLayers)
	}
	text, err := d.small(img.Config, maxConfig)
	if err != nil {
		return err
	}
	config, err := parseConfig(text, len(img.Layers))
	if err != nil {
		return err
	}
	m := oci.Manifest{Versioned: oci.Versioned{SchemaVersion: 2}, MediaType: dockerManifest,
		Config: oci.Descriptor{MediaType: dockerConfig, Digest: oci.FromBytes(text), Size: int64(len(text))}, Layers: []oci.Descriptor{}}
	d.blobs[m.Config.Digest] = func() (io.Reader, error) { return bytes.NewReader(text), nil }
	for n, name := range img.Layers {
		l, err := d.layer(ctx, name, config.RootFS.DiffIDs[n])
		if err != nil {
			return fmt.Errorf("layer %d: %w", n+1, err)
		}
		m.Layers = append(m.Layers, l)
	}
	d.data, err = json.Marshal(m)
	return err
}

// layer describes a layer. As a rule it is not compressed, and its digest is its diffID.
func (d *dockerArchive) layer(ctx context.Context, name string, diffID oci.Digest) (oci.Descriptor, error) {
	r, err := d.a.open(name)
	if err != nil {
		return oci.Descriptor{}, err
	}
	l := oci.Descriptor{MediaType: "application/vnd.docker.image.rootfs.diff.tar", Digest: diffID, Size: r.Size()}
	if c := compressed(r, 0); c != "" {
		l.MediaType += "." + c
		if l.Digest, err = oci.FromReader(&ctxReader{ctx, r}, diffID); err != nil {
			return l, err
		}
	}
	d.blobs[l.Digest] = func() (io.Reader, error) { return d.a.open(name) }
	return l, nil
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// chooseSaved finds the image with that tag: "", when there is only one, or "@N", the Nth from 0.
func chooseSaved(images []savedImage, tag string) (savedImage, error) {
	if number, ok := strings.CutPrefix(tag, "@"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= len(images) {
			return savedImage{}, fmt.Errorf("no image %q: %d are there, counted from 0", tag, len(images))
		}
		return images[n], nil
	}
	if tag == "" {
		if len(images) != 1 {
			return savedImage{}, fmt.Errorf("%d images are there: say which with a tag", len(images))
		}
		return images[0], nil
	}
	want := fullTag(tag)
	for _, i := range images {
		if slices.ContainsFunc(i.RepoTags, func(t string) bool { return t == tag || want != "" && fullTag(t) == want }) {
			return i, nil
		}
	}
	return savedImage{}, fmt.Errorf("no image is tagged %q there", tag)
}

func fullTag(tag string) string {
	named, err := reference.ParseNormalizedNamed(tag)
	if err != nil {
		return ""
	}
	return reference.TagNameOnly(named).String()
}

func (d *dockerArchive) small(name string, most int64) ([]byte, error) {
	r, err := d.a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > most {
		return nil, fmt.Errorf("%s: %d bytes: at most %d are read", oci.Short(name), r.Size(), most)
	}
	return io.ReadAll(r)
}

func (d *dockerArchive) manifest(_ context.Context, want oci.Digest) ([]byte, string, error) {
	if want != "" {
		return nil, "", errors.New("a docker archive holds no index")
	}
	return d.data, dockerManifest, nil
}

func (d *dockerArchive) blob(_ context.Context, want oci.Descriptor, _ int64) (io.ReadCloser, int64, error) {
	open, ok := d.blobs[want.Digest]
	if !ok {
		return nil, 0, fmt.Errorf("no blob %s in the archive", want.Digest)
	}
	r, err := open()
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(r), 0, nil
}

func (d *dockerArchive) other(oci.Digest) bool { return false }

func (d *dockerArchive) close() error { return d.a.f.Close() }

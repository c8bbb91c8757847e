package fetch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cove/fetch/oci"
)

const (
	maxManifest = 4 << 20
	maxConfig   = 4 << 20 // podman's too
	maxLayers   = 500     // overlayfs itself stacks no more (OVL_MAX_STACK)

	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+"
)

// parseDocument reads a manifest or an index and refuses what could be read as both: whoever
// checked it as one must not have it used as the other (CVE-2021-41190).
func parseDocument(data []byte, mediaType string) (*oci.Document, error) {
	var d oci.Document
	var keys map[string]json.RawMessage
	err := oci.Decode(data, &d)
	if err == nil {
		err = json.Unmarshal(data, &keys)
	}
	if err != nil {
		return nil, jsonError("manifest", err)
	}
	has := func(key string) bool { _, ok := keys[key]; return ok }
	if d.SchemaVersion == 1 || d.FSLayers != nil || strings.HasPrefix(mediaType, dockerSchema1) || strings.HasPrefix(d.MediaType, dockerSchema1) {
		return nil, errors.New("docker schema 1 image: the format names no digests for what it unpacks to, and is refused; push it again with a docker of this decade")
	}
	if err := checkDocumentType(d.MediaType); err != nil {
		return nil, fmt.Errorf("manifest %w", err)
	}
	if d.SchemaVersion != 2 {
		return nil, fmt.Errorf("manifest of schema version %d", d.SchemaVersion)
	}
	// What is there counts, null too: some look at that alone.
	if has("manifests") && (has("config") || has("layers")) {
		return nil, errors.New("manifest that is an image and an index at once")
	}
	for _, t := range []string{d.MediaType, mediaType} {
		switch t {
		case oci.MediaTypeIndex, dockerList:
			if !d.IsIndex() {
				return nil, fmt.Errorf("index of type %q lists no manifests", t)
			}
		case oci.MediaTypeManifest, dockerManifest:
			if d.IsIndex() {
				return nil, fmt.Errorf("manifest of type %q is an index", t)
			}
		}
	}
	if d.IsIndex() {
		return &d, nil
	}
	return &d, checkImage(&d)
}

// checkDocumentType refuses what calls itself something else. Only a document, or who names it by
// its digest, is asked: what registries say in headers is often made up.
func checkDocumentType(t string) error {
	switch t {
	case "", oci.MediaTypeIndex, oci.MediaTypeManifest, dockerList, dockerManifest:
		return nil
	}
	if strings.HasPrefix(t, dockerSchema1) {
		return nil // named as what it is later
	}
	return fmt.Errorf("of type %s: an artifact, neither an image nor an index", oci.Short(t))
}

// checkImage refuses manifests of things that are no images.
func checkImage(d *oci.Document) error {
	if d.Config == nil {
		return errors.New("manifest without a config: no image")
	}
	switch d.Config.MediaType {
	case oci.MediaTypeConfig, dockerConfig:
	default:
		kind := d.ArtifactType
		if kind == "" {
			kind = d.Config.MediaType
		}
		return fmt.Errorf("not an image, but an artifact of type %s", oci.Short(kind))
	}
	if err := checkDescriptor(*d.Config, maxConfig); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if len(d.Layers) > maxLayers {
		return fmt.Errorf("%d layers, and overlayfs stacks at most %d", len(d.Layers), maxLayers)
	}
	for i, l := range d.Layers {
		if err := checkDescriptor(l, 1<<50); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		if err := checkLayerType(l.MediaType); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

func checkLayerType(t string) error {
	if strings.HasSuffix(t, "+encrypted") {
		return fmt.Errorf("of type %s: encrypted layers cannot be read", oci.Short(t))
	}
	for _, base := range []string{ociLayer, ociForeignLayer} {
		if c, ok := strings.CutPrefix(t, base); ok && (c == "" || c == "+gzip" || c == "+zstd") {
			return nil
		}
	}
	for _, base := range []string{
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
		"application/vnd.docker.container.image.rootfs.diff+x-gtar", // an old name
	} {
		if c, ok := strings.CutPrefix(t, base); ok && (c == "" || c == ".gzip" || c == ".zstd") {
			return nil
		}
	}
	return fmt.Errorf("of type %s: not a file system layer", oci.Short(t))
}

const (
	ociLayer        = "application/vnd.oci.image.layer.v1.tar"
	ociForeignLayer = "application/vnd.oci.image.layer.nondistributable.v1.tar"
)

// A TypeError says that a layer is not compressed as its media type has it.
type TypeError struct {
	Type string
	Is   string // "gzip", "zstd", "" for neither
}

func (e *TypeError) Error() string {
	is := e.Is
	if is == "" {
		is = "neither gzip nor zstd"
	}
	return fmt.Sprintf("its media type is %s, and it is %s", oci.Short(e.Type), is)
}

// checkCompression compares the first bytes of a layer with its media type. The types of OCI say how it is
// compressed, and who believes them finds something else in it, or nothing, where they are wrong. Those of
// docker say gzip of whatever it is, and everybody looks.
func checkCompression(mediaType string, head []byte) error {
	want, ok := strings.CutPrefix(mediaType, ociLayer)
	if !ok {
		want, ok = strings.CutPrefix(mediaType, ociForeignLayer)
	}
	if !ok || len(head) == 0 {
		return nil
	}
	is := ""
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		is = "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		is = "zstd" // the second is a frame to skip (RFC 8878 3.1.2)
	}
	if is != strings.TrimPrefix(want, "+") {
		return &TypeError{mediaType, is}
	}
	return nil
}

func checkDescriptor(d oci.Descriptor, most int64) error {
	if err := d.Digest.Check(); err != nil {
		return err
	}
	if d.Size < 0 || d.Size > most {
		return fmt.Errorf("%s: size %d", d.Digest, d.Size)
	}
	return nil
}

// jsonError cuts what an error quotes of a document.
func jsonError(what string, err error) error {
	text := err.Error()
	if len(text) > 500 {
		text = text[:500] + "..."
	}
	return fmt.Errorf("%s is not understood: %s", what, oci.Clean(text))
}

// A DigestError says that bytes are not those that were named.
type DigestError struct {
	What      string
	Want, Got oci.Digest
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s does not match its digest: %s was named, %s came", e.What, e.Want, e.Got)
}

// A SizeError says that there are more or fewer bytes than were named.
type SizeError struct {
	What      string
	Want, Got int64 // Got is at least that
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("%s does not match its size: %d bytes were named, %d came", e.What, e.Want, e.Got)
}

// verify checks bytes against the descriptor that named them.
func verify(what string, data []byte, d oci.Descriptor) error {
	if int64(len(data)) != d.Size {
		return &SizeError{what, d.Size, int64(len(data))}
	}
	return verifyDigest(what, data, d.Digest)
}

func verifyDigest(what string, data []byte, want oci.Digest) error {
	if got := want.Of(data); got != want {
		return &DigestError{what, want, got}
	}
	return nil
}

// parseConfig reads an image's config for a manifest with that many layers.
func parseConfig(data []byte, layers int) (*oci.Image, error) {
	var c oci.Image
	if err := oci.Decode(data, &c); err != nil {
		return nil, jsonError("config", err)
	}
	if c.RootFS.Type != "layers" {
		return nil, fmt.Errorf("config: rootfs of type %s", oci.Short(c.RootFS.Type))
	}
	if len(c.RootFS.DiffIDs) != layers {
		return nil, fmt.Errorf("config names %d layers, the manifest %d", len(c.RootFS.DiffIDs), layers)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := d.Check(); err != nil {
			return nil, fmt.Errorf("config: layer %d: %w", i+1, err)
		}
	}
	return &c, checkStrings(&c.Config)
}

// checkStrings refuses what no process could be started with.
func checkStrings(c *oci.ImageConfig) error {
	lists := [][]string{c.Env, c.Entrypoint, c.Cmd, {c.User, c.WorkingDir, c.StopSignal}}
	for _, l := range lists {
		for _, s := range l {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("config holds a NUL in %s", oci.Short(s))
			}
		}
	}
	return nil
}

// chainIDs are the names of the layers on top of those below them (image-spec config.md).
func chainIDs(diffIDs []oci.Digest) []oci.Digest {
	out := make([]oci.Digest, len(diffIDs))
	for i, d := range diffIDs {
		if i == 0 {
			out[i] = d
		} else {
			out[i] = oci.FromString(string(out[i-1]) + " " + string(d))
		}
	}
	return out
}

package fetch

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"cove/fetch/image"
	"cove/fetch/oci"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// shownWell tells whether an error of a stranger's making may be printed.
func shownWell(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); len(s) > 6000 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not to be shown: %.500q", s)
	}
}

// The laws: what is an image is no index, whatever its media type is said to be, and the other way round; an
// image's digests are file names, its sizes are none below nothing; what is written again is read as the same;
// and of what is refused, the reason can be printed.
func FuzzManifest(f *testing.F) {
	d := "sha256:" + strings.Repeat("ab", 32)
	long := "sha512:" + strings.Repeat("ab", 64)
	for _, s := range []string{
		`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + d + `","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + long + `","size":3}]}`,
		`{"schemaVersion":2,"manifests":[{"digest":"` + d + `","size":2,"platform":{"os":"linux","architecture":"\u001b[31m"}},{"digest":"` + d + `","size":2,"platform":{"os":"linux","architecture":"amd64"}}]}`,
		`{"schemaVersion":2,"manifests":null,"layers":[]}`, `{"schemaVersion":1,"fsLayers":[]}`, `{"schemaVersion":2,"mediaType":"\u202e"}`,
		`{"schemaVersion":2,"config":{"mediaType":"application/\u0007","digest":"` + d + `"}}`, `[]`, `{"schemaVersion":"\u009b"}`, "\xff",
	} {
		f.Add([]byte(s), v1.MediaTypeImageManifest)
	}
	types := []string{"", v1.MediaTypeImageManifest, v1.MediaTypeImageIndex, dockerManifest, dockerList, "text/plain"}
	want := oci.Platform{OS: "linux", Architecture: "amd64"}
	f.Fuzz(func(t *testing.T, data []byte, mediaType string) {
		doc, err := parseDocument(data, mediaType)
		if err != nil {
			shownWell(t, err)
			return
		}
		for _, other := range types {
			if again, err := parseDocument(data, other); err == nil && again.IsIndex() != doc.IsIndex() {
				t.Fatalf("as %q it is something else", other)
			}
		}
		var keys map[string]any
		if err := json.Unmarshal(data, &keys); err != nil {
			t.Fatal(err)
		}
		_, config := keys["config"]
		_, layers := keys["layers"]
		if _, manifests := keys["manifests"]; manifests == (config || layers) || doc.IsIndex() == (doc.Config != nil) {
			t.Fatal("both, or neither")
		}
		if doc.IsIndex() {
			m, err := oci.Choose(doc.Manifests, want)
			if err != nil {
				shownWell(t, err)
			} else if err := checkDescriptor(m, 1<<20); err != nil {
				shownWell(t, err)
			}
			return
		}
		for _, d := range append([]oci.Descriptor{*doc.Config}, doc.Layers...) {
			if d.Digest.Validate() != nil || d.Size < 0 || strings.ContainsAny(d.Digest.Encoded(), "./\x00") {
				t.Fatalf("%+v", d)
			}
		}
		m := oci.Manifest{Versioned: oci.Versioned{SchemaVersion: 2}, MediaType: doc.MediaType, ArtifactType: doc.ArtifactType, Config: *doc.Config, Layers: doc.Layers}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseDocument(text, mediaType)
		if err != nil || again.Config.Digest != doc.Config.Digest || len(again.Layers) != len(doc.Layers) {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// The laws: as many diffIDs as the manifest has layers, all of them digests, and nothing that no process could be started
// with; what is written again is read as the same.
func FuzzConfig(f *testing.F) {
	d := "sha256:" + strings.Repeat("ab", 32)
	f.Add([]byte(`{"os":"linux","architecture":"amd64","config":{"Env":["A=b"],"Volumes":{"/v":{}},"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":["`+d+`"]},"history":[{"created":"2020-01-01T00:00:00Z"}]}`), 1)
	f.Add([]byte(`{"config":{"User":"\u0000"},"rootfs":{"type":"layers","diff_ids":[]}}`), 0)
	f.Add([]byte(`{"rootfs":{"type":"\u001b[2J"}}`), 0)
	f.Fuzz(func(t *testing.T, data []byte, layers int) {
		c, err := parseConfig(data, layers)
		if err != nil {
			shownWell(t, err)
			return
		}
		if len(c.RootFS.DiffIDs) != layers {
			t.Fatal("another number of layers")
		}
		for _, d := range c.RootFS.DiffIDs {
			if d.Validate() != nil {
				t.Fatalf("%q", d)
			}
		}
		for _, s := range append(append(append([]string{c.Config.User, c.Config.WorkingDir}, c.Config.Env...), c.Config.Cmd...), c.Config.Entrypoint...) {
			if strings.Contains(s, "\x00") {
				t.Fatalf("%q", s)
			}
		}
		text, err := json.Marshal(c)
		if err != nil {
			return // a year that RFC 3339 has not
		}
		again, err := parseConfig(text, layers)
		if err != nil || !reflect.DeepEqual(again.Config.Env, c.Config.Env) || again.Config.User != c.Config.User || !reflect.DeepEqual(again.RootFS, c.RootFS) {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// The law: what names an image in the store names the same image when it is given as the reference.
func FuzzReferenceAgain(f *testing.F) {
	for _, s := range []string{"a", "docker.io/a", "a:1", "localhost:5000/x/y:tag", "docker://q.io/a@sha256:" + strings.Repeat("0", 64), "a:t@sha512:" + strings.Repeat("0", 128), "index.docker.io/a", "[::1]:80/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, err := parse(s)
		if err != nil || one.Via != image.ViaRegistry {
			if err != nil && errors.Is(err, image.ErrUnresolved) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		two, err := parse(one.Text)
		if err != nil || two.Text != one.Text || two.Pinned != one.Pinned || two.named.String() != one.named.String() {
			t.Errorf("%q is %+v, and that is %+v (%v)", s, one, two, err)
		}
		if three, err := parse(one.named.String()); err != nil || three.named.String() != one.named.String() || three.Text != one.named.String() {
			t.Errorf("%q in full is %s, and that is %+v (%v)", s, one.named, three, err)
		}
		if one.Pinned != "" && one.Pinned.Validate() == nil && strings.ContainsAny(one.Pinned.Encoded(), "./\x00") {
			t.Errorf("%q", one.Pinned)
		}
	})
}

package oci

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Documents are read and written as the specification's own types do it, field by field, down to
// the order: what is made of a docker archive is named by its digest, and the store's records are on disk.
func TestDocumentsAreTheSpecifications(t *testing.T) {
	for _, pair := range [][2]any{
		{Descriptor{}, v1.Descriptor{}}, {Index{}, v1.Index{}}, {Manifest{}, v1.Manifest{}},
		{Image{}, v1.Image{}}, {ImageConfig{}, v1.ImageConfig{}}, {Platform{}, v1.Platform{}},
	} {
		same(t, reflect.TypeOf(pair[0]).Name(), reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1]))
	}
	for ours, theirs := range map[string]string{
		MediaTypeIndex: v1.MediaTypeImageIndex, MediaTypeManifest: v1.MediaTypeImageManifest,
		MediaTypeConfig: v1.MediaTypeImageConfig, AnnotationRefName: v1.AnnotationRefName,
	} {
		if ours != theirs {
			t.Errorf("%q, theirs is %q", ours, theirs)
		}
	}
}

// same compares two types as encoding/json sees them.
func same(t *testing.T, path string, ours, theirs reflect.Type) {
	if ours == theirs {
		return
	}
	if ours.Kind() != theirs.Kind() {
		t.Errorf("%s: %v, theirs is %v", path, ours, theirs)
		return
	}
	for _, own := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler]()} {
		if reflect.PointerTo(ours).Implements(own) || reflect.PointerTo(theirs).Implements(own) {
			t.Errorf("%s writes its JSON itself", path)
		}
	}
	switch ours.Kind() {
	case reflect.Struct:
		if ours.NumField() != theirs.NumField() {
			t.Errorf("%s: %d fields, theirs has %d", path, ours.NumField(), theirs.NumField())
			return
		}
		for i := range ours.NumField() {
			a, b := ours.Field(i), theirs.Field(i)
			if a.Name != b.Name || a.Tag != b.Tag || a.Anonymous != b.Anonymous {
				t.Errorf("%s: field %s `%s`, theirs is %s `%s`", path, a.Name, a.Tag, b.Name, b.Tag)
			}
			same(t, path+"."+a.Name, a.Type, b.Type)
		}
	case reflect.Map:
		same(t, path+" key", ours.Key(), theirs.Key())
		same(t, path+" value", ours.Elem(), theirs.Elem())
	case reflect.Pointer, reflect.Slice:
		same(t, path+" element", ours.Elem(), theirs.Elem())
	}
}

// The law: what is a digest here is a sha256 or sha512 one there, and the other way round, and no digest leads
// out of the directory that it is a file in.
func FuzzDigest(f *testing.F) {
	x := string(FromString("x"))
	long := string(Digest(sha512Prefix).Of([]byte("x")))
	for _, s := range []string{"", ":", "sha256:", x, strings.ToUpper(x), x + "0", x[:70], long, long[:71], long + "0", "sha256" + long[6:], "sha512" + x[6:], "sha384:" + strings.Repeat("0", 96), "sha256:" + strings.Repeat("g", 64),
		"sha512:" + strings.Repeat("0", 128), "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../" + x[13:], "SHA256" + x[6:], " " + x, x + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ours, theirs := Digest(s), digest.Digest(s)
		want := theirs.Validate() == nil && (theirs.Algorithm() == digest.SHA256 || theirs.Algorithm() == digest.SHA512)
		if got := ours.Validate() == nil; got != want {
			t.Fatalf("%q: valid %v, theirs says %v", s, got, theirs.Validate())
		}
		if err := ours.Check(); (err == nil) != want || err != nil && len(err.Error()) > 2000 {
			t.Errorf("%q: %v", s, err)
		}
		if want && (ours.Encoded() != theirs.Encoded() || strings.ContainsAny(ours.Encoded(), "./")) {
			t.Errorf("%q: encoded %q", s, ours.Encoded())
		}
		if got := FromString(s); got.Validate() != nil || string(got) != string(digest.FromString(s)) {
			t.Errorf("the digest of %q is not %s", s, got)
		}
		if want && (FromEncoded(ours.Encoded()) != ours || !slices.Contains(Algorithms(), ours.Algorithm())) {
			t.Errorf("%q is not what its hexadecimal part names", s)
		}
		for like, want := range map[Digest]digest.Digest{"sha256:": digest.FromString(s), "sha512:": digest.SHA512.FromString(s)} {
			if got, err := FromReader(strings.NewReader(s), like); err != nil || string(got) != string(want) || got != like.Of([]byte(s)) || !got.Names([]byte(s)) {
				t.Errorf("%s %v", got, err)
			}
		}
	})
}

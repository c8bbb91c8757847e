package policy_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cove/fetch/policy"

	"go.podman.io/image/v5/docker/reference"
)

// What is not understood to the last word is no policy.
func TestParse(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte("k"))
	def := func(list string) string { return `{"default":` + list + `}` }
	signed := func(more string) string {
		return def(`[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"` + more + `}]`)
	}
	sigstore := func(fields string) string { return def(`[{"type":"sigstoreSigned"` + fields + `}]`) }
	in := func(transport, scope string) string {
		return fmt.Sprintf(`{"default":%s,"transports":{%q:{%q:%s}}}`, reject, transport, scope, accept)
	}
	for text, want := range map[string]string{
		def(accept): "",
		` {"default":` + reject + `,"transports":{}} `: "",
		`{}`:                             `"default" is missing`,
		`{`:                              "unexpected EOF",
		``:                               "unexpected EOF",
		`[]`:                             "want a JSON object",
		`null`:                           "want a JSON object",
		def(accept) + `{}`:               "behind the JSON object",
		def(accept) + `x`:                "behind the JSON object",
		def(`[]`):                        "default: the array of requirements is empty",
		def(`null`):                      "is empty",
		def(`{}`):                        "want an array",
		def(`[null]`):                    "default[0]: want a JSON object",
		def(`[{}]`):                      `unknown type ""`,
		def(`[{"type":"moonPhase"}]`):    `default[0]: unknown type "moonPhase"`,
		def(`[{"Type":"reject"}]`):       `unknown type ""`,
		def(`[{"type":"reject","a":1}]`): `unknown key "a"`,
		def(`[{"type":"reject","type":"reject"}]`):                                                   `key "type" is there twice`,
		def(`[{"type":1}]`):                                                                          "not understood",
		`{"default":` + accept + `,"default":` + accept + `}`:                                        "there twice",
		`{"default":` + accept + `,"comment":""}`:                                                    `unknown key "comment"`,
		`{"default":` + accept + `,"transports":[]}`:                                                 "want a JSON object",
		`{"default":` + accept + `,"transports":null}`:                                               "want a JSON object",
		`{"default":` + accept + `,"transports":{"docker":{"a":` + accept + `,"a":` + reject + `}}}`: "there twice",
		`{"default":` + accept + `,"transports":{"docker":{"a":[]}}}`:                                `transports.docker."a": the array of requirements is empty`,
		in("docker", "quay.io/a"):                                                                    "",
		in("oci", "/srv/images"):                                                                     "",
		in("oci", ""):                                                                                "",
		in("oci", "/"):                                                                               "absolute path",
		in("oci", "srv"):                                                                             "absolute path",
		in("oci-archive", "/a/../b"):                                                                 "absolute path",
		in("dir", "/a/"):                                                                             "absolute path",
		in("docker-archive", "/a"):                                                                   `no scopes but ""`,
		in("docker-archive", ""):                                                                     "",
		in("containers-storage", "[x]"):                                                              "",
		signed(``):                                                                                   "",
		signed(`,"keyData":"` + key + `"`):                                                           "want one of keyPath, keyPaths, keyData, not 2",
		signed(`,"keyDatas":["` + key + `"]`):                                                        `unknown key "keyDatas"`,
		def(`[{"type":"signedBy","keyType":"GPGKeys"}]`):                                             "not 0",
		def(`[{"type":"signedBy","keyType":"GPGKeys","keyPath":""}]`):                                "names no key",
		def(`[{"type":"signedBy","keyType":"GPGKeys","keyPaths":[]}]`):                               "names no key",
		def(`[{"type":"signedBy","keyType":"PGP","keyPath":"/k"}]`):                                  `unknown keyType "PGP"`,
		def(`[{"type":"signedBy","keyPath":"/k"}]`):                                                  `unknown keyType ""`,
		def(`[{"type":"signedBy","keyType":"GPGKeys","keyData":"***"}]`):                             "not understood",
		def(`[{"type":"signedBy","keyType":"X509Certificates","keyPath":"/k"}]`):                     "",
		signed(`,"signedIdentity":{"type":"matchExact"}`):                                            "",
		signed(`,"signedIdentity":{"type":"matchRepository"}`):                                       "",
		signed(`,"signedIdentity":{"type":"matchRepoDigestOrExact"}`):                                "",
		signed(`,"signedIdentity":{"type":"matchNamed"}`):                                            `unknown type "matchNamed"`,
		signed(`,"signedIdentity":{"type":"matchExact","x":""}`):                                     `unknown key "x"`,
		signed(`,"signedIdentity":null`):                                                             "want a JSON object",
		signed(`,"signedIdentity":{"type":"exactReference","dockerReference":"quay.io/a:1"}`):        "",
		signed(`,"signedIdentity":{"type":"exactReference","dockerReference":"quay.io/a"}`):          "neither a tag nor a digest",
		signed(`,"signedIdentity":{"type":"exactReference","dockerReference":"A B"}`):                "invalid reference",
		signed(`,"signedIdentity":{"type":"exactReference"}`):                                        `"dockerReference" is missing`,
		signed(`,"signedIdentity":{"type":"exactRepository","dockerRepository":"quay.io/a"}`):        "",
		signed(`,"signedIdentity":{"type":"remapIdentity","prefix":"m.example","signedPrefix":"quay.io/a"}`):  "",
		signed(`,"signedIdentity":{"type":"remapIdentity","prefix":"m.example/","signedPrefix":"quay.io/a"}`): `prefix "m.example/"`,
		signed(`,"signedIdentity":{"type":"remapIdentity","prefix":"m.example"}`):                             `"signedPrefix" is missing`,
		sigstore(``):                                                                "not 0",
		sigstore(`,"keyPath":"/k"`):                                                 "",
		sigstore(`,"keyPaths":["/k","/l"]`):                                         "",
		sigstore(`,"keyDatas":["` + key + `"]`):                                     "",
		sigstore(`,"keyPath":"/k","keyDatas":["` + key + `"]`):                      "not 2",
		sigstore(`,"keyPath":"/k","rekorPublicKeyPath":""`):                         "",
		sigstore(`,"keyPath":"/k","rekorPublicKeyPath":"","rekorPublicKeyData":""`): "more than one rekorPublicKey",
		sigstore(`,"fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"},"rekorPublicKeyPath":"/r"`): "",
		sigstore(`,"fulcio":{"caPath":"/c","who":"i"}`):                                                     `unknown key "who"`,
		sigstore(`,"pki":{"caRootsPath":"/c","subjectEmail":"e"}`):                                          "",
		def(`[{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}]`):                       "",
		def(`[{"type":"signedBaseLayer"}]`):                                                                 "is missing",
	} {
		_, err := policy.Parse("policy.json", []byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func parse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func name(t *testing.T, ref string) reference.Named {
	t.Helper()
	n, err := reference.ParseNamed(ref)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The most special scope counts, and that one alone.
func TestScopes(t *testing.T) {
	pinned := "quay.io:8443/acme/app@sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct {
		transport, of string
		scopes        []string // each is a match of its own; the earlier ones win over the later
	}{
		{"docker", "registry.sub.quay.io:8443/acme/tools/app:1", []string{"registry.sub.quay.io:8443/acme/tools/app:1", "registry.sub.quay.io:8443/acme/tools/app",
			"registry.sub.quay.io:8443/acme/tools", "registry.sub.quay.io:8443/acme", "registry.sub.quay.io:8443", "*.sub.quay.io", "*.quay.io", "*.io", ""}},
		{"docker", pinned, []string{pinned, "quay.io:8443/acme/app", "quay.io:8443/acme", "quay.io:8443", "*.io", ""}},
		{"docker", "localhost/x:1", []string{"localhost/x:1", "localhost/x", "localhost", ""}},
		{"oci", "/srv/images/app", []string{"/srv/images/app", "/srv/images", "/srv", ""}},
		{"oci-archive", "/srv/app.tar", []string{"/srv/app.tar", "/srv", ""}},
		{"dir", "/srv/rootfs", []string{"/srv/rootfs", "/srv", ""}},
		{"docker-archive", "/srv/app.tar", []string{""}},
	} {
		s := &policy.Subject{Transport: c.transport, Path: c.of}
		if c.transport == "docker" {
			s.Named = name(t, c.of)
		}
		for i, scope := range c.scopes {
			scopes := map[string]json.RawMessage{scope: json.RawMessage(accept)}
			for _, wider := range c.scopes[i+1:] {
				scopes[wider] = json.RawMessage(reject)
			}
			if c.transport == "docker" {
				for _, not := range []string{"quay.io", "quay.io/acme", "app", "registry.sub.quay.io", "*.registry.sub.quay.io", "*", "registry.sub.quay.io:8443/ac", "docker.io"} {
					scopes[not] = json.RawMessage(reject)
				}
			}
			text, err := json.Marshal(map[string]any{"default": json.RawMessage(reject), "transports": map[string]any{c.transport: scopes}})
			if err != nil {
				t.Fatal(err)
			}
			if err := parse(t, string(text)).For(s).Check(s); err != nil {
				t.Errorf("%s:%s, scope %q: %v", c.transport, c.of, scope, err)
			}
		}
		other := parse(t, `{"default":`+accept+`,"transports":{"atomic":{"":`+reject+`},"docker-daemon":{"":`+reject+`}}}`)
		if err := other.For(s).Check(s); err != nil {
			t.Errorf("%s:%s, other transports: %v", c.transport, c.of, err)
		}
	}
}

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"cove/fetch/oci"
)

// Policy is a policy.json.
type Policy struct {
	File       string // for messages
	fallback   []requirement
	transports map[string]map[string][]requirement
}

// Parse reads a policy.json as strictly as podman does: in a file that protects, a word that is not understood is no
// word to pass over.
func Parse(file string, data []byte) (*Policy, error) {
	p := &Policy{File: file, transports: map[string]map[string][]requirement{}}
	if err := p.parse(data); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return p, nil
}

func (p *Policy) parse(data []byte) error {
	var fallback, transports json.RawMessage
	err := object(data, func(key string) any {
		switch key {
		case "default":
			return &fallback
		case "transports":
			return &transports
		}
		return nil
	})
	if err != nil {
		return err
	}
	if fallback == nil {
		return errors.New(`"default" is missing`)
	}
	if p.fallback, err = parseRequirements(fallback); err != nil {
		return fmt.Errorf("default%w", err)
	}
	if transports == nil {
		return nil
	}
	return each(transports, func(name string, scopes json.RawMessage) error {
		p.transports[name] = map[string][]requirement{}
		err := each(scopes, func(scope string, list json.RawMessage) error {
			err := checkScope(name, scope)
			if err == nil {
				p.transports[name][scope], err = parseRequirements(list)
			}
			if err != nil {
				return fmt.Errorf(".%s%w", oci.Short(scope), err)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("transports.%s%w", oci.Clean(name), err)
		}
		return nil
	})
}

// checkScope refuses scopes that could never be met. Those of transports that cove does not have are not looked at.
func checkScope(transport, scope string) error {
	switch transport {
	case "oci", "oci-archive", "dir":
		if scope != "" && (!filepath.IsAbs(scope) || scope == "/" || filepath.Clean(scope) != scope) {
			return errors.New(`: want an absolute path without "." and ".." below "/", or "" for all`)
		}
	case "docker-archive":
		if scope != "" {
			return errors.New(`: docker-archive has no scopes but ""`)
		}
	}
	return nil
}

// parseRequirements reads the list of what must all be met. Its errors begin with where in the list.
func parseRequirements(data []byte) ([]requirement, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf(": want an array of requirements: %w", err)
	}
	if len(list) == 0 {
		return nil, errors.New(": the array of requirements is empty")
	}
	var out []requirement
	for i, one := range list {
		r, err := parseRequirement(one)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func parseRequirement(data []byte) (requirement, error) {
	kind, err := typeOf(data)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "insecureAcceptAnything":
		return acceptAnything{}, exactly(data, map[string]any{"type": &kind})
	case "reject":
		return reject{}, exactly(data, map[string]any{"type": &kind})
	case "signedBy":
		return parseSignedBy(data)
	case "sigstoreSigned":
		return parseSigstoreSigned(data)
	case "signedBaseLayer":
		var id json.RawMessage
		if err := exactly(data, map[string]any{"type": &kind, "baseLayerIdentity": &id}); err != nil {
			return nil, err
		}
		_, err := parseIdentity(id)
		return unsupported{kind, "it is about the layers of another image"}, err
	}
	return nil, fmt.Errorf("unknown type %s", oci.Short(kind))
}

func parseSignedBy(data []byte) (requirement, error) {
	r := signedBy{}
	var kind string
	var id json.RawMessage
	given := map[string]bool{}
	err := object(data, func(key string) any {
		given[key] = true
		return map[string]any{"type": &kind, "keyType": &r.keyType, "keyPath": &r.keys.path, "keyPaths": &r.keys.paths,
			"keyData": &r.keys.data, "signedIdentity": &id}[key]
	})
	if err != nil {
		return nil, err
	}
	switch r.keyType {
	case "GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs":
	default:
		return nil, fmt.Errorf("unknown keyType %s", oci.Short(r.keyType))
	}
	if err := oneOf(given, "keyPath", "keyPaths", "keyData"); err != nil {
		return nil, err
	}
	if r.keys.empty() {
		return nil, errors.New("it names no key")
	}
	if r.identity, err = parseSignedIdentity(id); err != nil {
		return nil, err
	}
	if r.keyType != "GPGKeys" {
		return unsupported{"signedBy", "keyType " + r.keyType + " is defined nowhere"}, nil
	}
	return r, nil
}

// parseSigstoreSigned reads the whole form, so that a mistake is told as one, also where cove cannot do what it asks.
func parseSigstoreSigned(data []byte) (requirement, error) {
	r := sigstoreSigned{}
	var kind string
	var id, fulcio, pki json.RawMessage
	var rekor keySource
	given := map[string]bool{}
	err := object(data, func(key string) any {
		given[key] = true
		return map[string]any{"type": &kind, "signedIdentity": &id, "fulcio": &fulcio, "pki": &pki,
			"keyPath": &r.keys.path, "keyPaths": &r.keys.paths, "keyData": &r.keys.data, "keyDatas": &r.keys.datas,
			"rekorPublicKeyPath": &rekor.path, "rekorPublicKeyPaths": &rekor.paths, "rekorPublicKeyData": &rekor.data, "rekorPublicKeyDatas": &rekor.datas}[key]
	})
	if err != nil {
		return nil, err
	}
	if err := oneOf(given, "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki"); err != nil {
		return nil, err
	}
	if r.identity, err = parseSignedIdentity(id); err != nil {
		return nil, err
	}
	rekors := count(given, "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
	switch {
	case rekors > 1:
		return nil, errors.New("more than one rekorPublicKey")
	case given["fulcio"]:
		err = object(fulcio, fieldsOf("caPath", "caData", "oidcIssuer", "subjectEmail"))
		return unsupported{"sigstoreSigned", "with fulcio it asks for a certificate of a certificate authority"}, err
	case given["pki"]:
		err = object(pki, fieldsOf("caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData", "subjectEmail", "subjectHostname"))
		return unsupported{"sigstoreSigned", "with pki it asks for a certificate of a certificate authority"}, err
	case rekors > 0:
		return unsupported{"sigstoreSigned", "with a rekorPublicKey it asks for an entry in a Rekor log"}, nil
	case r.keys.empty():
		return nil, errors.New("it names no key")
	}
	return r, nil
}

// parseSignedIdentity is the identity that a signature must be for; without a word on it the default.
func parseSignedIdentity(data []byte) (identity, error) {
	if data == nil {
		return identity{kind: "matchRepoDigestOrExact"}, nil
	}
	return parseIdentity(data)
}

func parseIdentity(data []byte) (identity, error) {
	kind, err := typeOf(data)
	if err != nil {
		return identity{}, fmt.Errorf("identity: %w", err)
	}
	m := identity{}
	fields := map[string]any{"type": &m.kind}
	switch kind {
	case "matchExact", "matchRepoDigestOrExact", "matchRepository":
	case "exactReference":
		fields["dockerReference"] = &m.reference
	case "exactRepository":
		fields["dockerRepository"] = &m.reference
	case "remapIdentity":
		fields["prefix"], fields["signedPrefix"] = &m.prefix, &m.signedPrefix
	default:
		return identity{}, fmt.Errorf("identity: unknown type %s", oci.Short(kind))
	}
	if err = exactly(data, fields); err == nil {
		err = m.check()
	}
	if err != nil {
		err = fmt.Errorf("identity: %w", err)
	}
	return m, err
}

// object reads a JSON object; field says where the value of a key goes, nil refuses the key. Unlike json.Unmarshal it
// takes no key twice, none that differs in case, and nothing behind the object.
func object(data []byte, field func(key string) any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	t, err := dec.Token()
	if err != nil {
		return notJSON(err)
	}
	if t != json.Delim('{') {
		return errors.New("want a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return notJSON(err)
		}
		key, _ := t.(string) // in an object the decoder takes nothing else
		into := field(key)
		switch {
		case seen[key]:
			return fmt.Errorf("key %s is there twice", oci.Short(key))
		case into == nil:
			return fmt.Errorf("unknown key %s", oci.Short(key))
		}
		seen[key] = true
		if err := dec.Decode(into); err != nil {
			return fmt.Errorf("%s: %w", oci.Clean(key), notJSON(err))
		}
	}
	if _, err := dec.Token(); err != nil {
		return notJSON(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("there is something behind the JSON object")
	}
	return nil
}

func notJSON(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("not understood: %s", oci.Clean(err.Error()))
}

// exactly reads an object that has all of these keys and no other.
func exactly(data []byte, fields map[string]any) error {
	missing := map[string]bool{}
	for key := range fields {
		missing[key] = true
	}
	err := object(data, func(key string) any {
		delete(missing, key)
		return fields[key]
	})
	for key := range missing {
		if err == nil {
			err = fmt.Errorf("%s is missing", strconv.Quote(key))
		}
	}
	return err
}

// each goes through an object whose keys are names.
func each(data []byte, do func(name string, value json.RawMessage) error) error {
	var names []string
	values := map[string]*json.RawMessage{}
	err := object(data, func(key string) any {
		names = append(names, key)
		if values[key] == nil {
			values[key] = new(json.RawMessage)
		}
		return values[key]
	})
	if err != nil {
		return fmt.Errorf(": %w", err)
	}
	for _, name := range names {
		if err := do(name, *values[name]); err != nil {
			return err
		}
	}
	return nil
}

// typeOf is the "type" of a requirement or an identity.
func typeOf(data []byte) (string, error) {
	kind := ""
	err := object(data, func(key string) any {
		if key == "type" {
			return &kind
		}
		return new(json.RawMessage)
	})
	return kind, err
}

func fieldsOf(names ...string) func(string) any {
	return func(key string) any {
		for _, name := range names {
			if key == name {
				return new(string)
			}
		}
		return nil
	}
}

func count(given map[string]bool, names ...string) int {
	n := 0
	for _, name := range names {
		if given[name] {
			n++
		}
	}
	return n
}

func oneOf(given map[string]bool, names ...string) error {
	if n := count(given, names...); n != 1 {
		return fmt.Errorf("want one of %s, not %d", strings.Join(names, ", "), n)
	}
	return nil
}

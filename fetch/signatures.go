package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"cove/fetch/oci"
	"cove/fetch/policy"
	"cove/fetch/wire"

	"go.podman.io/image/v5/docker/reference"
)

const (
	maxSignatures = 128 // of one manifest, at one place
	maxSignature  = 1 << 20
	// All at one place. They are held in memory, and real ones have 500 bytes to 4 KiB.
	maxSignatureBytes = 8 << 20
)

// signatures are what was found for one document of an image in a registry.
type signatures struct {
	*puller
	digest oci.Digest

	conf     *registriesD       // nil until it was read
	beside   []policy.Signature // at the lookaside, of both kinds
	asked    bool               // the registry, for the rest
	attached []policy.Signature
}

// find gets those of one kind: containers-signature(5) is at the lookaside only. With everywhere the registry is asked
// for sigstore's also where registries.d does not say so. Nothing is asked for twice.
func (f *signatures) find(ctx context.Context, sigstore, everywhere bool) (_ []policy.Signature, err error) {
	src := f.src
	if one, ok := src.(*oneLook); ok {
		src = one.source
	}
	registry, ok := src.(*registrySource)
	if !ok {
		return nil, nil // layouts and archives have no place for signatures
	}
	if f.conf == nil {
		conf, err := readRegistriesD()
		if err != nil {
			return nil, err
		}
		if f.beside, err = conf.lookaside(ctx, f.named, f.digest); err != nil {
			return nil, err
		}
		f.conf = conf
	}
	var out []policy.Signature
	for _, sig := range f.beside {
		if sigstore == (sig.MediaType != "") {
			out = append(out, sig)
		}
	}
	if !sigstore || !everywhere && !f.conf.attachments(f.named) {
		return out, nil
	}
	if !f.asked {
		if f.attached, err = f.ask(ctx, registry); err != nil {
			return nil, err
		}
		f.asked = true
	}
	return append(out, f.attached...), nil
}

// ask gets what sigstore's tools have put beside the document in the registry: the layers of an image whose tag is
// made of the digest. It is looked for where the document came from, as podman does, be that a mirror.
func (f *signatures) ask(ctx context.Context, registry *registrySource) ([]policy.Signature, error) {
	tag := f.digest.Algorithm() + "-" + f.digest.Encoded() + ".sig"
	if _, err := reference.WithTag(reference.TrimNamed(f.named), tag); err != nil {
		return nil, nil // a sha512 digest is longer than a tag can be: there is no such place
	}
	found, err := registry.places[registry.first].Manifest(ctx, tag, maxManifest)
	var status *wire.StatusError
	if errors.As(err, &status) && status.Status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if found.MediaType != oci.MediaTypeManifest {
		return nil, fmt.Errorf("%s is of type %s: want %s", tag, oci.Short(found.MediaType), oci.MediaTypeManifest)
	}
	var doc oci.Manifest
	if err := json.Unmarshal(found.Data, &doc); err != nil {
		return nil, jsonError(tag, err)
	}
	if len(doc.Layers) > maxSignatures {
		return nil, fmt.Errorf("%s holds %d signatures: at most %d are read", tag, len(doc.Layers), maxSignatures)
	}
	var out []policy.Signature
	left := int64(maxSignatureBytes)
	for _, l := range doc.Layers {
		if l.MediaType != policy.SigstoreMediaType {
			continue
		}
		if err := checkDescriptor(l, maxSignature); err != nil {
			return nil, fmt.Errorf("%s: %w", tag, err)
		}
		if left -= l.Size; left < 0 {
			return nil, fmt.Errorf("%s holds signatures of more than %d bytes", tag, maxSignatureBytes)
		}
		payload, err := f.readBlob(ctx, l, "signature")
		if err != nil {
			return nil, err
		}
		out = append(out, policy.Signature{MediaType: l.MediaType, Payload: payload, Annotations: l.Annotations})
	}
	return out, nil
}

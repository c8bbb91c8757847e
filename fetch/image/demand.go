package image

import (
	"fmt"
	"strings"

	"cove/fetch/oci"
	"cove/fetch/store"
)

// Demand says that an image has to be signed by one of some keys.
type Demand struct {
	Keys []Key
	By   string // who asks, for messages: "--verify-key"
}

// Key is the file of a public key, as it was read.
type Key struct {
	File string
	Data []byte
}

// Digest names the file's content: what was found right once is known by it.
func (k Key) Digest() oci.Digest { return oci.FromBytes(k.Data) }

// Files are what the demand's keys are called.
func (d Demand) Files() string {
	var out []string
	for _, k := range d.Keys {
		out = append(out, k.File)
	}
	return strings.Join(out, ", ")
}

// An UnsignedError says that an image is in the store and that nobody knows of it to be signed as is demanded.
type UnsignedError struct {
	Ref    string
	Demand Demand
}

func (e *UnsignedError) Error() string {
	return fmt.Sprintf("it is in the store, and not known to be signed as %s asks (by %s)", oci.Clean(e.Demand.By), oci.Clean(e.Demand.Files()))
}

// An UnsignableError says that an image cannot be signed, being in no registry.
type UnsignableError struct{ Ref, By string }

func (e *UnsignableError) Error() string {
	return fmt.Sprintf("%s asks for a signature, and there is no place for one but in a registry", oci.Clean(e.By))
}

// CheckSigned tells whether signatures that rec knows of, for the image under that name, meet the demands.
func CheckSigned(rec *store.Record, ref string, demands []Demand) error {
	for _, d := range demands {
		met := false
		for _, k := range d.Keys {
			met = met || rec.IsSigned(k.Digest(), ref)
		}
		if !met {
			return &UnsignedError{ref, d}
		}
	}
	return nil
}

// checkSigned asks the record of the image that was found; and, for a signature has nothing to do with ids, those of
// the same image for other id mappings.
func (t *Target) checkSigned(o Options, want oci.Platform, img *Image) error {
	ref, err := t.CalledAs(o.Store, want)
	if err != nil {
		return err
	}
	rec, err := o.Store.Record(img.handle)
	if err != nil {
		return err
	}
	first := CheckSigned(rec, ref, o.Demands)
	if first == nil {
		return nil
	}
	others, err := o.Store.Others(img.handle)
	if err != nil {
		return err
	}
	for _, other := range others {
		rec.Sign(other.Signed...)
	}
	if CheckSigned(rec, ref, o.Demands) == nil {
		return nil
	}
	return first
}

// CalledAs is the full name that a signature of the image must be for, as far as the store knows it: that of a short one
// was found when it was pulled.
func (t *Target) CalledAs(s *store.Store, want oci.Platform) (string, error) {
	ref := t.Text
	if IsShort(ref) {
		name, err := s.Resolve(ref, want.String())
		if err != nil {
			return "", err
		}
		ref = name.Ref
	}
	if t.Typed != "" {
		repository, _, _ := strings.Cut(ref, "@")
		ref = repository + t.Typed
	}
	return ref, nil
}

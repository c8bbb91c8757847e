package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/wire"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// registrySource is a registry with its mirrors (containers-registries.conf(5)), which are asked first.
// Each is asked for what the others do not have, cannot give, or give wrong.
type registrySource struct {
	places []place
	have   func(oci.Digest) []byte // a document that is in the store, or nil
	known  oci.Digest              // what the reference named the last time
	most   int64                   // bytes of a document

	mu    sync.Mutex
	first int                // the place that the reference was resolved at
	moved map[oci.Digest]int // how many places after that one a blob is asked for at
}

// place is one of the hosts that may have the image.
type place struct {
	*wire.Client
	named reference.Named
}

// tag is what the place's reference names a document by: a digest or a tag.
func (p place) tag() string {
	switch r := p.named.(type) {
	case reference.Digested:
		return r.Digest().String()
	case reference.Tagged:
		return r.Tag()
	}
	return "latest"
}

func openRegistry(sys *types.SystemContext, named reference.Named, o Options, event func(Event)) (*registrySource, error) {
	conf, err := sysregistriesv2.FindRegistry(sys, named.Name())
	if err != nil {
		return nil, fmt.Errorf("registries.conf: %s", oci.Clean(err.Error()))
	}
	pulls := []sysregistriesv2.PullSource{{Reference: named}}
	if conf != nil {
		if conf.Blocked {
			return nil, fmt.Errorf("registry %s is blocked in %s", conf.Prefix, sysregistriesv2.ConfigurationSourceDescription(sys))
		}
		if pulls, err = conf.PullSourcesFromReference(named); err != nil {
			return nil, fmt.Errorf("registries.conf: %w", err)
		}
	}
	s := &registrySource{most: o.maxManifest(), moved: map[oci.Digest]int{}}
	for _, pull := range pulls {
		p, err := newPlace(sys, pull, o, event)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.places = append(s.places, p)
	}
	return s, nil
}

func newPlace(sys *types.SystemContext, pull sysregistriesv2.PullSource, o Options, event func(Event)) (place, error) {
	host := reference.Domain(pull.Reference)
	conf, err := wire.Certificates(host)
	if err != nil {
		return place{}, err
	}
	e := wire.Endpoint{Host: host, Repo: reference.Path(pull.Reference), Namespace: pull.Endpoint.NamespaceProxy, TLS: conf,
		// Who put certificates there for a registry on loopback wants them checked.
		Insecure: pull.Endpoint.Insecure || isLoopback(host) && conf == nil}
	set := o.Wire
	set.Credentials = sync.OnceValues(func() (wire.Credentials, error) {
		auth, err := config.GetCredentialsForRef(sys, pull.Reference)
		return wire.Credentials{Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken}, err
	})
	set.Trusted = func(hostport string) bool {
		host := strings.TrimSuffix(strings.TrimSuffix(hostport, ":443"), ":80") // as a location has it
		r, err := sysregistriesv2.FindRegistry(sys, host)
		return err == nil && r != nil
	}
	set.Waiting = func(d time.Duration, why string) { event(Event{Kind: Waiting, Wait: d, Why: why}) }
	return place{wire.New(e, set), pull.Reference}, nil
}

// manifest returns the document that d names, or what the reference does. Those that are in the store are
// not asked for again, and of what the reference names only the digest.
func (s *registrySource) manifest(ctx context.Context, d oci.Digest) ([]byte, string, error) {
	if d != "" {
		if data := s.have(d); data != nil {
			return data, "", nil
		}
	}
	var failed []string
	for n := range s.places {
		at := (s.first + n) % len(s.places)
		data, mediaType, err := s.ask(ctx, s.places[at], d)
		if err == nil {
			if d == "" {
				s.first = at
			}
			return data, mediaType, nil
		}
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		if n == len(s.places)-1 {
			return nil, "", besides(failed, err)
		}
		failed = append(failed, err.Error())
	}
	return nil, "", errors.New("no registry to ask")
}

// besides adds what was tried before the last, which is the registry itself.
func besides(failed []string, err error) error {
	if len(failed) == 0 {
		return err
	}
	return fmt.Errorf("%w (mirrors: %s)", err, strings.Join(failed, "; "))
}

// ask gets one document from one place. That it is the right one, and one at all, is checked again by who
// asked for it: here it tells whether to ask somebody else.
func (s *registrySource) ask(ctx context.Context, p place, d oci.Digest) ([]byte, string, error) {
	name := d.String()
	if d == "" {
		name = p.tag()
		if data, err := s.unchanged(ctx, p, name); data != nil || err != nil {
			return data, "", err
		}
	}
	doc, err := p.Manifest(ctx, name, s.most)
	var large *wire.TooLargeError
	if errors.As(err, &large) {
		err = fmt.Errorf("%s: %w", large.URL, &layer.LimitError{What: "manifest", Max: large.Max})
	}
	if err != nil {
		return nil, "", err
	}
	want := oci.Digest(name)
	if want.Validate() != nil {
		want = doc.Digest // the server's own word
	}
	if want != "" {
		if err := verifyDigest("manifest", doc.Data, want); err != nil {
			return nil, "", fmt.Errorf("%s: %w", p.Host, err)
		}
	}
	if _, err := parseDocument(doc.Data, doc.MediaType); err != nil && len(s.places) > 1 {
		return nil, "", fmt.Errorf("%s: %w", p.Host, err)
	}
	return doc.Data, doc.MediaType, nil
}

// unchanged asks for the digest alone where the image is in the store, and returns its document from there when it
// is still the one. Registries that count pulls do not count that. No document and no error: get it.
func (s *registrySource) unchanged(ctx context.Context, p place, name string) ([]byte, error) {
	if s.known == "" {
		return nil, nil
	}
	data := s.have(s.known)
	if data == nil {
		return nil, nil
	}
	got, err := p.Digest(ctx, name)
	if err != nil && wire.Unreachable(err) {
		return nil, err
	}
	if err == nil && got == s.known {
		return data, nil
	}
	return nil, nil // including servers that know no HEAD
}

func (s *registrySource) blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	at := (s.first + s.moved[d.Digest]) % len(s.places)
	s.mu.Unlock()
	return s.places[at].Blob(ctx, d.Digest, d.Size, from)
}

// other says that what a blob's place gave was of no use, and returns whether there is another place.
func (s *registrySource) other(d oci.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved[d]++
	return s.moved[d] < len(s.places)
}

func (s *registrySource) close() error {
	for _, p := range s.places {
		p.Close()
	}
	return nil
}

package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"cove/fetch/oci"
	"cove/fetch/policy"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/storage/pkg/configfile"
	"go.yaml.in/yaml/v3"
)

// registriesD is what containers-registries.d(5) says of where signatures are.
type registriesD struct {
	general *signaturePlace
	scopes  map[string]signaturePlace
}

type signaturePlace struct {
	Lookaside   string `yaml:"lookaside"`
	SigStore    string `yaml:"sigstore"` // the old name of lookaside
	Attachments *bool  `yaml:"use-sigstore-attachments"`
}

func (p signaturePlace) lookaside() string {
	if p.Lookaside != "" {
		return p.Lookaside
	}
	return p.SigStore
}

// readRegistriesD reads all the files, which the library finds. Two that speak of the same are an error, as for podman.
func readRegistriesD() (*registriesD, error) {
	r := &registriesD{scopes: map[string]signaturePlace{}}
	files := configfile.File{Name: "registries", Extension: "yaml", DoNotLoadMainFiles: true, DoNotUseExtensionForConfigName: true, UserId: os.Getuid()}
	for item, err := range configfile.Read(&files) {
		if err != nil {
			return nil, err
		}
		if err := r.add(item.Reader); err != nil {
			return nil, fmt.Errorf("read %s: %w", item.Name, err)
		}
	}
	return r, nil
}

func (r *registriesD) add(in io.Reader) error {
	data, err := readAtMost(in, maxManifest)
	if err != nil {
		return err
	}
	var one struct {
		Default *signaturePlace           `yaml:"default-docker"`
		Docker  map[string]signaturePlace `yaml:"docker"`
	}
	if err := yaml.Unmarshal(data, &one); err != nil {
		return errors.New(oci.Clean(err.Error()))
	}
	if one.Default != nil {
		if r.general != nil {
			return errors.New("default-docker is in another file too")
		}
		r.general = one.Default
	}
	for scope, its := range one.Docker {
		if _, ok := r.scopes[scope]; ok {
			return fmt.Errorf("docker: %s is in another file too", oci.Short(scope))
		}
		r.scopes[scope] = its
	}
	return nil
}

// places are what is said of an image, the most special first.
func (r *registriesD) places(named reference.Named) []signaturePlace {
	var out []signaturePlace
	for _, scope := range policy.RegistryScopes(named) {
		if its, ok := r.scopes[scope]; ok {
			out = append(out, its)
		}
	}
	if r.general != nil {
		out = append(out, *r.general)
	}
	return out
}

// attachments tells whether sigstore's signatures are to be looked for in the registry.
func (r *registriesD) attachments(named reference.Named) bool {
	for _, its := range r.places(named) {
		if its.Attachments != nil {
			return *its.Attachments
		}
	}
	return false
}

// base is where the signatures of an image's repository are: what registries.d says, or else a folder of this machine.
func (r *registriesD) base(named reference.Named) (*url.URL, error) {
	text := ""
	for _, its := range r.places(named) {
		if text == "" {
			text = its.lookaside()
		}
	}
	if text == "" && os.Getuid() == 0 {
		text = "file:///var/lib/containers/sigstore"
	}
	if text == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		text = (&url.URL{Scheme: "file", Path: filepath.Join(home, ".local/share/containers/sigstore")}).String()
	}
	at, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("lookaside %s: no address", oci.Short(text))
	}
	switch at.Scheme {
	case "file", "http", "https":
	default:
		return nil, fmt.Errorf("lookaside %s: want a file:, https: or http: address", oci.Clean(at.Redacted()))
	}
	at.Path += "/" + reference.Path(named)
	return at, nil
}

// lookaside gets the signatures that are kept beside the registry (signature-protocols.md): signature-1 and so on, until one
// is missing. One that is not understood is kept, to be told as damaged.
func (r *registriesD) lookaside(ctx context.Context, named reference.Named, d oci.Digest) ([]policy.Signature, error) {
	at, err := r.base(named)
	if err != nil {
		return nil, err
	}
	client := lookasideClient()
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeoutCause(ctx, lookasideTime, fmt.Errorf("the lookaside has not given all signatures within %v", lookasideTime))
	defer cancel()
	var out []policy.Signature
	left := maxSignatureBytes
	repository := at.Path
	for n := 1; ; n++ {
		at.Path = fmt.Sprintf("%s@%s=%s/signature-%d", repository, d.Algorithm(), d.Encoded(), n)
		var data []byte
		if at.Scheme == "file" {
			data, err = readSignature(at.Path)
		} else {
			data, err = getSignature(ctx, client, at)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", oci.Clean(at.Redacted()), err)
		}
		if data == nil {
			return out, nil
		}
		if n > maxSignatures {
			return nil, fmt.Errorf("%s: at most %d signatures are read", oci.Clean(at.Redacted()), maxSignatures)
		}
		if left -= len(data); left < 0 {
			return nil, fmt.Errorf("%s: with those before it more than %d bytes", oci.Clean(at.Redacted()), maxSignatureBytes)
		}
		out = append(out, parseSignature(data))
	}
}

// readSignature reads one; nil when there is none.
func readSignature(path string) ([]byte, error) {
	f, err := openRegular(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	return readAtMost(f, maxSignature)
}

// lookasideTime is for all signatures of one document. A variable for tests.
var lookasideTime = 2 * time.Minute

// lookasideClient waits for nobody for ever, and is not led away from https.
func lookasideClient() *http.Client {
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			switch {
			case len(via) >= 5:
				return errors.New("more than 5 redirects")
			case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
				return errors.New("a redirect from https to http is not followed")
			}
			return nil
		},
	}
}

func getSignature(ctx context.Context, client *http.Client, at *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "cove")
	resp, err := client.Do(req)
	if err != nil {
		return nil, lookasideError(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		data, err := readAtMost(resp.Body, maxSignature)
		if err != nil {
			return nil, lookasideError(ctx, err)
		}
		return data, nil
	case http.StatusNotFound:
		return nil, nil
	}
	return nil, fmt.Errorf("status %d", resp.StatusCode)
}

// lookasideError makes an error fit to be shown: it may quote what the server wrote, a header or a certificate's names.
func lookasideError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var u *url.Error // its text has the address again, which may have been led to, with a query
	if errors.As(err, &u) {
		err = u.Err
	}
	return errors.New(oci.Clean(err.Error()))
}

// parseSignature tells the formats: OpenPGP is kept bare, sigstore's in JSON behind a line that says so.
func parseSignature(data []byte) policy.Signature {
	text, ok := bytes.CutPrefix(data, []byte("\x00sigstore-json\n"))
	if !ok {
		return policy.Signature{OpenPGP: data}
	}
	var sig struct {
		MediaType   string            `json:"mimeType"`
		Payload     []byte            `json:"payload"`
		Annotations map[string]string `json:"annotations"`
	}
	if json.Unmarshal(text, &sig) != nil || sig.MediaType == "" {
		return policy.Signature{OpenPGP: data}
	}
	return policy.Signature{MediaType: sig.MediaType, Payload: sig.Payload, Annotations: sig.Annotations}
}

func readAtMost(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("larger than %d bytes", most)
	}
	return data, err
}

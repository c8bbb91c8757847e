package registrytest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry serves any repository name from one pool of blobs; tags are "repo:tag".
type Registry struct {
	Addr string // host:port

	server *httptest.Server
	mu     sync.Mutex
	blobs  Blobs
	types  map[digest.Digest]string
	tags   map[string]digest.Digest
	user   string // "" asks for nothing
	pass   string
	token  bool   // bearer tokens rather than basic
	realm  string // of the token service; "" is this one
	hits   map[string]int
	log    []Request
	fault  func(w http.ResponseWriter, r *http.Request) bool
	pushes pushes
}

// New starts a registry over plain http on 127.0.0.1.
func New() *Registry {
	r := &Registry{blobs: Blobs{}, types: map[digest.Digest]string{}, tags: map[string]digest.Digest{}, hits: map[string]int{}}
	r.server = httptest.NewUnstartedServer(r) // who serves reads this field
	r.server.Start()
	r.Addr = strings.TrimPrefix(r.server.URL, "http://")
	return r
}

// NewTLS starts one over https. Its certificate is for 127.0.0.1 and example.com.
func NewTLS() *Registry {
	r := New()
	r.server.Close()
	r.server = httptest.NewUnstartedServer(r)
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that are to fail
	r.server.StartTLS()
	r.Addr = strings.TrimPrefix(r.server.URL, "https://")
	return r
}

// CA is the authority of NewTLS's certificates, as a certs.d has it.
func (r *Registry) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.server.Certificate().Raw})
}

// URL is the server's own: http://host:port, or https.
func (r *Registry) URL() string { return r.server.URL }

// Close ends it, and every connection.
func (r *Registry) Close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// Add serves an image as "repo:tag" and returns the reference to pull and the manifest's digest.
func (r *Registry) Add(name string, i Image) (ref string, manifest digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := Blobs{}
	d := i.Build(own)
	repo, _, _ := strings.Cut(name, ":")
	for blob, data := range own {
		r.blobs[blob] = data
		r.holds(repo, blob)
	}
	return r.tag(name, d), d.Digest
}

// AddIndex serves an index of images.
func (r *Registry) AddIndex(name string, images ...Image) (ref string, index digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ms []v1.Descriptor
	for _, i := range images {
		d := i.Build(r.blobs)
		r.types[d.Digest] = d.MediaType
		ms = append(ms, d)
	}
	d := Index(r.blobs, ms...)
	return r.tag(name, d), d.Digest
}

// AddManifest serves any bytes as a manifest.
func (r *Registry) AddManifest(name, mediaType string, data []byte) (ref string, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	desc := r.blobs.Put(mediaType, data)
	return r.tag(name, desc), desc.Digest
}

func (r *Registry) tag(name string, d v1.Descriptor) string {
	r.tags[name] = d.Digest
	r.types[d.Digest] = d.MediaType
	return r.Addr + "/" + name
}

// SetBlob serves other bytes under a digest: a registry that lies. nil makes them missing.
func (r *Registry) SetBlob(d digest.Digest, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data == nil {
		delete(r.blobs, d)
		return
	}
	r.blobs[d] = data
}

// Blob returns what is served under a digest.
func (r *Registry) Blob(d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blobs[d]
}

// RequireLogin asks for credentials: basic, or for a bearer token got with them.
func (r *Registry) RequireLogin(user, pass string, token bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.user, r.pass, r.token = user, pass, token
}

// SetRealm has the challenge name another token service.
func (r *Registry) SetRealm(url string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.realm = url
}

// SetTag moves a tag, or makes it.
func (r *Registry) SetTag(name string, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags[name] = d
}

// Request is one that came.
type Request struct {
	Method, Path, Query  string
	Authorization, Range string
	Referer              string
}

// Log is what was asked since the last call.
func (r *Registry) Log() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.log
	r.log = nil
	return out
}

// SetFault has f look at every request first; true says that f has answered it. nil ends that.
func (r *Registry) SetFault(f func(w http.ResponseWriter, r *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = f
}

// Hits tells how often a path was asked for; Hits("") is of everything.
func (r *Registry) Hits(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hits[path]
}

// BlobHits tells how often a blob was asked for, of whatever repository.
func (r *Registry) BlobHits(d digest.Digest) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for path, hits := range r.hits {
		if strings.HasSuffix(path, "/blobs/"+string(d)) {
			n += hits
		}
	}
	return n
}

const theToken = "registrytest-token"

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.hits[req.URL.Path]++
	r.hits[""]++
	r.log = append(r.log, Request{req.Method, req.URL.Path, req.URL.RawQuery, req.Header.Get("Authorization"), req.Header.Get("Range"), req.Header.Get("Referer")})
	fault := r.fault
	r.mu.Unlock()
	if fault != nil && fault(w, req) {
		return
	}
	if req.URL.Path == "/token" {
		r.serveToken(w, req)
		return
	}
	if !r.allowed(w, req) {
		return
	}
	path, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok {
		http.NotFound(w, req)
		return
	}
	if path == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if repo, name, ok := strings.Cut(path, "/manifests/"); ok && req.Method == http.MethodPut {
		r.takeManifest(w, req, repo, name)
		return
	} else if ok {
		r.serveManifest(w, req, repo, name)
		return
	}
	if repo, name, ok := strings.Cut(path, "/blobs/"); ok {
		if r.serveUpload(w, req, repo, name) {
			return
		}
		if !r.hasIn(repo, digest.Digest(name)) {
			fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "not here")
			return
		}
		r.serve(w, req, digest.Digest(name), "application/octet-stream")
		return
	}
	http.NotFound(w, req)
}

func (r *Registry) allowed(w http.ResponseWriter, req *http.Request) bool {
	r.mu.Lock()
	user, pass, token, realm := r.user, r.pass, r.token, r.realm
	r.mu.Unlock()
	if realm == "" {
		realm = r.URL() + "/token"
	}
	if user == "" {
		return true
	}
	challenge := `Basic realm="registrytest"`
	if token {
		if req.Header.Get("Authorization") == "Bearer "+theToken {
			return true
		}
		challenge = fmt.Sprintf(`Bearer realm="%s",service="registrytest"`, realm)
	} else if u, p, ok := req.BasicAuth(); ok && u == user && p == pass {
		return true
	}
	w.Header().Set("WWW-Authenticate", challenge)
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
	return false
}

func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	user, pass := r.user, r.pass
	r.mu.Unlock()
	if u, p, _ := req.BasicAuth(); u != user || p != pass {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "no such user or password")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": theToken})
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, repo, name string) {
	d := digest.Digest(name)
	r.mu.Lock()
	if !strings.Contains(name, ":") {
		d = r.tags[repo+":"+name]
	}
	mediaType := r.types[d]
	r.mu.Unlock()
	if r.Blob(d) == nil {
		fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "not here")
		return
	}
	r.serve(w, req, d, mediaType)
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request, d digest.Digest, mediaType string) {
	data := r.Blob(d)
	if data == nil {
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "not here")
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", string(d))
	if from, ok := rangeFrom(req); ok && from < len(data) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
		w.WriteHeader(http.StatusPartialContent)
		data = data[from:]
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	}
	if req.Method != http.MethodHead {
		_, _ = w.Write(data)
	}
}

// rangeFrom is N of "bytes=N-", the only Range that is asked for.
func rangeFrom(req *http.Request) (int, bool) {
	n, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
	from, err := strconv.Atoi(strings.TrimSuffix(n, "-"))
	return from, ok && err == nil
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

// AuthFile is the text of a containers-auth.json(5) with credentials for the registry.
func (r *Registry) AuthFile(user, pass string) []byte {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + pass))
	data, err := json.Marshal(map[string]any{"auths": map[string]any{r.Addr: map[string]string{"auth": auth}}})
	must(err)
	return data
}

// WriteLayout writes an OCI layout of images, by tag, into dir.
func WriteLayout(dir string, images map[string]Image) error {
	b := Blobs{}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}}
	for tag, i := range images {
		d := i.Build(b)
		d.Annotations = map[string]string{v1.AnnotationRefName: tag}
		index.Manifests = append(index.Manifests, d)
	}
	for d, data := range b {
		file := filepath.Join(dir, "blobs", string(d.Algorithm()), d.Encoded())
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "index.json"), data, 0o644)
}

// NewCA is an authority, as a certs.d has it, that has signed nothing.
func NewCA() []byte {
	_, key, err := ed25519.GenerateKey(nil)
	must(err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

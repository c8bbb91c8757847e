package registrytest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

// pushes is what the registry knows of uploads.
type pushes struct {
	next    int
	uploads map[string][]byte
	repos   map[string]map[digest.Digest]bool // nil: every repository has every blob
	log     []string
}

// Separate keeps the repositories apart: one has the blobs that were added or pushed to it, or mounted, from now on,
// and no others.
func (r *Registry) Separate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushes.repos = map[string]map[digest.Digest]bool{}
}

// Pushed tells what was taken in, in order: "blob REPO DIGEST", "mount REPO DIGEST", "manifest REPO:TAG DIGEST".
func (r *Registry) Pushed() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.pushes.log...)
}

// Manifest returns what a tag, "repo:tag", names, and what it calls itself.
func (r *Registry) Manifest(name string) (d digest.Digest, mediaType string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d = r.tags[name]
	return d, r.types[d], r.blobs[d]
}

// holds puts blobs into a repository. The caller has the lock.
func (r *Registry) holds(repo string, ds ...digest.Digest) {
	if r.pushes.repos == nil {
		return
	}
	if r.pushes.repos[repo] == nil {
		r.pushes.repos[repo] = map[digest.Digest]bool{}
	}
	for _, d := range ds {
		r.pushes.repos[repo][d] = true
	}
}

func (r *Registry) hasIn(repo string, d digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blobs[d] != nil && (r.pushes.repos == nil || r.pushes.repos[repo][d])
}

// serveUpload answers what pushes a blob, and says whether it was that.
func (r *Registry) serveUpload(w http.ResponseWriter, req *http.Request, repo, name string) bool {
	id, ok := strings.CutPrefix(name, "uploads/")
	if !ok {
		return false
	}
	if id == "" {
		r.beginUpload(w, req, repo)
		return true
	}
	r.mu.Lock()
	have, known := r.pushes.uploads[id]
	r.mu.Unlock()
	if !known {
		fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
		return true
	}
	if req.Method == http.MethodDelete {
		r.forgetUpload(id)
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client broke off
	}
	have = append(have, body...)
	if req.Method == http.MethodPatch {
		r.mu.Lock()
		r.pushes.uploads[id] = have
		r.mu.Unlock()
		r.accepted(w, repo, id, len(have))
		return true
	}
	r.forgetUpload(id)
	r.finishUpload(w, repo, digest.Digest(req.URL.Query().Get("digest")), have)
	return true
}

// beginUpload is POST: a mount, a whole blob at once, or a place to send one.
func (r *Registry) beginUpload(w http.ResponseWriter, req *http.Request, repo string) {
	if req.Method != http.MethodPost {
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "POST")
		return
	}
	q := req.URL.Query()
	if d := digest.Digest(q.Get("mount")); d != "" && r.hasIn(q.Get("from"), d) {
		r.taken(w, repo, d, "mount")
		return
	}
	if d := digest.Digest(q.Get("digest")); d != "" {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.finishUpload(w, repo, d, body)
		return
	}
	r.mu.Lock()
	r.pushes.next++
	id := fmt.Sprint(r.pushes.next)
	if r.pushes.uploads == nil {
		r.pushes.uploads = map[string][]byte{}
	}
	r.pushes.uploads[id] = []byte{}
	r.mu.Unlock()
	r.accepted(w, repo, id, 0)
}

func (r *Registry) accepted(w http.ResponseWriter, repo, id string, have int) {
	w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(have-1, 0)))
	w.WriteHeader(http.StatusAccepted)
}

func (r *Registry) forgetUpload(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pushes.uploads, id)
}

func (r *Registry) finishUpload(w http.ResponseWriter, repo string, d digest.Digest, data []byte) {
	if d.Validate() != nil || d.Algorithm().FromBytes(data) != d {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "other bytes came")
		return
	}
	r.mu.Lock()
	r.blobs[d] = data
	r.mu.Unlock()
	r.taken(w, repo, d, "blob")
}

func (r *Registry) taken(w http.ResponseWriter, repo string, d digest.Digest, how string) {
	r.mu.Lock()
	r.holds(repo, d)
	r.pushes.log = append(r.pushes.log, how+" "+repo+" "+string(d))
	r.mu.Unlock()
	w.Header().Set("Location", "/v2/"+repo+"/blobs/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
}

// takeManifest is PUT of a manifest, all of whose blobs have to be there.
func (r *Registry) takeManifest(w http.ResponseWriter, req *http.Request, repo, tag string) {
	data, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	type named struct{ Digest digest.Digest }
	var m struct {
		Config            named
		Layers, Manifests []named
	}
	if err := json.Unmarshal(data, &m); err != nil {
		fail(w, http.StatusBadRequest, "MANIFEST_INVALID", "not JSON")
		return
	}
	if len(m.Manifests) == 0 {
		for _, n := range append(m.Layers, m.Config) {
			if !r.hasIn(repo, n.Digest) {
				fail(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", string(n.Digest))
				return
			}
		}
	}
	r.mu.Lock()
	d := digest.FromBytes(data)
	r.blobs[d] = data
	r.types[d] = req.Header.Get("Content-Type")
	r.tags[repo+":"+tag] = d
	r.pushes.log = append(r.pushes.log, "manifest "+repo+":"+tag+" "+string(d))
	r.mu.Unlock()
	w.Header().Set("Location", "/v2/"+repo+"/manifests/"+string(d))
	w.Header().Set("Docker-Content-Digest", string(d))
	w.WriteHeader(http.StatusCreated)
}

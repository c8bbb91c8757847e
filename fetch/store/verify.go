package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"cove/fetch/layer"
	"cove/fetch/oci"
)

// Verification is what a check of the store has found.
type Verification struct {
	Images   int       `json:"images"`
	Layers   int       `json:"layers"`
	Entries  int64     `json:"entries"`
	Bytes    int64     `json:"bytes"` // contents of files that were read
	Problems []Problem `json:"problems"`
	// Found is how many problems there are: of one layer no more than layer.MaxFindings are among Problems.
	Found int64 `json:"found"`
}

// Problem is one thing that is not as it was when it came.
type Problem struct {
	Refs   []string     `json:"refs,omitempty"` // the images that it is part of, by name
	What   What         `json:"what"`
	Path   string       `json:"path"`             // on this machine
	Digest oci.Digest   `json:"digest,omitempty"` // what Path should be
	Entry  *string      `json:"entry,omitempty"`  // of a layer: the file in it, escapes written as Go does
	Kind   layer.Damage `json:"kind"`
	Detail string       `json:"detail,omitempty"`
}

// What is a part of the store.
type What string

// The parts of the store that are checked.
const (
	NameFile     What = "name"
	RecordFile   What = "record"
	ManifestBlob What = "manifest"
	IndexBlob    What = "index"
	ConfigBlob   What = "config"
	LayerDir     What = "layer"
	ListFile     What = "listing"
)

// Damaged is what happened to a file of the store's own; Unlisted what a layer is that an older cove has unpacked: it
// may be right, but nothing says so.
const (
	Damaged  layer.Damage = "damaged"
	Unlisted layer.Damage = "unlisted"
)

// Verify checks everything that is in the store, or the images that refs mean: from the names over the records, manifests
// and configs down to each file of each layer. What it finds is in the result; an error means that it could not look.
//
// An image is marked as in use while it is checked, as by a sandbox, so that nothing of it is collected; no other lock
// is held. Pull replaces what has been found damaged. An error beside a result says that pull could not be told.
func (s *Store) Verify(ctx context.Context, refs ...string) (*Verification, error) {
	v := &verifier{s: s, ctx: ctx, out: Verification{Problems: []Problem{}}, layers: map[string]*layerCheck{}, refs: map[oci.Digest][]string{}}
	if err := v.run(refs); err != nil {
		return nil, err
	}
	return &v.out, v.unmarked
}

type verifier struct {
	s    *Store
	ctx  context.Context
	refs map[oci.Digest][]string // manifest -> names

	order  []*layerCheck
	layers map[string]*layerCheck // KEY/HEX

	mu       sync.Mutex // of the rest, while layers are checked
	out      Verification
	unmarked error
}

func (v *verifier) add(p Problem) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Problems = append(v.out.Problems, p)
	v.out.Found++
}

func (v *verifier) run(refs []string) error {
	handles, err := v.choose(refs)
	if err != nil {
		return err
	}
	for _, h := range handles {
		release, err := v.s.Use(h)
		if errors.Is(err, ErrNotFound) {
			continue // it has just been removed
		}
		if err == nil {
			defer release()
		} else if !readOnly(err) && !full(err) { // where no lock can be made there is none
			return err
		}
		v.image(h)
	}
	return v.allLayers()
}

// choose returns the records to check: all, with the names, or those of what refs mean.
func (v *verifier) choose(refs []string) ([]Handle, error) {
	names, err := v.names(len(refs) == 0)
	if err != nil {
		return nil, err
	}
	all, err := v.s.records()
	if err != nil {
		return nil, err
	}
	known := map[oci.Digest]bool{}
	for _, h := range all {
		known[h.Manifest] = true
	}
	wanted := map[oci.Digest]bool{}
	for _, ref := range refs {
		found, err := v.s.meant(ref, names, all)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("image %q: %w", ref, ErrNotFound)
		}
		for _, d := range found {
			wanted[d] = true
		}
	}
	for _, n := range names {
		if len(refs) > 0 && !wanted[n.Manifest] {
			continue
		}
		v.index(n)
		if !known[n.Manifest] && !v.s.hasRecord(n.Manifest) && v.s.still(n) {
			v.add(Problem{Refs: []string{n.Ref}, What: RecordFile, Path: v.s.path("images"), Digest: n.Manifest, Kind: layer.Missing})
		}
	}
	return slices.DeleteFunc(all, func(h Handle) bool { return len(refs) > 0 && !wanted[h.Manifest] }), nil
}

// names reads all names, and with tell says which of them cannot be read.
func (v *verifier) names(tell bool) ([]Name, error) {
	files, err := listDir(v.s.path("names"))
	if err != nil {
		return nil, err
	}
	var out []Name
	for _, f := range files {
		n, err := v.s.readName(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			if tell {
				v.add(Problem{What: NameFile, Path: v.s.path("names", f), Kind: Damaged, Detail: "`cove gc` removes it; the image it named is to be pulled again"})
			}
			continue
		}
		out = append(out, n)
		v.refs[n.Manifest] = append(v.refs[n.Manifest], n.Ref)
	}
	for d, refs := range v.refs {
		slices.Sort(refs)
		v.refs[d] = slices.Compact(refs)
	}
	return out, nil
}

// meant returns the manifests that ref means, whether or not what they name can be read.
func (s *Store) meant(ref string, names []Name, all []Handle) ([]oci.Digest, error) {
	var out []oci.Digest
	for _, n := range names {
		if n.means(ref) && !slices.Contains(out, n.Manifest) {
			out = append(out, n.Manifest)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	found, err := s.Find(ref)
	for _, i := range found {
		out = append(out, i.Digest)
	}
	for _, h := range all { // by the whole digest, where nothing else of it can be read
		if string(h.Manifest) == ref && !slices.Contains(out, h.Manifest) {
			out = append(out, h.Manifest)
		}
	}
	return out, err
}

// still tells whether a name that was read is there, and names the same: who removes an image begins with its names, and a
// pull ends with them.
func (s *Store) still(n Name) bool {
	now, err := s.readName(filepath.Base(s.namePath(n.key(), n.Platform)))
	return err == nil && now == n
}

func (s *Store) hasRecord(d oci.Digest) bool {
	handles, err := s.records()
	return err == nil && slices.ContainsFunc(handles, func(h Handle) bool { return h.Manifest == d })
}

// index checks the document that a name goes through. Nothing runs from it: it serves references by digest.
func (v *verifier) index(n Name) {
	if n.Index == "" {
		return
	}
	if _, kind, detail := v.blob(n.Index); kind != "" && v.s.still(n) {
		v.add(Problem{Refs: []string{n.Ref}, What: IndexBlob, Path: v.s.blobPath(n.Index), Digest: n.Index, Kind: kind, Detail: detail})
	}
}

func (v *verifier) blob(d oci.Digest) (data []byte, kind layer.Damage, detail string) {
	data, err := os.ReadFile(v.s.blobPath(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, layer.Missing, ""
	case err != nil:
		return nil, layer.Unreadable, err.Error()
	case !d.Names(data):
		return nil, Damaged, "its digest is " + string(d.Of(data))
	}
	return data, "", ""
}

// image checks a record with the documents that it is made of, and notes its layers.
func (v *verifier) image(h Handle) {
	v.out.Images++
	refs := v.refs[h.Manifest]
	if refs == nil {
		refs = []string{string(h.Manifest)}
	}
	bad := func(what What, path string, d oci.Digest, kind layer.Damage, detail string) {
		v.add(Problem{Refs: refs, What: what, Path: path, Digest: d, Kind: kind, Detail: detail})
	}
	rec := &Record{}
	if err := readJSON(v.s.recordPath(h), rec); err != nil {
		bad(RecordFile, v.s.recordPath(h), h.Manifest, Damaged, "")
		rec = nil
	} else if why := rec.odd(h); why != "" {
		bad(RecordFile, v.s.recordPath(h), h.Manifest, Damaged, why)
		rec = nil
	}
	var doc oci.Document
	manifest, kind, detail := v.blob(h.Manifest)
	if kind == "" && json.Unmarshal(manifest, &doc) != nil {
		kind = Damaged
	}
	if kind != "" {
		bad(ManifestBlob, v.s.blobPath(h.Manifest), h.Manifest, kind, detail)
	}
	configID := oci.Digest("")
	switch {
	case rec != nil:
		configID = rec.ConfigID
	case doc.Config != nil:
		configID = doc.Config.Digest
	}
	if configID.Validate() != nil {
		return
	}
	var config oci.Image
	data, ckind, detail := v.blob(configID)
	if ckind == "" && json.Unmarshal(data, &config) != nil {
		ckind = Damaged
	}
	if ckind != "" {
		bad(ConfigBlob, v.s.blobPath(configID), configID, ckind, detail)
	}
	if rec == nil {
		return
	}
	if kind == "" && ckind == "" {
		if why := rec.differs(&doc, &config); why != "" {
			bad(RecordFile, v.s.recordPath(h), h.Manifest, Damaged, why)
			return
		}
	}
	v.note(h, rec, refs)
}

// odd says what in a record cannot be, before anything in it is used.
func (r *Record) odd(h Handle) string {
	switch {
	case r.Manifest != h.Manifest:
		return "it is another image's"
	case r.IDMap.Key() != h.Key:
		return "it is for other ids"
	}
	for _, l := range r.Layers {
		if l.DiffID.Validate() != nil || oci.FromEncoded(l.Dir).Validate() != nil {
			return "its layers have no digests"
		}
	}
	return ""
}

// differs says in what a record is not what the manifest and config say.
func (r *Record) differs(doc *oci.Document, config *oci.Image) string {
	if doc.Config == nil || doc.Config.Digest != r.ConfigID || len(doc.Layers) != len(r.Layers) || len(config.RootFS.DiffIDs) != len(r.Layers) {
		return "it is not what the manifest says"
	}
	for n, l := range r.Layers {
		if l.Digest != doc.Layers[n].Digest || l.Size != doc.Layers[n].Size || l.DiffID != config.RootFS.DiffIDs[n] {
			return fmt.Sprintf("of layer %d it is not what manifest and config say", n+1)
		}
	}
	one, err1 := json.Marshal(r.Config)
	two, err2 := json.Marshal(config.Config)
	if err1 != nil || err2 != nil || string(one) != string(two) {
		return "it is not what the config says"
	}
	return ""
}

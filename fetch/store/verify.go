package store

import (
	"cmp"
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
	"cove/fetch/layer/list"
	"cove/fetch/oci"
	"cove/userns"
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

// side is how many layers are checked at once.
const side = 2

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

// layerCheck is a layer to be checked, once for all images that have it.
type layerCheck struct {
	key   string
	idmap userns.IDMap
	rec   LayerRecord
	refs  []string
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
		if !slices.Contains(v.refs[n.Manifest], n.Ref) {
			v.refs[n.Manifest] = append(v.refs[n.Manifest], n.Ref)
		}
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

// note puts a record's layers on the list.
func (v *verifier) note(h Handle, rec *Record, refs []string) {
	for _, l := range rec.Layers {
		name := h.Key + "/" + l.Dir
		c := v.layers[name]
		if c == nil {
			c = &layerCheck{key: h.Key, idmap: rec.IDMap, rec: l}
			v.layers[name] = c
			v.order = append(v.order, c)
		}
		for _, r := range refs {
			if !slices.Contains(c.refs, r) {
				c.refs = append(c.refs, r)
			}
		}
	}
}

// allLayers checks the layers, those of one mapping in one stage.
func (v *verifier) allLayers() error {
	for len(v.order) > 0 {
		key := v.order[0].key
		var mine, rest []*layerCheck
		for _, c := range v.order {
			if c.key == key {
				mine = append(mine, c)
			} else {
				rest = append(rest, c)
			}
		}
		v.order = rest
		if err := v.keyLayers(mine); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) keyLayers(checks []*layerCheck) error {
	dir := v.s.path("layers", checks[0].key)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		for _, c := range checks {
			v.layer(nil, c)
		}
		return nil
	}
	stage, err := layer.Start(v.ctx, checks[0].idmap, dir)
	if err != nil {
		return fmt.Errorf("check %s: %w", dir, err)
	}
	stop := context.AfterFunc(v.ctx, stage.Interrupt)
	work := make(chan *layerCheck)
	errs := make(chan error, side)
	for range side {
		go func() {
			var err error
			for c := range work {
				if err == nil {
					err = v.layer(stage, c)
				}
			}
			errs <- err
		}()
	}
	for _, c := range checks {
		work <- c
	}
	close(work)
	for range side {
		err = errors.Join(err, <-errs)
	}
	stop()
	err = errors.Join(err, stage.Close())
	if v.ctx.Err() != nil {
		return context.Cause(v.ctx)
	}
	return err
}

// layer checks one layer, again when a pull has replaced it meanwhile, and marks it for the next pull when it is not
// what its listing says.
func (v *verifier) layer(stage *layer.Session, c *layerCheck) error {
	for {
		ino, err := v.s.layerInode(c.key, c.rec.Dir)
		problems, sum, cerr := []Problem(nil), layer.Result{}, error(nil)
		if err != nil {
			problems = []Problem{c.problem(v.s, layer.Missing, "")}
		} else {
			problems, sum, cerr = v.compare(stage, c)
		}
		now, nerr := v.s.layerInode(c.key, c.rec.Dir)
		if nerr == nil && now != ino {
			continue
		}
		if cerr != nil {
			return cerr
		}
		v.tell(problems, sum)
		if err == nil { // what is not there needs no mark
			err = v.s.remember(c.key, c.rec.Dir, ino, len(problems) > 0)
			v.mu.Lock()
			v.unmarked = cmp.Or(v.unmarked, err)
			v.mu.Unlock()
		}
		return nil
	}
}

// remember sets or clears a layer's mark. A store that cannot be written can still be checked.
func (s *Store) remember(key, dir string, ino uint64, damaged bool) error {
	if s.marked(key, dir, ino) == damaged {
		return nil
	}
	err := error(nil)
	if damaged {
		err = s.setMark(key, dir, ino)
	} else {
		err = s.clearMark(key, dir)
	}
	if err != nil && !readOnly(err) {
		return fmt.Errorf("mark layer for the next pull: %w", err)
	}
	return nil
}

func (v *verifier) tell(problems []Problem, sum layer.Result) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Layers++
	v.out.Entries += sum.Entries
	v.out.Bytes += sum.Bytes
	v.out.Problems = append(v.out.Problems, problems...)
	v.out.Found += max(sum.Found, int64(len(problems)))
}

func (c *layerCheck) problem(s *Store, kind layer.Damage, detail string) Problem {
	return Problem{Refs: c.refs, What: LayerDir, Path: s.path("layers", c.key, c.rec.Dir), Digest: c.rec.DiffID, Kind: kind, Detail: detail}
}

// compare compares a layer that is there with its listing.
func (v *verifier) compare(stage *layer.Session, c *layerCheck) ([]Problem, layer.Result, error) {
	f, err := v.s.OpenList(c.key, c.rec.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return []Problem{c.problem(v.s, Unlisted, "")}, layer.Result{}, nil
	}
	listing := Problem{Refs: c.refs, What: ListFile, Path: v.s.listPath(c.key, c.rec.Dir), Digest: c.rec.DiffID, Kind: Damaged}
	if err == nil {
		defer f.Close()
		_, err = list.NewReader(f, string(c.rec.DiffID))
	}
	if err != nil {
		listing.Detail = err.Error()
		return []Problem{listing}, layer.Result{}, nil
	}
	res, err := stage.Check(layer.Place{Name: c.rec.Dir}, f, string(c.rec.DiffID))
	if err != nil {
		return nil, res, fmt.Errorf("check layer %s: %w", filepath.Join(v.s.path("layers", c.key), c.rec.Dir), err)
	}
	var out []Problem
	for _, found := range res.Findings {
		p := c.problem(v.s, found.Kind, found.Detail)
		entry := oci.Clean(string(found.Path))
		p.Entry = &entry
		out = append(out, p)
	}
	return out, res, nil
}

package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"cove/fetch/layer"
	"cove/fetch/layer/list"
	"cove/fetch/oci"
	"cove/userns"
)

// side is how many layers are checked at once.
const side = 2

// layerCheck is a layer to be checked, once for all images that have it.
type layerCheck struct {
	key   string
	idmap userns.IDMap
	rec   LayerRecord
	refs  []string
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

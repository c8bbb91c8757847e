package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// Removed says what a removal took away.
type Removed struct {
	Names  []string     `json:"names"`  // references
	Images []oci.Digest `json:"images"` // manifests
	Layers int          `json:"layers"`
	Bytes  int64        `json:"bytes"` // of the layers, unpacked
	Kept   []oci.Digest `json:"kept"`  // images that something runs from: the next collection takes them
}

// Remove takes the image's names away, or that one name when it is one, and then everything
// that only it held. An image in use stays until it is not.
func (s *Store) Remove(ctx context.Context, ref string) (Removed, error) {
	found, err := s.Find(ref)
	if err != nil {
		return Removed{}, fmt.Errorf("remove image %q: %w", ref, err)
	}
	if len(found) == 0 {
		return Removed{}, fmt.Errorf("remove image %q: %w", ref, ErrNotFound)
	}
	names, err := s.names()
	if err != nil {
		return Removed{}, err
	}
	digests := map[oci.Digest]bool{}
	for _, f := range found {
		digests[f.Digest] = true
	}
	byName, canonical := false, map[string]bool{}
	for _, n := range names {
		if digests[n.Manifest] && n.means(ref) {
			byName, canonical[n.Ref] = true, true
		}
	}
	if !byName && len(found) > 1 {
		return Removed{}, fmt.Errorf("remove image %q: it means %d images; give more of the digest", ref, len(found))
	}
	var gone []string
	for _, n := range names {
		if !digests[n.Manifest] || byName && !canonical[n.Ref] {
			continue
		}
		if err := removeIfThere(s.namePath(n.key(), n.Platform)); err != nil {
			return Removed{}, fmt.Errorf("remove image %q: %w", ref, err)
		}
		if !slices.Contains(gone, n.Ref) {
			gone = append(gone, n.Ref)
		}
	}
	// A pull at work keeps the store; what is left over then, the next collection finds.
	r, err := s.collect(ctx, false)
	r.Names = gone
	return r, err
}

// Collect removes everything that no name leads to and nothing runs from, and what interrupted
// commands left. It waits for pulls at work.
func (s *Store) Collect(ctx context.Context) (Removed, error) {
	if err := s.Sweep(ctx); err != nil {
		return Removed{}, err
	}
	return s.collect(ctx, true)
}

func (s *Store) collect(ctx context.Context, wait bool) (r Removed, err error) {
	var lock *os.File
	if wait {
		lock, err = waitLock(ctx, s.path("lock"), unix.LOCK_EX)
	} else {
		lock, err = tryLock(s.path("lock"), unix.LOCK_EX)
	}
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	if lock == nil {
		return r, nil
	}
	defer lock.Close()
	live, err := s.dropRecords(&r)
	if err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	if err := s.dropBlobs(live); err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	if err := s.dropLayers(ctx, live, &r); err != nil {
		return r, fmt.Errorf("collect: %w", err)
	}
	return r, s.dropLocks()
}

// liveSet is what must stay.
type liveSet struct {
	blobs  map[oci.Digest]bool
	layers map[string]bool // KEY/HEX
}

// dropRecords removes the records that no name leads to and nothing runs from.
func (s *Store) dropRecords(r *Removed) (*liveSet, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	named := map[oci.Digest]bool{}
	live := &liveSet{blobs: map[oci.Digest]bool{}, layers: map[string]bool{}}
	for _, n := range names {
		named[n.Manifest] = true
		live.blobs[n.Index] = true
	}
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, h := range handles {
		rec := &Record{}
		if err := readJSON(s.recordPath(h), rec); err != nil {
			rec = nil // damaged: nothing can be believed of it
		}
		keep := rec != nil && named[h.Manifest]
		if !keep {
			dropped, err := s.dropRecord(h)
			if err != nil {
				return nil, err
			}
			if dropped {
				r.Images = append(r.Images, h.Manifest)
			} else {
				r.Kept = append(r.Kept, h.Manifest)
				keep = rec != nil
			}
		}
		if rec == nil {
			continue
		}
		for _, l := range rec.Layers {
			sizes[h.Key+"/"+l.Dir] = l.Bytes
			if keep {
				live.layers[h.Key+"/"+l.Dir] = true
			}
		}
		if keep {
			live.blobs[rec.Manifest], live.blobs[rec.ConfigID] = true, true
		}
	}
	for name, size := range sizes {
		if !live.layers[name] {
			r.Bytes += size
		}
	}
	return live, nil
}

// dropRecord removes a record when nothing runs from its image.
func (s *Store) dropRecord(h Handle) (bool, error) {
	lock, err := tryLock(s.usePath(h), unix.LOCK_EX)
	if err != nil || lock == nil {
		return false, err
	}
	defer lock.Close()
	if err := removeIfThere(s.recordPath(h)); err != nil {
		return false, err
	}
	return true, removeIfThere(s.usePath(h))
}

func (s *Store) dropBlobs(live *liveSet) error {
	for _, algorithm := range oci.Algorithms() {
		blobs, err := listDir(s.path("blobs", algorithm))
		if err != nil {
			return err
		}
		for _, b := range blobs {
			if live.blobs[oci.Digest(algorithm+":"+b)] {
				continue
			}
			if err := removeIfThere(s.path("blobs", algorithm, b)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) dropLayers(ctx context.Context, live *liveSet, r *Removed) error {
	keys, err := s.keys()
	if err != nil {
		return err
	}
	w := remover{ctx: ctx}
	defer w.close()
	for _, key := range keys {
		layers, err := listDir(s.path("layers", key))
		if err != nil {
			return err
		}
		for _, name := range layers {
			if live.layers[key+"/"+name] || strings.HasPrefix(name, oldPrefix) && s.oldInUse(key, name) {
				continue
			}
			// First out of the way under a name that no one believes, then piece by piece.
			tmp := name
			if !strings.HasPrefix(name, ".") {
				tmp = ".tmp-" + randomID() + "-0"
				if err := os.Rename(s.path("layers", key, name), s.path("layers", key, tmp)); err != nil {
					return err
				}
				r.Layers++
			}
			if err := w.remove(s.path("layers", key, tmp)); err != nil {
				return err
			}
		}
		_ = os.Remove(s.path("layers", key)) // when it is empty
	}
	return s.dropLists()
}

// dropLists removes the listings and marks of layers that are gone.
func (s *Store) dropLists() error {
	keys, err := listDir(s.path("lists"))
	if err != nil {
		return err
	}
	for _, key := range keys {
		files, err := listDir(s.path("lists", key))
		if err != nil {
			return err
		}
		for _, f := range files {
			if s.HasLayer(key, strings.TrimSuffix(f, markSuffix)) {
				continue
			}
			if err := removeIfThere(s.path("lists", key, f)); err != nil {
				return err
			}
		}
		_ = os.Remove(s.path("lists", key)) // when it is empty
	}
	return nil
}

// dropLocks removes the locks of layers: whoever collects is alone.
func (s *Store) dropLocks() error {
	locks, err := listDir(s.path("locks"))
	if err != nil {
		return err
	}
	for _, l := range locks {
		if err := removeIfThere(s.path("locks", l)); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes what commands that were killed have left: unfinished layers, and the writable
// files of sandboxes. What is still at work holds its lock.
func (s *Store) Sweep(ctx context.Context) error {
	w := remover{ctx: ctx}
	defer w.close()
	sessions, err := listDir(s.path("tmp"))
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, id := range sessions {
		errs = append(errs, s.sweepSession(&w, id))
	}
	runs, err := listDir(s.path("run"))
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, id := range runs {
		errs = append(errs, s.sweepRun(&w, id))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

func (s *Store) sweepSession(w *remover, id string) error {
	path := s.path("tmp", id)
	if strings.HasPrefix(id, ".") { // a file that was being written
		if _, err := os.Lstat(path); err != nil {
			return nil
		}
		lock, err := tryLock(path, unix.LOCK_EX)
		if err != nil || lock == nil {
			return err
		}
		defer lock.Close()
		return removeIfThere(path)
	}
	lock, err := tryLockDir(path)
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	keys, err := s.keys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		layers, err := listDir(s.path("layers", key))
		if err != nil {
			return err
		}
		for _, l := range layers {
			if strings.HasPrefix(l, ".tmp-"+id+"-") {
				if err := w.remove(s.path("layers", key, l)); err != nil {
					return err
				}
			}
		}
	}
	return os.RemoveAll(path)
}

func (s *Store) sweepRun(w *remover, id string) error {
	lock, err := tryLockDir(s.path("run", id))
	if err != nil || lock == nil {
		return err
	}
	defer lock.Close()
	return w.remove(s.path("run", id))
}

// A remover removes trees, those of subordinate ids by way of a stage with all ids that this
// user can have. One stage serves all trees in one directory.
type remover struct {
	ctx   context.Context
	idmap *userns.IDMap // nil: everything this user may map
	dir   string
	stage *layer.Session
}

func (w *remover) remove(path string) error {
	err := os.RemoveAll(path)
	// os.RemoveAll has a descriptor for every level that it is down.
	if err == nil || os.Geteuid() == 0 || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EMFILE) {
		return err
	}
	dir, name := filepath.Split(path)
	if w.stage == nil || w.dir != dir {
		w.close()
		m, err := w.mapping()
		if err != nil {
			return fmt.Errorf("remove %s: %w", path, err)
		}
		if w.stage, err = layer.Start(w.ctx, m, dir); err != nil {
			return fmt.Errorf("remove %s: %w", path, err)
		}
		w.dir = dir
	}
	return w.stage.Remove(layer.Place{Name: name})
}

func (w *remover) close() {
	if w.stage != nil {
		w.stage.Close()
		w.stage = nil
	}
}

func (w *remover) mapping() (userns.IDMap, error) {
	if w.idmap != nil {
		return *w.idmap, nil
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	sub, err := userns.ReadSubIDs(name, uid)
	if err != nil {
		return userns.IDMap{}, err
	}
	return userns.Allocate(sub, uid, gid, 0, 0)
}

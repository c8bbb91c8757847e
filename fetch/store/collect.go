package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"cove/fetch/layer/list"
	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// Removed says what a removal took away.
type Removed struct {
	Names  []string     `json:"names"`  // references
	Images []oci.Digest `json:"images"` // manifests
	Setups int          `json:"setups"` // of Images, those that profiles' setups had made
	Layers int          `json:"layers"`
	Bytes  int64        `json:"bytes"` // on the disk
	Kept   []oci.Digest `json:"kept"`  // images that something runs from: the next collection takes them
	// Leftovers are unfinished layers and sandboxes' files that killed commands have left.
	Leftovers int `json:"leftovers"`
}

// Collect removes everything that no name leads to and nothing runs from, and what interrupted
// commands left. It waits for pulls at work. With dry it only says what it would remove.
func (s *Store) Collect(ctx context.Context, dry bool) (Removed, error) {
	c := collector{s: s, dry: dry, w: remover{ctx: ctx}}
	if err := c.sweep(true); err != nil {
		return Removed{}, err
	}
	err := c.collect(ctx, true)
	if err == nil {
		err = c.dropAllPrepared()
		c.w.close()
	}
	return c.r, err
}

// A collector gives disk back, or tells how much there would be.
type collector struct {
	s   *Store
	dry bool
	w   remover
	r   Removed
}

func (c *collector) collect(ctx context.Context, wait bool) (err error) {
	var lock *os.File
	if wait {
		lock, err = waitLock(ctx, c.s.path("lock"), unix.LOCK_EX)
	} else {
		lock, err = tryLock(c.s.path("lock"), unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	if lock == nil {
		return nil
	}
	defer lock.Close()
	defer c.w.close()
	live, err := c.dropRecords()
	if err == nil {
		err = c.dropBlobs(live)
	}
	if err == nil {
		err = c.dropLayers(live)
	}
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	if c.dry {
		return nil
	}
	return errors.Join(c.s.dropLists(), c.s.dropLocks())
}

// liveSet is what must stay.
type liveSet struct {
	blobs  map[oci.Digest]bool
	layers map[string]bool // KEY/HEX
	sizes  map[string]int64
}

// dropNames returns the names. Those that cannot be read lead nowhere, and go.
func (s *Store) dropNames(dry bool) ([]Name, error) {
	files, err := listDir(s.path("names"))
	if err != nil {
		return nil, err
	}
	var out []Name
	for _, f := range files {
		n, err := s.readName(f)
		switch {
		case err == nil:
			out = append(out, n)
		case errors.Is(err, ErrNotFound) && !dry:
			err = removeIfThere(s.path("names", f))
		case errors.Is(err, ErrNotFound), errors.Is(err, fs.ErrNotExist):
			err = nil
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// dropRecords removes the records that no name leads to and nothing runs from.
func (c *collector) dropRecords() (*liveSet, error) {
	s := c.s
	names, err := s.dropNames(c.dry)
	if err != nil {
		return nil, err
	}
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	if names, err = c.dropSetups(names, handles); err != nil {
		return nil, err
	}
	if err := c.dropSetupFiles(names); err != nil {
		return nil, err
	}
	named := map[oci.Digest]bool{}
	live := &liveSet{blobs: map[oci.Digest]bool{}, layers: map[string]bool{}, sizes: map[string]int64{}}
	for _, n := range names {
		named[n.Manifest] = true
		live.blobs[n.Index] = true
	}
	for _, h := range handles {
		rec := &Record{}
		if err := readJSON(s.recordPath(h), rec); err != nil {
			rec = nil // damaged: nothing can be believed of it
		}
		keep := rec != nil && named[h.Manifest]
		if !keep {
			dropped, err := c.dropRecord(h)
			if err != nil {
				return nil, err
			}
			if dropped {
				c.r.Images = append(c.r.Images, h.Manifest)
			} else {
				c.r.Kept = append(c.r.Kept, h.Manifest)
				keep = rec != nil
			}
		}
		if rec == nil {
			continue
		}
		for _, l := range rec.Layers {
			live.sizes[h.Key+"/"+l.Dir] = s.disk(h.Key, l)
			if keep {
				live.layers[h.Key+"/"+l.Dir] = true
			}
		}
		if keep {
			live.blobs[rec.Manifest], live.blobs[rec.ConfigID] = true, true
		}
	}
	return live, nil
}

// dropRecord removes a record when nothing runs from its image.
func (c *collector) dropRecord(h Handle) (bool, error) {
	s := c.s
	if c.dry {
		return !s.inUse(h), nil
	}
	lock, err := tryLock(s.usePath(h), unix.LOCK_EX)
	switch {
	case full(err): // there is no lock to be held, and nobody else can make one: this is what makes room
	case err != nil || lock == nil:
		return false, err
	default:
		defer lock.Close()
	}
	if err := removeIfThere(s.recordPath(h)); err != nil {
		return false, err
	}
	return true, removeIfThere(s.usePath(h))
}

func (c *collector) dropBlobs(live *liveSet) error {
	s := c.s
	for _, algorithm := range oci.Algorithms() {
		blobs, err := listDir(s.path("blobs", algorithm))
		if err != nil {
			return err
		}
		for _, b := range blobs {
			if live.blobs[oci.Digest(algorithm+":"+b)] {
				continue
			}
			path := s.path("blobs", algorithm, b)
			c.r.Bytes += blocks(path)
			if c.dry {
				continue
			}
			if err := removeIfThere(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collector) dropLayers(live *liveSet) error {
	keys, err := c.s.keys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		layers, err := listDir(c.s.path("layers", key))
		if err != nil {
			return err
		}
		used := c.s.usedLayers(key)
		for _, name := range layers {
			if live.layers[key+"/"+name] || strings.HasPrefix(name, oldPrefix) && used().old(name) {
				continue
			}
			if err := c.dropLayer(key, name, live.sizes); err != nil {
				return err
			}
		}
		if !c.dry {
			_ = os.Remove(c.s.path("layers", key)) // when it is empty
		}
	}
	return nil
}

func (c *collector) dropLayer(key, name string, sizes map[string]int64) error {
	path := c.s.path("layers", key, name)
	size, known := sizes[key+"/"+name]
	if i, err := list.Stat(c.s.listPath(key, name)); !known && err == nil {
		size, known = i.Disk, true
	}
	if !known {
		size = c.w.disk(path)
	}
	c.r.Bytes += size
	if strings.HasPrefix(name, ".") {
		c.r.Leftovers++
	} else {
		c.r.Layers++
	}
	if c.dry {
		return nil
	}
	if !strings.HasPrefix(name, ".") {
		// First out of the way under a name that no one believes, then piece by piece.
		tmp := c.s.path("layers", key, ".tmp-"+randomID()+"-0")
		if err := os.Rename(path, tmp); err != nil {
			return err
		}
		path = tmp
	}
	return c.w.remove(path)
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

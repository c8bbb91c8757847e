package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"cove/fetch/layer/list"
	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// listPath is where a layer's listing is.
func (s *Store) listPath(key, dir string) string { return s.path("lists", key, dir) }

// A mark says that a check found a layer damaged, or without a listing to be checked by. It speaks of one directory,
// not of whatever has that name later.
type mark struct {
	Inode uint64 `json:"inode"`
}

const markSuffix = ".damaged"

func (s *Store) markPath(key, dir string) string { return s.listPath(key, dir) + markSuffix }

// Whole tells whether the layer of that name is there and no check has found it damaged. It does not
// look into it.
func (s *Store) Whole(key, dir string) bool {
	ino, err := s.layerInode(key, dir)
	return err == nil && !s.marked(key, dir, ino)
}

// layerInode tells one layer's directory from another that had, or gets, its name.
func (s *Store) layerInode(key, dir string) (uint64, error) {
	var st unix.Stat_t
	path := s.path("layers", key, dir)
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, &os.PathError{Op: "lstat", Path: path, Err: unix.ENOTDIR}
	}
	return st.Ino, nil
}

func (s *Store) marked(key, dir string, ino uint64) bool {
	data, err := os.ReadFile(s.markPath(key, dir))
	if err != nil {
		return false
	}
	var m mark
	return json.Unmarshal(data, &m) != nil || m.Inode == ino
}

// setMark makes the next pull replace the layer, clearMark takes that back.
func (s *Store) setMark(key, dir string, ino uint64) error {
	if err := s.makeListDir(key); err != nil {
		return err
	}
	return s.writeJSON(s.markPath(key, dir), mark{ino})
}

func (s *Store) clearMark(key, dir string) error { return removeIfThere(s.markPath(key, dir)) }

// makeListDir makes lists/KEY, which a store that an older cove made has not.
func (s *Store) makeListDir(key string) error {
	if err := s.mkdir(s.path("lists")); err != nil {
		return err
	}
	return s.mkdir(s.path("lists", key))
}

// LayerInfo returns what is known of a layer that is here: from its listing or, where an older cove has unpacked it, from
// the record of some image.
func (s *Store) LayerInfo(key, dir string, diffID oci.Digest) list.Info {
	if i, err := list.Stat(s.listPath(key, dir)); err == nil && i.Label == string(diffID) {
		return i
	}
	rec, _ := s.LayerRecord(key, dir)
	return list.Info{Entries: rec.Entries, Bytes: rec.Bytes, Disk: rec.Disk}
}

// OpenList opens a layer's listing.
func (s *Store) OpenList(key, dir string) (*os.File, error) { return os.Open(s.listPath(key, dir)) }

// TempList makes the file for the listing of the layer that TempLayer made as tmp. PublishLayers
// puts it beside the layer.
func (a *Adding) TempList(tmp string) (*os.File, error) {
	return os.OpenFile(a.tempList(tmp), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

func (a *Adding) tempList(tmp string) string { return a.s.path("tmp", a.id, tmp) }

// publishLists gives listings their names. They come before their layers: a layer that is there has its own.
func (a *Adding) publishLists(names map[string]string) error {
	if err := a.s.makeListDir(a.key); err != nil {
		return err
	}
	for tmp, name := range names {
		err := os.Rename(a.tempList(tmp), a.s.listPath(a.key, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = removeIfThere(a.s.listPath(a.key, name)) // of the layer that was here before
		}
		if err != nil {
			return err
		}
	}
	return syncDir(a.s.path("lists", a.key))
}

// oldPrefix begins the names of layers that were replaced: ".old-HEX-ID". Sandboxes may still run from
// them.
const oldPrefix = ".old-"

// publishLayer gives the layer tmp its name. Where there is one of that name, a damaged one, sandboxes may run
// from that: it is not changed, but gives up its name, in one step, so that the name is never nobody's.
func (a *Adding) publishLayer(tmp, name string) error {
	from, to := filepath.Join(a.LayersDir(), tmp), filepath.Join(a.LayersDir(), name)
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL { // a file system that knows no flags: rename(2) itself replaces no directory but an empty one
		err = unix.Rename(from, to)
	}
	if err != unix.EEXIST && err != unix.ENOTEMPTY {
		return linkError("rename", from, to, err)
	}
	// Under the name that the old one will have: from here on nothing of it is this session's, whose leftovers
	// are anybody's to remove.
	old := filepath.Join(a.LayersDir(), oldPrefix+name+"-"+randomID())
	if err := os.Rename(from, old); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, old, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE)
	if err == unix.EINVAL {
		aside := filepath.Join(a.LayersDir(), oldPrefix+name+"-"+randomID())
		if err = os.Rename(to, aside); err == nil {
			err = unix.Rename(old, to)
		}
	}
	if err != nil {
		return linkError("rename", old, to, err)
	}
	return a.s.clearMark(a.key, name)
}

func linkError(op, from, to string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: from, New: to, Err: err}
}

// ClaimOld makes the replaced layers that nothing runs from this session's, whose Leftovers they
// become: who ends it removes them.
func (a *Adding) ClaimOld() error {
	names, err := listDir(a.LayersDir())
	if err != nil {
		return err
	}
	used := a.s.usedLayers(a.key)
	for _, name := range names {
		if !strings.HasPrefix(name, oldPrefix) || used().old(name) {
			continue
		}
		a.temps++
		err := os.Rename(filepath.Join(a.LayersDir(), name), filepath.Join(a.LayersDir(), fmt.Sprintf(".tmp-%s-%d", a.id, a.temps)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// layersInUse are those of images that something may run from, by name.
type layersInUse struct {
	dirs map[string]bool
	all  bool // nobody can tell
}

// usedLayers looks for them when it is first asked: every image is looked at, and there seldom is a replaced layer.
func (s *Store) usedLayers(key string) func() *layersInUse {
	return sync.OnceValue(func() *layersInUse {
		u := &layersInUse{dirs: map[string]bool{}}
		handles, err := s.records()
		u.all = err != nil
		for _, h := range handles {
			if h.Key != key || !s.inUse(h) {
				continue
			}
			rec := &Record{}
			if readJSON(s.recordPath(h), rec) != nil {
				u.all = true
			}
			for _, l := range rec.Layers {
				u.dirs[l.Dir] = true
			}
		}
		return u
	})
}

// old tells whether something may run from a replaced layer: from an image that has the layer of that name.
func (u *layersInUse) old(name string) bool {
	dir, _, _ := strings.Cut(strings.TrimPrefix(name, oldPrefix), "-")
	return u.all || u.dirs[dir]
}

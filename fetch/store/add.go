package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"cove/fetch/oci"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// An Adding is one pull at work in the store, for one id mapping: what it makes is nobody's
// until Publish, and what a kill leaves of it is known by its free lock.
type Adding struct {
	s     *Store
	id    string
	key   string
	idmap userns.IDMap
	locks []*os.File // the session's, the store's shared one, the layers'
	temps int
}

// Begin starts adding images for the mapping m. End must follow.
func (s *Store) Begin(ctx context.Context, m userns.IDMap) (*Adding, error) {
	a := &Adding{s: s, id: randomID(), key: m.Key(), idmap: m}
	if err := a.begin(ctx); err != nil {
		a.End()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return a, nil
}

func (a *Adding) begin(ctx context.Context) error {
	shared, err := waitLock(ctx, a.s.path("lock"), unix.LOCK_SH)
	if err != nil {
		return err
	}
	a.locks = append(a.locks, shared)
	// A store of an older cove lacks some folders, and one from which somebody has removed some must not lose a pull's work
	// at its end.
	if err := a.s.mkdirs(); err != nil {
		return err
	}
	for {
		if err := a.s.mkdir(a.s.path("tmp", a.id)); err == errSwept {
			continue
		} else if err != nil {
			return err
		}
		f, err := tryLockDir(a.s.path("tmp", a.id))
		if err != nil {
			return err
		}
		if f != nil { // else swept
			a.locks = append(a.locks, f)
			break
		}
	}
	dir := a.LayersDir()
	if err := a.s.mkdir(dir); err != nil {
		return err
	}
	return a.ownedByRootInside(dir)
}

// ownedByRootInside gives a directory to the mapping's root where the caller's own id is not
// mapped: when the caller is root on the host.
func (a *Adding) ownedByRootInside(dir string) error {
	if _, ok := a.idmap.ContainerUID(uint32(os.Geteuid())); ok {
		return nil
	}
	uid, ok1 := a.idmap.HostUID(0)
	gid, ok2 := a.idmap.HostGID(0)
	if !ok1 || !ok2 {
		return nil
	}
	return os.Chown(dir, int(uid), int(gid))
}

// LayersDir is the directory of the mapping's layers.
func (a *Adding) LayersDir() string { return a.s.path("layers", a.key) }

// LockLayers takes the right to make the layers with these diffIDs, and waits while another
// process makes one of them. All at once and in order, so that no two can wait for each other.
func (a *Adding) LockLayers(ctx context.Context, diffIDs []oci.Digest) error {
	ids := slices.Clone(diffIDs)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		f, err := waitLock(ctx, a.s.path("locks", a.key+"."+id.Encoded()), unix.LOCK_EX)
		if err != nil {
			return err
		}
		a.locks = append(a.locks, f)
	}
	return nil
}

// HasLayer tells whether the layer of that name is there.
func (s *Store) HasLayer(key, name string) bool {
	st, err := os.Lstat(s.path("layers", key, name))
	return err == nil && st.IsDir()
}

// TempLayer makes an empty directory for a layer and returns its name in LayersDir. It must not
// be called by two goroutines at once.
func (a *Adding) TempLayer() (string, error) {
	a.temps++
	name := fmt.Sprintf(".tmp-%s-%d", a.id, a.temps)
	path := filepath.Join(a.LayersDir(), name)
	if err := a.s.mkdir(path); err != nil {
		return "", err
	}
	return name, a.ownedByRootInside(path)
}

// PublishLayers gives finished layers, by temporary name, their own, and their listings. Everything is synced
// first, once for all layers of the image: none has its name before, and a file system that is told to write
// everything (syncfs(2)) does that in the order that suits it, which for many small files is many times
// faster than fsync(2) of each. It tells of write errors too, since Linux 5.8.
func (a *Adding) PublishLayers(names map[string]string) error {
	if len(names) == 0 {
		return nil
	}
	if err := a.s.Sync(); err != nil {
		return err
	}
	if err := a.publishLists(names); err != nil {
		return err
	}
	for tmp, name := range names {
		if err := a.publishLayer(tmp, name); err != nil {
			return err
		}
	}
	if err := syncDir(a.LayersDir()); err != nil {
		return err
	}
	return a.ClaimOld()
}

// PutBlob keeps a manifest or config, whose digest the caller has checked.
func (a *Adding) PutBlob(d oci.Digest, data []byte) error {
	path := a.s.blobPath(d)
	if old, err := os.ReadFile(path); err == nil && d.Names(old) {
		return nil
	}
	// A store that an older cove made has sha256's directory only.
	if err := a.s.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	return a.s.writeFile(path, data)
}

// Name is what a user knows an image by.
type Name struct {
	Ref      string     `json:"ref"`             // canonical
	Typed    string     `json:"typed,omitempty"` // when this entry is for a short form of Ref
	Platform string     `json:"platform"`
	Manifest oci.Digest `json:"manifest"`
	Index    oci.Digest `json:"index,omitempty"` // what the ref names, where that is an index
	Stamp    string     `json:"stamp,omitempty"` // of a file on this machine: the state that was read
	Base     oci.Digest `json:"base,omitempty"`  // of an image that was set up: what it was made of, without which it goes too
}

// PutRecord makes the image known: the record first, then its name, and the short form that it
// was asked for by. It comes last of all.
func (a *Adding) PutRecord(rec *Record, name Name, typed string) error {
	if err := a.s.writeJSON(a.s.recordPath(Handle{rec.Manifest, a.key}), rec); err != nil {
		return err
	}
	if err := a.s.writeJSON(a.s.namePath(name.Ref, name.Platform), &name); err != nil {
		return err
	}
	if typed == name.Ref {
		return nil
	}
	name.Typed = typed
	return a.s.writeJSON(a.s.namePath(typed, name.Platform), &name)
}

// End releases everything. The caller has removed the Leftovers, having the means to remove files
// of other owners.
func (a *Adding) End() {
	left := a.Leftovers()
	if len(left) == 0 {
		_ = os.RemoveAll(a.s.path("tmp", a.id))
	}
	// With leftovers the session's directory stays: its lock, now free, tells Sweep of them.
	for i := len(a.locks) - 1; i >= 0; i-- {
		a.locks[i].Close()
	}
	a.locks = nil
}

// Leftovers names the temporary layers that were not published.
func (a *Adding) Leftovers() []string {
	var left []string
	for n := 1; n <= a.temps; n++ {
		name := fmt.Sprintf(".tmp-%s-%d", a.id, n)
		if _, err := os.Lstat(filepath.Join(a.LayersDir(), name)); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, name)
		}
	}
	return left
}

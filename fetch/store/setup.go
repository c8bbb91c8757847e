package store

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

// Setup says of an image that it was made of another one by the commands of a profile.
type Setup struct {
	Of   string     `json:"of"`   // what the other one was called
	Base oci.Digest `json:"base"` // its manifest
	Text []string   `json:"text"` // the commands
	For  []string   `json:"for"`  // the profiles that have asked for it
}

// setupPrefix begins the names of such images. No reference can be written so: nobody gets one by its name who has not the
// image that it was made of, and the text.
const setupPrefix = "setup+"

// SetupName is what an image is called that was set up: the key is of all that it came from.
func SetupName(key string) string { return setupPrefix + key }

// A SetupWork is the making of one image that is set up. One process at a time has it.
type SetupWork struct {
	Log  string // the file of what the commands write
	lock *os.File
}

// BeginSetup takes the right to make the image of that key. While another process has it, it waits, and says so.
func (s *Store) BeginSetup(ctx context.Context, key string, waiting func()) (*SetupWork, error) {
	if err := s.mkdir(s.path("setups")); err != nil {
		return nil, err
	}
	path := s.path("setups", key)
	lock, err := tryLock(path+".lock", unix.LOCK_EX)
	if err == nil && lock == nil {
		waiting()
		lock, err = waitLock(ctx, path+".lock", unix.LOCK_EX)
	}
	if err != nil {
		return nil, err
	}
	return &SetupWork{Log: path + ".log", lock: lock}, nil
}

// End lets another process begin.
func (w *SetupWork) End() { w.lock.Close() }

// NoteSetup remembers who else asks for an image that was set up. What cannot be written is made once more some day.
func (s *Store) NoteSetup(h Handle, who string) {
	rec, err := s.Record(h)
	if err != nil || rec.Setup == nil || slices.Contains(rec.Setup.For, who) {
		return
	}
	release, err := s.Use(h)
	if err != nil {
		return
	}
	defer release()
	rec.Setup.For = append(rec.Setup.For, who)
	_ = s.writeJSON(s.recordPath(h), rec)
}

// wantedSetups is by what an image that was set up is found to be wanted. Each question would else take a look at all there is.
type wantedSetups struct {
	named   map[oci.Digest]bool     // manifests of images that were not set up
	records map[oci.Digest][]Handle // of all images
	kept    map[oci.Digest]bool     // those on which changes are kept; nil: nobody can tell
}

// setupWanted tells whether an image that was set up is to stay: as long as what it was made of has a name, and somebody
// asks for it, or has changes kept that fit nothing else.
func (c *collector) setupWanted(n Name, w *wantedSetups) bool {
	if !w.named[n.Base] {
		return false
	}
	if c.s.SetupWanted == nil || w.kept == nil || w.kept[n.Manifest] {
		return true
	}
	for _, h := range w.records[n.Manifest] {
		rec := &Record{}
		if readJSON(c.s.recordPath(h), rec) == nil && rec.Setup != nil && c.s.SetupWanted(rec.Setup) {
			return true
		}
	}
	return false
}

// dropSetups takes the names of images that were set up and are not wanted any more out of names.
func (c *collector) dropSetups(names []Name, handles []Handle) ([]Name, error) {
	w := &wantedSetups{named: map[oci.Digest]bool{}, records: map[oci.Digest][]Handle{}, kept: c.s.persistsOn()}
	for _, h := range handles {
		w.records[h.Manifest] = append(w.records[h.Manifest], h)
	}
	for _, n := range names {
		if n.Base == "" {
			w.named[n.Manifest] = true
		}
	}
	var kept []Name
	for _, n := range names {
		stays := n.Base == "" || c.setupWanted(n, w)
		if !stays {
			var err error
			if stays, err = c.s.settingUp(n.Ref); err != nil {
				return nil, err
			}
		}
		if stays {
			kept = append(kept, n)
			continue
		}
		c.r.Setups++
		if c.dry {
			continue
		}
		if err := removeIfThere(c.s.namePath(n.key(), n.Platform)); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// settingUp tells whether a process is at making an image: it has just been made, and is not run from yet.
func (s *Store) settingUp(ref string) (bool, error) {
	path := s.path("setups", strings.TrimPrefix(ref, setupPrefix)+".lock")
	if _, err := os.Stat(path); err != nil {
		return false, nil
	}
	lock, err := tryLock(path, unix.LOCK_EX)
	if err != nil || lock == nil {
		return lock == nil, err
	}
	return false, lock.Close()
}

// dropSetupFiles removes the logs of images that are not there, and locks that nobody holds.
func (c *collector) dropSetupFiles(names []Name) error {
	files, err := listDir(c.s.path("setups"))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, n := range names {
		there[n.Ref] = true
	}
	for _, f := range files {
		key := strings.TrimSuffix(strings.TrimSuffix(f, ".log"), ".lock")
		if there[SetupName(key)] {
			continue
		}
		path := c.s.path("setups", key)
		lock, err := tryLock(path+".lock", unix.LOCK_EX)
		if err != nil {
			return err
		}
		if lock == nil {
			continue // it is being made
		}
		c.r.Bytes += blocks(path + ".log")
		if !c.dry {
			err = removeIfThere(path + ".log")
		}
		err = errors.Join(err, removeIfThere(path+".lock"))
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// AskedBy tells whether somebody is known to ask for it.
func (u *Setup) AskedBy(who string) bool { return who == "" || slices.Contains(u.For, who) }

// IsSetup tells the name of an image that was set up.
func IsSetup(ref string) bool { return strings.HasPrefix(ref, setupPrefix) }

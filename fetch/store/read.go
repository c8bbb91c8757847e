package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cove/fetch/layer/list"
	"cove/fetch/oci"

	"golang.org/x/sys/unix"
)

func (s *Store) recordPath(h Handle) string {
	return s.path("images", h.Manifest.Encoded()+"."+h.Key+".json")
}

func (s *Store) usePath(h Handle) string {
	return s.path("images", h.Manifest.Encoded()+"."+h.Key+".lock")
}

// blobPath is where a document is kept whose digest has been validated.
func (s *Store) blobPath(d oci.Digest) string { return s.path("blobs", d.Algorithm(), d.Encoded()) }

func (s *Store) namePath(ref, platform string) string {
	sum := sha256.Sum256([]byte(ref + "\n" + platform))
	return s.path("names", hex.EncodeToString(sum[:])+".json")
}

// Resolve returns what a reference names for a platform, or ErrNotFound.
func (s *Store) Resolve(ref, platform string) (Name, error) {
	var n Name
	err := readJSON(s.namePath(ref, platform), &n)
	if errors.Is(err, fs.ErrNotExist) {
		return n, ErrNotFound
	}
	if err == nil && n.Manifest.Validate() != nil {
		return n, ErrNotFound // damaged: pulling mends it
	}
	return n, err
}

// Record returns an image's record when all of its layers are there, else ErrNotFound.
func (s *Store) Record(h Handle) (*Record, error) {
	rec := &Record{}
	if err := readJSON(s.recordPath(h), rec); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNotFound
		}
		return nil, err
	}
	if err := s.haveLayers(h.Key, rec.Layers); err != nil {
		return nil, err
	}
	return rec, nil
}

// haveLayers looks whether all are here, each by its name in their folder: an image may have more than a hundred, and each start looks.
func (s *Store) haveLayers(key string, layers []LayerRecord) error {
	if len(layers) == 0 {
		return nil
	}
	path := s.path("layers", key)
	folder, err := openDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err == nil {
		defer unix.Close(folder)
	}
	for _, l := range layers {
		var st unix.Stat_t
		if err != nil || l.Dir != filepath.Base(l.Dir) || unix.Fstatat(folder, l.Dir, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("layer %s is gone from %s: %w", l.DiffID, path, ErrNotFound)
		}
	}
	return nil
}

// Agrees tells whether two records say the same of one image: all but when it was pulled, and who has signed it.
func (r *Record) Agrees(o *Record) bool {
	a, b := *r, *o
	a.Pulled, b.Pulled = time.Time{}, time.Time{}
	a.Signed, b.Signed = nil, nil
	one, err1 := json.Marshal(&a)
	two, err2 := json.Marshal(&b)
	return err1 == nil && err2 == nil && bytes.Equal(one, two)
}

// LayersDir is where the layers for a mapping's key are.
func (s *Store) LayersDir(key string) string { return s.path("layers", key) }

// LayerPaths are the directories to stack for rec, lowest first. overlayfs refuses a directory
// that occurs twice (ELOOP); the upper one alone is as good, for whatever the lower one sets or
// hides, the upper one sets or hides again.
func (s *Store) LayerPaths(h Handle, rec *Record) []string {
	paths := make([]string, 0, len(rec.Layers))
	seen := make(map[string]bool, len(rec.Layers))
	folder := s.path("layers", h.Key)
	for _, l := range slices.Backward(rec.Layers) {
		if !seen[l.Dir] {
			seen[l.Dir] = true
			paths = append(paths, filepath.Join(folder, l.Dir))
		}
	}
	slices.Reverse(paths)
	return paths
}

// LayerRecord returns what some image's record says of a layer.
func (s *Store) LayerRecord(key, dir string) (LayerRecord, bool) {
	handles, err := s.records()
	if err != nil {
		return LayerRecord{}, false
	}
	for _, h := range handles {
		rec := &Record{}
		if h.Key != key || readJSON(s.recordPath(h), rec) != nil {
			continue
		}
		for _, l := range rec.Layers {
			if l.Dir == dir {
				return l, true
			}
		}
	}
	return LayerRecord{}, false
}

// Others returns the records of the same manifest for other id mappings.
func (s *Store) Others(h Handle) ([]*Record, error) {
	all, err := s.records()
	if err != nil {
		return nil, err
	}
	var out []*Record
	for _, o := range all {
		if o.Manifest == h.Manifest && o.Key != h.Key {
			if rec, err := s.Record(o); err == nil {
				out = append(out, rec)
			}
		}
	}
	return out, nil
}

// records lists the handles of all records.
func (s *Store) records() ([]Handle, error) {
	files, err := listDir(s.path("images"))
	if err != nil {
		return nil, err
	}
	var out []Handle
	for _, f := range files {
		base, ok := strings.CutSuffix(f, ".json")
		hexID, key, ok2 := strings.Cut(base, ".")
		d := oci.FromEncoded(hexID)
		if ok && ok2 && d.Validate() == nil {
			out = append(out, Handle{d, key})
		}
	}
	return out, nil
}

func (s *Store) names() ([]Name, error) {
	files, err := listDir(s.path("names"))
	if err != nil {
		return nil, err
	}
	var out []Name
	for _, f := range files {
		if n, err := s.readName(f); err == nil {
			out = append(out, n)
		}
	}
	return out, nil
}

// readName reads a file of names. One that is damaged, or another name's, is ErrNotFound.
func (s *Store) readName(file string) (Name, error) {
	var n Name
	path := s.path("names", file)
	if err := readJSON(path, &n); err != nil {
		return n, err
	}
	if n.Manifest.Validate() != nil || n.Index != "" && n.Index.Validate() != nil || s.namePath(n.key(), n.Platform) != path {
		return n, fmt.Errorf("%s is damaged: %w", path, ErrNotFound)
	}
	return n, nil
}

// Blob reads a manifest or config, checked again: ErrNotFound when it is damaged.
func (s *Store) Blob(d oci.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Names(data) {
		return nil, ErrNotFound
	}
	return data, err
}

// disk is what a layer takes on the disk. Of one that an older cove has unpacked it is not known, and its contents' size is
// next to it.
func (s *Store) disk(key string, l LayerRecord) int64 {
	if l.Disk > 0 {
		return l.Disk
	}
	if i, err := list.Stat(s.listPath(key, l.Dir)); err == nil {
		return i.Disk
	}
	return l.Bytes
}

// Use marks an image as in use, so that nothing collects it, until release or the end of this
// process. ErrNotFound: it has just been removed.
func (s *Store) Use(h Handle) (release func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	f, err := waitLock(ctx, s.usePath(h), unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("use image: %w", err)
	}
	if _, err := os.Stat(s.recordPath(h)); err != nil {
		f.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNotFound
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// inUse tells whether any process holds the image.
func (s *Store) inUse(h Handle) bool {
	if _, err := os.Stat(s.usePath(h)); err != nil {
		return false
	}
	f, err := tryLock(s.usePath(h), unix.LOCK_EX)
	if err != nil || f == nil {
		return true
	}
	f.Close()
	return false
}

// Images lists the images, newest first, each once, however many id mappings it is there for.
func (s *Store) Images() ([]Summary, error) {
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	return s.summaries(handles, names), nil
}

// summaries are those of the images that have these handles, newest first.
func (s *Store) summaries(handles []Handle, names []Name) []Summary {
	byDigest := map[oci.Digest]*Summary{}
	for _, h := range handles {
		rec, err := s.Record(h)
		if err != nil {
			continue // half of it is gone: to be pulled again, or collected
		}
		sum := byDigest[h.Manifest]
		if sum == nil {
			sum = &Summary{Names: []string{}, Digest: h.Manifest, ID: rec.ConfigID, Platform: rec.Platform, Created: rec.Created,
				Pulled: rec.Pulled, Layers: len(rec.Layers), Setup: rec.Setup}
			for _, l := range rec.Layers {
				sum.Size += l.Bytes
			}
			byDigest[h.Manifest] = sum
		}
		sum.InUse = sum.InUse || s.inUse(h)
	}
	for _, n := range names {
		if sum := byDigest[n.Manifest]; sum != nil {
			sum.Names = append(sum.Names, n.Ref)
		}
	}
	out := make([]Summary, 0, len(byDigest))
	for _, sum := range byDigest {
		slices.Sort(sum.Names)
		sum.Names = slices.Compact(sum.Names) // short forms, other platforms
		out = append(out, *sum)
	}
	slices.SortFunc(out, func(a, b Summary) int {
		if c := b.Pulled.Compare(a.Pulled); c != 0 {
			return c
		}
		return strings.Compare(string(a.Digest), string(b.Digest))
	})
	return out
}

// Find returns the images that ref means: by name, or by the digest or the first digits (four at
// least) of the manifest's or the config's. Names are compared as the store has them.
func (s *Store) Find(ref string) ([]Summary, error) {
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	named := map[oci.Digest]bool{}
	for _, n := range names {
		if n.means(ref) {
			named[n.Manifest] = true
		}
	}
	if found := s.summaries(slices.DeleteFunc(slices.Clone(handles), func(h Handle) bool { return !named[h.Manifest] }), names); len(found) > 0 {
		return found, nil
	}
	id := digits(ref)
	if id == "" {
		return nil, nil
	}
	return slices.DeleteFunc(s.summaries(handles, names), func(i Summary) bool {
		return !strings.HasPrefix(i.Digest.Encoded(), id) && !strings.HasPrefix(i.ID.Encoded(), id)
	}), nil
}

// digits are the first ones of a digest, when ref can be such: four at least.
func digits(ref string) string {
	if algorithm, encoded, ok := strings.Cut(ref, ":"); ok && slices.Contains(oci.Algorithms(), algorithm) {
		ref = encoded
	}
	if len(ref) < 4 || strings.Trim(ref, "0123456789abcdef") != "" {
		return ""
	}
	return ref
}

// Known returns the first of refs that means an image (see Find), or is the name of one, whatever is left of it; ok is
// false when none is.
func (s *Store) Known(refs ...string) (ref string, ok bool) {
	names, err := s.names()
	if err != nil {
		return "", false
	}
	for _, ref := range refs {
		if slices.ContainsFunc(names, func(n Name) bool { return n.means(ref) }) {
			return ref, true
		}
		if digits(ref) == "" {
			continue
		}
		if found, err := s.Find(ref); err == nil && len(found) > 0 {
			return ref, true
		}
	}
	return "", false
}

func (n Name) means(ref string) bool { return n.Ref == ref || n.Typed != "" && n.Typed == ref }

// key is what the name is filed under.
func (n Name) key() string {
	if n.Typed != "" {
		return n.Typed
	}
	return n.Ref
}

// Inspection is everything the store knows of an image.
type Inspection struct {
	Summary
	Record   *Record  `json:"record"`
	Manifest []byte   `json:"-"`     // as sent
	Config   []byte   `json:"-"`     // as sent
	Paths    []string `json:"paths"` // of the layers, lowest first
}

// Inspect returns what the store knows of the one image that ref means (see Find).
func (s *Store) Inspect(ref string) (*Inspection, error) {
	found, err := s.Find(ref)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("image %q: %w", ref, ErrNotFound)
	}
	if len(found) > 1 {
		return nil, fmt.Errorf("image %q: it means %d images (other platforms?); give more of the digest", ref, len(found))
	}
	handles, err := s.records()
	if err != nil {
		return nil, err
	}
	for _, h := range handles {
		if h.Manifest != found[0].Digest {
			continue
		}
		rec, err := s.Record(h)
		if err != nil {
			continue
		}
		out := &Inspection{Summary: found[0], Record: rec, Paths: s.LayerPaths(h, rec)}
		if out.Manifest, err = s.Blob(rec.Manifest); err != nil {
			return nil, fmt.Errorf("image %q: manifest: %w", ref, err)
		}
		if out.Config, err = s.Blob(rec.ConfigID); err != nil {
			return nil, fmt.Errorf("image %q: config: %w", ref, err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("image %q: %w", ref, ErrNotFound)
}

// keys returns the key of every mapping that has layers here.
func (s *Store) keys() ([]string, error) {
	dirs, err := listDir(s.path("layers"))
	return slices.DeleteFunc(dirs, func(d string) bool { return filepath.Ext(d) != "" }), err
}

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const version = "1"

// ErrNotFound says that the store has no such image.
var ErrNotFound = errors.New("not in the store")

// Store is a directory that holds images. Its methods may be called at the same time, in any
// number of processes.
type Store struct {
	// SetupWanted tells whether anybody still asks for an image that a profile's setup has made; nil: somebody does.
	SetupWanted func(*Setup) bool

	dir string
}

// DefaultDir is $COVE_STORE, or cove in $XDG_DATA_HOME, or in ~/.local/share.
func DefaultDir() (string, error) {
	if dir := os.Getenv("COVE_STORE"); dir != "" {
		return filepath.Abs(dir)
	}
	// A relative XDG_DATA_HOME is to be ignored (XDG Base Directory Specification).
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "cove"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "cove"), nil
}

// Open opens the store at dir, or at DefaultDir when dir is "", and makes it when it is not there.
func Open(dir string) (*Store, error) {
	var err error
	if dir == "" {
		dir, err = DefaultDir()
	} else {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{dir: dir}
	v, err := os.ReadFile(s.path("version"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.create()
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, checkVersion(dir, string(v))
}

func checkVersion(dir, v string) error {
	if v = strings.TrimSpace(v); v != version {
		return fmt.Errorf("open store %s: its format is %.20q, this cove knows %s: a newer cove made it", dir, v, version)
	}
	return nil
}

// create makes the directories, the version file last: a store that has it is whole.
func (s *Store) create() error {
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	if err := s.mkdirs(); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	if err := s.writeFile(s.path("version"), []byte(version+"\n")); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	return nil
}

// mkdirs makes what is missing of the store's folders.
func (s *Store) mkdirs() error {
	for _, d := range []string{"", "names", "images", "blobs", "blobs/sha256", "blobs/sha512", "layers", "lists", "locks", "tmp", "run"} {
		if err := s.mkdir(s.path(d)); err != nil {
			return err
		}
	}
	return nil
}

// errSwept says that a directory was gone again before it was locked: a sweep took it for a leftover.
var errSwept = errors.New("a sweep was faster")

// mkdir makes a directory that is its owner's alone, whatever umask, setgid bit or default ACL
// the one above it has: a stage's root may pass only what its mapping covers, groups included.
func (s *Store) mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	err := makeOwn(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errSwept
	}
	return err
}

func makeOwn(path string) error {
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		if err := unix.Removexattr(path, acl); err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
			return &os.PathError{Op: "removexattr", Path: path, Err: err}
		}
	}
	if err := os.Chown(path, -1, os.Getegid()); err != nil {
		return err
	}
	return os.Chmod(path, 0o700)
}

// Dir is where the store is.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// writeFile writes a file whole or not at all: under another name, synced, renamed, and the
// directory synced.
func (s *Store) writeFile(path string, data []byte) error {
	tmp := s.path("tmp", "."+randomID())
	f, err := tryLock(tmp, unix.LOCK_EX) // so that Sweep knows it from one that a kill left behind
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(tmp))
	}
	return syncDir(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sync brings everything on the store's file system to the disk, once for all of it.
func (s *Store) Sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		d.Close()
		return &os.PathError{Op: "syncfs", Path: s.dir, Err: err}
	}
	return d.Close()
}

func (s *Store) writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.writeFile(path, append(data, '\n'))
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if json.Unmarshal(data, v) != nil {
		return fmt.Errorf("%s is damaged: %w", path, ErrNotFound) // pulling again mends it
	}
	return nil
}

func randomID() string {
	return fmt.Sprintf("%016x", rand.Uint64()) // of the runtime's generator: nobody else can make a name in a store
}

// listDir names what is in a directory of the store, which may be missing.
func listDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// readOnly tells that a file system, or its owner, lets nobody write.
func readOnly(err error) bool { return errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) }

// full tells that there is no room for another file.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

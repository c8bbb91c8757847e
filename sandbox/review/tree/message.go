package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"cove/sandbox/spec"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// Both ends are this program, so that messages are package wire's bytes.

// Hello is the first message: what the stage may touch, and the ids it has.
type Hello struct {
	Uppers []string // absolute; opened by path while the stage is still the caller
	IDMap  userns.IDMap
	Kind   spec.RootKind
}

// Op is what a Request asks for.
type Op string

// What a stage does.
const (
	OpWalk   Op = "walk"   // all of a view, folder by folder; Skip is left out
	OpStat   Op = "stat"   // what is at Path
	OpOpen   Op = "open"   // likewise, with its attributes and, of a regular file, a descriptor to read from
	OpRemove Op = "remove" // Path, and all below it
	OpMerge  Op = "merge"  // the folder Path hides what is below no more as a whole, but Lower's names one by one
	OpPut    Op = "put"    // At at Path, in place of what is there; a regular file's content comes with it
	OpSync   Op = "sync"   // everything to the disk
)

// Request is what the stage is asked.
type Request struct {
	Op    Op
	View  int
	Path  string
	Skip  []string
	Lower []LowerName
	At    Entry
}

// LowerName is a name in a folder of the project.
type LowerName struct {
	Name string
	Dir  bool
}

// Reply answers a Request. A walk has many, of which the last says Done.
type Reply struct {
	Ready   bool
	Dir     Entry   // of a walk: the folder that the entries are in
	Entries []Entry // some of them
	Last    bool    // there are no more in this folder
	Done    bool
	Found   bool // of stat and open
	Entry   Entry
	Err     string
	Errno   uint32
}

// Time is a struct timespec.
type Time struct {
	Sec  int64
	Nsec int64
}

// After tells whether t is later than o.
func (t Time) After(o Time) bool { return t.Sec > o.Sec || t.Sec == o.Sec && t.Nsec > o.Nsec }

// Spec is t for system calls.
func (t Time) Spec() unix.Timespec { return unix.Timespec{Sec: t.Sec, Nsec: t.Nsec} }

// FromSpec makes a Time.
func FromSpec(t unix.Timespec) Time { return Time{t.Sec, t.Nsec} }

// Entry is what lies at a path.
type Entry struct {
	Path         string // relative to the view, through no link; it may hold any bytes
	Mode         uint32 // st_mode, with the type
	UID, GID     uint32 // as inside
	Size, Blocks int64
	Ino, Nlink   uint64
	Mtime, Ctime Time
	Target       string // of a symbolic link
	Sum          string // of the extended attributes that count; "" without
	Xattrs       map[string]string
	Gone         bool // a whiteout: what is below is deleted
	Opaque       bool // a folder that hides what is below
	Origin       bool // it was copied from below, perhaps under another name
	Laden        bool // its extended attributes are more than are looked at
	Deep         bool // a folder whose path is too long for the kernel: what is in it is not looked at
}

// IsDir tells a folder.
func (e *Entry) IsDir() bool { return e.Mode&unix.S_IFMT == unix.S_IFDIR && !e.Gone }

// IsFile tells a regular file.
func (e *Entry) IsFile() bool { return e.Mode&unix.S_IFMT == unix.S_IFREG && !e.Gone }

// IsLink tells a symbolic link.
func (e *Entry) IsLink() bool { return e.Mode&unix.S_IFMT == unix.S_IFLNK && !e.Gone }

// Counts tells the extended attributes that are part of a file: those of a user. What overlayfs and fuse-overlayfs keep
// there is theirs, and file capabilities go the way of setuid bits.
func Counts(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") &&
		!strings.HasPrefix(name, "user.fuseoverlayfs.") && !strings.HasPrefix(name, "user.containers.")
}

// Sum names a set of attributes; "" when there are none.
func Sum(xattrs map[string]string) string {
	if len(xattrs) == 0 {
		return ""
	}
	h := sha256.New()
	var n [8]byte
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		for _, text := range []string{name, xattrs[name]} {
			binary.BigEndian.PutUint64(n[:], uint64(len(text)))
			h.Write(n[:])
			h.Write([]byte(text))
		}
	}
	return string(h.Sum(nil)[:16])
}

// FromStat fills in what stat(2) tells.
func FromStat(path string, st *unix.Stat_t) Entry {
	return Entry{Path: path, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Size: st.Size, Blocks: st.Blocks, Ino: st.Ino, Nlink: uint64(st.Nlink),
		Mtime: FromSpec(st.Mtim), Ctime: FromSpec(st.Ctim)}
}

// MaxXattrs bounds the attributes of one file that are looked at, in bytes; file systems on a disk hold 64 KiB at most.
const MaxXattrs = 1 << 20

// ReadXattrs reads the attributes that count. list and get are flistxattr(2) and fgetxattr(2) of something.
func ReadXattrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) (map[string]string, error) {
	n, err := list(nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	buf := make([]byte, n)
	if n, err = list(buf); err != nil {
		return nil, err
	}
	var out map[string]string
	total := 0
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !Counts(name) {
			continue
		}
		size, err := get(name, nil)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		if total += len(name) + size; total > MaxXattrs {
			return nil, unix.E2BIG
		}
		value := make([]byte, size)
		if size > 0 {
			if size, err = get(name, value); err != nil {
				return nil, err
			}
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(value[:size])
	}
	return out, nil
}

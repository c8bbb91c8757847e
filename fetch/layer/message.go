package layer

import (
	"errors"

	"cove/userns"

	"golang.org/x/sys/unix"
)

// Hello is the first message: what the stage may touch, and the ids it has.
type Hello struct {
	Dirs  [][]byte     `json:"dirs"` // absolute, of any bytes; opened by path while the stage is still the caller
	IDMap userns.IDMap `json:"idmap"`
	// Submounts lets the directories have mounts in them, which come with them.
	Submounts bool `json:"submounts,omitempty"`
	// NoLinks says that the path of the last directory led through no link when it was looked at, and must not now.
	NoLinks bool `json:"noLinks,omitempty"`
}

// Place is a directory in one of Hello.Dirs, those given to Start. Name is a single component, or
// "" for the directory itself.
type Place struct {
	Dir  int    `json:"dir"`
	Name string `json:"name,omitempty"`
}

// Op is what a Request asks for.
type Op string

const (
	OpUnpack  Op = "unpack"  // the pipe comes with it, and a file for the listing, where one is wanted
	OpBelow   Op = "below"   // answers a reply with NeedsBelow, for the same ID
	OpRemove  Op = "remove"  // what At names, and all in it
	OpCopy    Op = "copy"    // From[0] into At, owners translated from the mapping Was
	OpFlatten Op = "flatten" // From, lowest first, merged into At
	OpTree    Op = "tree"    // From[0], somebody's folder and no layer, into At
	OpPack    Op = "pack"    // At into the pipe that comes with it; From is what lies below
	OpList    Op = "list"    // what At holds, into the file that comes with it
	OpCheck   Op = "check"   // At against the listing that comes with it
	OpDisk    Op = "disk"    // what At takes on the disk
)

// Request is what the stage is asked, by a number of its own.
type Request struct {
	ID     uint64       `json:"id"`
	Op     Op           `json:"op"`
	At     Place        `json:"at"`
	From   []Place      `json:"from,omitempty"`
	Lowest bool         `json:"lowest,omitempty"` // unpack: nothing lies below
	Limits Limits       `json:"limits,omitzero"`
	Digest string       `json:"digest,omitempty"` // unpack: the algorithm of Result.DiffID; "" is sha256
	Was    userns.IDMap `json:"was,omitzero"`
	Fail   bool         `json:"fail,omitempty"` // below: there will be none
	Tree   Tree         `json:"tree,omitempty"` // pack
	Placed []Placed     `json:"placed,omitempty"`
	Label  string       `json:"label,omitempty"` // of the listing
	Skip   [][]byte     `json:"skip,omitempty"`  // tree: folders of which nothing but themselves is copied
}

// Reply answers the Request of that number.
type Reply struct {
	ID         uint64     `json:"id"`
	Ready      bool       `json:"ready,omitempty"`
	NeedsBelow bool       `json:"needsBelow,omitempty"` // not the last reply to this request
	Result     Result     `json:"result,omitzero"`
	Err        *WireError `json:"err,omitempty"`
}

// Result says what a layer became.
type Result struct {
	DiffID  string `json:"diffID,omitempty"` // of the whole stream, decompressed
	Bytes   int64  `json:"bytes"`            // contents of regular files, holes included
	Entries int64  `json:"entries"`
	Devices int64  `json:"devices,omitempty"` // device nodes, which are never made
	Xattrs  int64  `json:"xattrs,omitempty"`  // extended attributes that were dropped
	// Dependent says that what lies below had a part in the result, so that it is right on top
	// of those layers only.
	Dependent bool    `json:"dependent,omitempty"`
	Packed    *Packed `json:"packed,omitempty"` // of pack alone
	Disk      int64   `json:"disk,omitempty"`   // bytes in use on the disk; with a listing, and of disk

	Findings []Finding `json:"findings,omitempty"` // of a check: the first of them
	Found    int64     `json:"found,omitempty"`    // how many there are
}

// MaxFindings is how many a check names: what a broken disk does to a layer may be a million.
const MaxFindings = 100

// Finding is one way in which a layer is not what was unpacked.
type Finding struct {
	Path   []byte `json:"path"` // as in the layer, without a leading "/"; "" is the root. It may hold any bytes
	Kind   Damage `json:"kind"`
	Detail string `json:"detail,omitempty"` // fit to be printed
}

// Damage is what may have happened to an entry.
type Damage string

// The kinds of damage.
const (
	Missing    Damage = "missing"
	Added      Damage = "added"
	Type       Damage = "type"
	Content    Damage = "content"
	Size       Damage = "size"
	Mode       Damage = "mode"
	Owner      Damage = "owner"
	Time       Damage = "time"
	Target     Damage = "target"     // of a symbolic link
	Link       Damage = "link"       // no longer a name of the file that it was a name of
	Attribute  Damage = "xattr"      // an extended attribute
	Unreadable Damage = "unreadable" // the disk says so
)

// WireError carries an error over the socket so that the parent can still tell its kind.
type WireError struct {
	Text     string           `json:"text"`
	Unmapped *UnmappedIDError `json:"unmapped,omitempty"`
	Limit    *LimitError      `json:"limit,omitempty"`
	Errno    unix.Errno       `json:"errno,omitempty"`
}

// ToWire makes err fit to be sent.
func ToWire(err error) *WireError {
	if err == nil {
		return nil
	}
	w := &WireError{Text: err.Error()}
	errors.As(err, &w.Unmapped)
	errors.As(err, &w.Limit)
	errors.As(err, &w.Errno)
	return w
}

func (w *WireError) Error() string { return w.Text }

// Unwrap offers the typed error first, then the errno (ENOSPC, EDQUOT).
func (w *WireError) Unwrap() []error {
	var out []error
	if w.Unmapped != nil {
		out = append(out, w.Unmapped)
	}
	if w.Limit != nil {
		out = append(out, w.Limit)
	}
	if w.Errno != 0 {
		out = append(out, w.Errno)
	}
	return out
}

package layer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Tree is what the directory is that a tar stream is made of.
type Tree string

const (
	TreeLayer Tree = "layer" // of the store, as Unpack made it
	TreeUpper Tree = "upper" // overlayfs's upper directory
	TreeFuse  Tree = "fuse"  // fuse-overlayfs's, which has more ways to say that something is gone
	TreeCopy  Tree = "copy"  // a whole root file system, once the copy of the layers below: what differs is packed
)

// Placed is something that is in an upper directory though nobody inside has put it there.
type Placed struct {
	Path string     `json:"path"` // relative to the root, through no link
	Kind PlacedKind `json:"kind"`
	Line []byte     `json:"line,omitempty"` // of PlacedLine
}

// PlacedKind is what was done at a Placed's path.
type PlacedKind string

const (
	PlacedDir  PlacedKind = "dir"  // made, as a mount point or above one: packed only when something is in it
	PlacedFile PlacedKind = "file" // an empty one, made as a mount point: never packed
	PlacedText PlacedKind = "text" // written whole, as /etc/hosts: never packed, whatever it holds by now
	PlacedLine PlacedKind = "line" // a line was added, as to /etc/passwd: packed without it, where the rest has changed
)

// PackRequest says what is packed.
type PackRequest struct {
	At   Place
	Tree Tree
	// Below are the layers below, lowest first, for all but TreeLayer: what is no different there is left out where
	// cove itself touched it, and everywhere in a TreeCopy.
	Below  []Place
	Placed []Placed
}

// Packed says what went into a stream, and what could not.
type Packed struct {
	Entries  int64 `json:"entries"` // none: there is no difference
	Sockets  int64 `json:"sockets,omitempty"`
	Devices  int64 `json:"devices,omitempty"`
	Names    int64 `json:"names,omitempty"`    // files whose own names begin with ".wh.", which would delete others
	Xattrs   int64 `json:"xattrs,omitempty"`   // extended attributes that a tar cannot name
	Changing int64 `json:"changing,omitempty"` // files that changed while they were read
}

// Pack writes the directory's tar stream, uncompressed, into w. The same directory gives the same bytes.
func (s *Session) Pack(req PackRequest, w io.Writer) (Packed, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return Packed{}, err
	}
	defer pr.Close()
	_, _ = unix.FcntlInt(pw.Fd(), unix.F_SETPIPE_SZ, 1<<20) // as in Unpack
	m := &Request{Op: OpPack, At: req.At, From: req.Below, Tree: req.Tree, Placed: req.Placed}
	c, err := s.send(m, pw)
	pw.Close()
	if err != nil {
		return Packed{}, err
	}
	_, werr := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{pr}, make([]byte, 256<<10))
	pr.Close() // when w has failed, the stage finds the pipe broken
	res, err := s.result(c)
	if werr != nil {
		return Packed{}, werr
	}
	if err != nil {
		return Packed{}, err
	}
	if res.Packed == nil {
		return Packed{}, fmt.Errorf("%s: %w", StageName, errors.New("unexpected answer"))
	}
	return *res.Packed, nil
}

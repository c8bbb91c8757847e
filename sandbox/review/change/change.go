package change

import (
	"slices"
	"strings"

	"cove/sandbox/review/tree"
	"cove/sandbox/spec"

	"golang.org/x/sys/unix"
)

// Kind says how something differs.
type Kind string

// The kinds of changes. Of several the first counts, in this order: type, changed, target, mode, xattr.
const (
	Added   Kind = "added"
	Deleted Kind = "deleted"
	Renamed Kind = "renamed" // a deleted file and an added one with its content
	Type    Kind = "type"    // a file has become a folder, a link a file, ...
	Changed Kind = "changed" // the content of a file
	Target  Kind = "target"  // where a link leads
	Mode    Kind = "mode"    // nothing but the mode
	Xattr   Kind = "xattr"   // nothing but extended attributes
)

// Meta is what lies at a path, outside or in the view.
type Meta struct {
	Mode   uint32    `json:"mode"` // st_mode, with the type
	Size   int64     `json:"size"`
	Target spec.Path `json:"target,omitempty"` // of a link
	Mtime  tree.Time `json:"-"`
	Ctime  tree.Time `json:"-"`
	Ino    uint64    `json:"-"`
	sum    string    // of extended attributes
	gid    uint32
	uid    uint32
	nlink  uint64
	origin bool
	laden  bool // with more extended attributes than are looked at
}

func metaOf(e *tree.Entry) *Meta {
	return &Meta{Mode: e.Mode, Size: sizeOf(e), Target: spec.Path(e.Target), Mtime: e.Mtime, Ctime: e.Ctime, Ino: e.Ino, sum: e.Sum,
		uid: e.UID, gid: e.GID, nlink: e.Nlink, origin: e.Origin, laden: e.Laden}
}

// sizeOf is a file's size; that of anything else is the file system's business.
func sizeOf(e *tree.Entry) int64 {
	if e.IsFile() {
		return e.Size
	}
	return 0
}

func (m *Meta) kind() uint32 { return m.Mode & unix.S_IFMT }

// IsDir, IsFile and IsLink tell what it is; all are false of nil.
func (m *Meta) IsDir() bool  { return m != nil && m.kind() == unix.S_IFDIR }
func (m *Meta) IsFile() bool { return m != nil && m.kind() == unix.S_IFREG }
func (m *Meta) IsLink() bool { return m != nil && m.kind() == unix.S_IFLNK }

// What names what it is, for people.
func (m *Meta) What() string {
	switch {
	case m == nil:
		return "nothing"
	case m.IsDir():
		return "folder"
	case m.IsFile():
		return "file"
	case m.IsLink():
		return "link"
	case m.kind() == unix.S_IFIFO:
		return "fifo"
	case m.kind() == unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// Change is one path at which the view differs from the project.
type Change struct {
	Path     spec.Path `json:"path"` // relative to the project
	Kind     Kind      `json:"kind"`
	From     spec.Path `json:"from,omitempty"` // of Renamed: where it was
	Old      *Meta     `json:"old,omitempty"`  // outside; nil: there is nothing
	New      *Meta     `json:"new,omitempty"`  // in the view; nil: there is nothing
	Warnings []string  `json:"warnings,omitempty"`
	Conflict string    `json:"conflict,omitempty"` // why it is not applied without being forced
	Refused  string    `json:"refused,omitempty"`  // why it cannot be applied at all
	Ignored  spec.Path `json:"ignored,omitempty"`  // the folder or file that .gitignore outside names; a folder ends in /

	view int
	rel  string  // Path in its view
	old  *Change // of Renamed: the deletion of From
}

// name is the path in its own form.
func (c *Change) name() string { return string(c.Path) }

// Shown is the path as people read it: the project's own folder has a name then.
func (c *Change) Shown() string { return shown(c.name()) }

func shown(path string) string {
	if path == "" {
		return "."
	}
	return path
}

// byPath orders paths as a walk meets them: a folder, what is in it, and then what only begins like it.
func byPath(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case x == y:
		case x == '/':
			return -1
		case y == '/':
			return 1
		case x < y:
			return -1
		default:
			return 1
		}
	}
	return len(a) - len(b)
}

func sortChanges(list []*Change) {
	slices.SortFunc(list, func(a, b *Change) int { return byPath(a.name(), b.name()) })
}

// below tells whether path is dir or lies in it; everything lies in "".
func below(path, dir string) bool {
	return dir == "" || strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	if name == "" {
		return dir
	}
	return dir + "/" + name
}

func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return ""
}

func baseOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

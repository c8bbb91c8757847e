package stage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cove/fetch/layer"

	"golang.org/x/sys/unix"
)

// A node is what is known of one path, as the ids inside see it.
type node struct {
	Kind   string
	Mode   uint32
	UID    uint32
	GID    uint32
	Time   int64 // of the last change of content, in nanoseconds
	Size   int64
	Link   string
	Sum    string
	Xattrs string
	Names  uint64 // how many
}

// listName is the argv[0] under which the test binary lists os.Args[1] as JSON: only a process in the user namespace may
// read all of it.
const listName = "list-tree"

func listTree() {
	out := map[string]node{}
	root := os.Args[1]
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err == nil {
			out[name], err = look(p)
		}
		return err
	})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func look(p string) (node, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return node{}, err
	}
	n := node{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Time: st.Mtim.Nano(), Names: uint64(st.Nlink)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		n.Kind, n.Names = "dir", 0
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		n.Kind, n.Link, n.Mode = "link", target, 0
		return n, err
	case unix.S_IFIFO:
		n.Kind = "fifo"
		return n, nil
	case unix.S_IFREG:
		data, err := os.ReadFile(p)
		if err != nil {
			return n, err
		}
		sum := sha256.Sum256(data)
		n.Kind, n.Size, n.Sum = "file", st.Size, hex.EncodeToString(sum[:6])
	default:
		n.Kind = fmt.Sprintf("kind %o", st.Mode&unix.S_IFMT)
		return n, nil
	}
	names, err := unixList(p)
	if err != nil {
		return n, err
	}
	slices.Sort(names)
	for _, name := range names {
		value, err := lgetXattr(p, name)
		if err != nil {
			return n, err
		}
		n.Xattrs += fmt.Sprintf("%s=%q ", name, value)
	}
	return n, nil
}

// inside runs a command as root of the same ids that testMap gives.
func inside(argv ...string) *exec.Cmd {
	cmd := exec.Command("unshare", append([]string{"--user", "--map-root-user", "--map-auto", "--"}, argv...)...)
	cmd.Env = append(os.Environ(), "GOTRACEBACK=none")
	return cmd
}

func run(t *testing.T, cmd *exec.Cmd) ([]byte, error) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %.500s", filepath.Base(cmd.Path), err, stderr.String())
	}
	return out, err
}

func (b *bench) list(root string) map[string]node {
	b.t.Helper()
	return b.listAfter("true", root)
}

// mounted lists the layers as overlayfs merges them.
func (b *bench) mounted(dir string, layers []layer.Place) map[string]node {
	b.t.Helper()
	lower := []string{dir + "/empty"} // overlayfs takes no single layer
	for _, p := range slices.Backward(layers) {
		lower = append(lower, filepath.Join(b.dir, p.Name))
	}
	lower = append(lower[1:], lower[0])
	for _, d := range []string{dir, dir + "/empty", dir + "/root"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	return b.listAfter("mount -t overlay overlay -o userxattr,lowerdir="+strings.Join(lower, ":")+" "+dir+"/root", dir+"/root")
}

// listAfter lists a tree in a mount namespace of its own, after a command there.
func (b *bench) listAfter(command, root string) map[string]node {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := run(b.t.(*testing.T), inside("unshare", "--mount", "bash", "-c", command+` && exec -a "$0" "$@"`, listName, self, root))
	if err != nil {
		b.t.Fatal(err)
	}
	got := map[string]node{}
	if err := json.Unmarshal(out, &got); err != nil {
		b.t.Fatalf("%v: %.200s", err, out)
	}
	return got
}

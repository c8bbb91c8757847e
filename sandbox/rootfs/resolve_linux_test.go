package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// outer is a folder with a tree in it and things beside the tree that must stay as they are.
type outer struct {
	dir  string // of the whole
	root string // of the tree
	tree tree
}

func newOuter(t testing.TB) *outer {
	t.Helper()
	o := &outer{dir: t.TempDir()}
	o.root = filepath.Join(o.dir, "root")
	for _, dir := range []string{o.root, filepath.Join(o.dir, "beside"), filepath.Join(o.dir, "etc")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"secret", "beside/file", "etc/passwd"} {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte("outside"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(o.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	o.tree = tree{fd: fd}
	return o
}

// outside describes everything but the tree.
func (o *outer) outside(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(o.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == o.root {
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", name, info.Mode())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", content)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (o *outer) link(t testing.TB, name, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(o.root, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, filepath.Join(o.root, name)); err != nil {
		t.Fatal(err)
	}
}

func (o *outer) content(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(o.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each link is written through, and the content must come out where a kernel with the tree as its
// root would have put it.
func TestWriteThroughLinks(t *testing.T) {
	for _, c := range []struct {
		name  string
		links map[string]string
		write string
		at    string // where the content is then, in the tree
	}{
		{"plain", nil, "/etc/hosts", "etc/hosts"},
		{"absolute", map[string]string{"etc/hosts": "/var/hosts"}, "/etc/hosts", "var/hosts"},
		{"absolute to what is outside", map[string]string{"etc/passwd": "OUTER/etc/passwd"}, "/etc/passwd", "OUTER/etc/passwd"},
		{"absolute and climbing to what is outside", map[string]string{"etc/passwd": "/../../../../OUTER/secret"}, "/etc/passwd", "OUTER/secret"},
		{"climbing", map[string]string{"etc/hosts": "../../../../../secret"}, "/etc/hosts", "secret"},
		{"climbing folder", map[string]string{"etc": "../beside"}, "/etc/file", "beside/file"},
		{"absolute folder", map[string]string{"etc": "/beside"}, "/etc/file", "beside/file"},
		{"dangling relative", map[string]string{"etc/resolv.conf": "../run/systemd/resolve/stub.conf"}, "/etc/resolv.conf", "run/systemd/resolve/stub.conf"},
		{"dangling, its folder reached by a link", map[string]string{"etc": "usr/etc", "usr/etc/resolv.conf": "../run/stub.conf"}, "/etc/resolv.conf", "usr/run/stub.conf"},
		{"a chain of dangling links", map[string]string{"a": "b", "b": "/c/d", "c": "e", "e/d": "f"}, "/a", "e/f"},
		{"to a missing folder with a slash after it", map[string]string{"a": "b/./../b/c"}, "/a", "b/c"},
		{"beyond the root and back", map[string]string{"a": "/../../../../b"}, "/a", "b"},
		{"odd bytes", map[string]string{"etc/h": "/\xff\n:,\\ x"}, "/etc/h", "\xff\n:,\\ x"},
		{"a deep folder", nil, "/" + strings.Repeat("d/", 60) + "f", strings.Repeat("d/", 60) + "f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOuter(t)
			// OUTER is the folder that the tree lies in, outside.
			at := strings.ReplaceAll(c.at, "OUTER", o.dir)
			for name, to := range c.links {
				o.link(t, name, strings.ReplaceAll(to, "OUTER", o.dir))
			}
			before := o.outside(t)
			err := o.tree.write(c.write, []byte("mine"))
			if after := o.outside(t); after != before {
				t.Errorf("outside changed:\n%s\n%s", before, after)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := o.content(t, at); got != "mine" {
				t.Errorf("%q holds %q", at, got)
			}
			if got, err := o.tree.read(c.write); err != nil || string(got) != "mine" {
				t.Errorf("read: %q, %v", got, err)
			}
		})
	}
}

func TestWriteLoops(t *testing.T) {
	o := newOuter(t)
	o.link(t, "a", "b")
	o.link(t, "b", "a")
	o.link(t, "self", "self/x")
	for i := range 60 {
		o.link(t, fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", i+1))
	}
	for _, name := range []string{"/a", "/self", "/n0", "/a/x"} {
		if err := o.tree.write(name, nil); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v", name, err)
		}
		if fd, err := o.tree.dir(name); err != unix.ELOOP {
			t.Errorf("dir %s: %d, %v", name, fd, err)
		}
	}
	// As many as the kernel follows are followed.
	if err := o.tree.write("/n25", []byte("x")); err != nil || o.content(t, "n60") != "x" {
		t.Errorf("35 links: %v", err)
	}
}

// What is there already under the name may be anything.
func TestWriteOverAnything(t *testing.T) {
	o := newOuter(t)
	if err := unix.Mkfifo(filepath.Join(o.root, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	o.link(t, "to-fifo", "fifo")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(o.root, "sock")}); err != nil {
		t.Skip(err) // a temporary folder with a very long name
	}
	if err := os.WriteFile(filepath.Join(o.root, "long"), bytes.Repeat([]byte("x"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/fifo", "/to-fifo", "/sock", "/long"} {
		if err := o.tree.write(name, []byte("mine")); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := o.content(t, name); got != "mine" {
			t.Errorf("%s holds %q", name, got)
		}
	}
	if err := os.Mkdir(filepath.Join(o.root, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := o.tree.write("/dir", nil); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
	if err := o.tree.write("/long/file", nil); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	if err := o.tree.write("/"+strings.Repeat("n", 256), nil); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a long name: %v", err)
	}
	if _, err := o.tree.dir("/long"); err != unix.ENOTDIR {
		t.Errorf("a folder that is a file: %v", err)
	}
}

func TestRead(t *testing.T) {
	o := newOuter(t)
	if err := unix.Mkfifo(filepath.Join(o.root, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int64{"largest": maxFile, "larger": maxFile + 1, "sparse": 1 << 40} {
		f, err := os.Create(filepath.Join(o.root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	o.link(t, "out", "../secret")
	o.link(t, "magic", "/proc/self/environ")
	for name, want := range map[string]string{"/fifo": "no regular file", "/": "no regular file", "/larger": "bytes", "/sparse": "bytes", "/fifo/x": "not a directory"} {
		if got, err := o.tree.read(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for name, size := range map[string]int{"/largest": maxFile, "/missing": 0, "/missing/file": 0, "/out": 0, "/magic": 0} {
		if got, err := o.tree.read(name); err != nil || len(got) != size {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestAddEntry(t *testing.T) {
	for _, c := range [][2]string{
		{"", "me:x:1\n"},
		{"root:x:0\n", "me:x:1\nroot:x:0\n"},
		{"root:x:0", "me:x:1\nroot:x:0"},
		{"root:x:0\nme:x:1", "-"},
		{"me:x:1\n", "-"},
		{"me:x:12\n", "me:x:1\nme:x:12\n"},
		{"a\x00b\n", "me:x:1\na\x00b\n"},
	} {
		got := AddEntry([]byte(c[0]), []byte("me:x:1"))
		if (got == nil) != (c[1] == "-") || (got != nil && string(got) != c[1]) {
			t.Errorf("AddEntry(%q) = %q", c[0], got)
		}
	}
}

// What generated trees are made of, and where their links point. OUTER stands for the folder that
// the tree lies in: outside, but nothing of the machine's own, should the law be broken.
var (
	oddNames = []string{"a", "b", "c", "etc", "\xff", "x y", "-", "..."}
	oddLinks = []string{"/", ".", "..", "../..", "../secret", "OUTER/secret", "a", "b/c", "/a/b", "../../../../beside/file", "OUTER/etc/passwd", "OUTER", "c/../..", "a/../../b", "/b/./c/", "./etc", "\xff", "/x y/-"}
)

// fill makes a tree by chance: the same for the same seed.
func (o *outer) fill(t testing.TB, seed int64) (names []string) {
	r := rand.New(rand.NewSource(seed))
	dirs := []string{""}
	for range 3 + r.Intn(12) {
		name := filepath.Join(dirs[r.Intn(len(dirs))], oddNames[r.Intn(len(oddNames))])
		full := filepath.Join(o.root, name)
		var err error
		switch r.Intn(6) {
		case 0, 1:
			if err = os.Mkdir(full, 0o755); err == nil {
				dirs = append(dirs, name)
			}
		case 2:
			// O_EXCL: a link that is there already leads to the machine's own /etc/passwd.
			var made *os.File
			if made, err = os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
				_, err = made.WriteString("inside")
				err = errors.Join(err, made.Close())
			}
		case 3:
			err = unix.Mkfifo(full, 0o644)
		default:
			err = os.Symlink(strings.ReplaceAll(oddLinks[r.Intn(len(oddLinks))], "OUTER", o.dir), full)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ELOOP) {
			t.Fatal(err)
		}
	}
	for range 6 {
		name := ""
		for range 1 + r.Intn(4) {
			name += "/" + oddNames[r.Intn(len(oddNames))]
		}
		names = append(names, name)
	}
	return names
}

// FuzzTree holds the law of this package: whatever a tree is made of, nothing outside it changes or
// is opened, and what was written is what is read then.
func FuzzTree(f *testing.F) {
	for seed := range int64(150) {
		f.Add(seed, "")
	}
	f.Add(int64(1), "/a/../../../secret")
	f.Add(int64(2), "/etc/./../\xff/")
	f.Fuzz(func(t *testing.T, seed int64, extra string) {
		o := newOuter(t)
		names := o.fill(t, seed)
		if extra != "" && !strings.Contains(extra, "\x00") {
			names = append(names, extra)
		}
		before := o.outside(t)
		open := openFiles(t)
		for _, name := range names {
			if fd, err := o.tree.dir(name + "/d"); err == nil {
				o.below(t, fd)
			}
			if fd, err := o.tree.file(name); err == nil {
				o.below(t, fd)
			}
			if err := o.tree.write(name, []byte(name)); err == nil {
				if got, err := o.tree.read(name); err != nil || string(got) != name {
					t.Errorf("%q: wrote %q, read %q, %v", name, name, got, err)
				}
			}
		}
		if after := o.outside(t); after != before {
			t.Errorf("outside changed:\n%s\n%s", before, after)
		}
		if now := openFiles(t); now != open {
			t.Errorf("%d descriptors are open, there were %d", now, open)
		}
	})
}

// below closes fd, which must lie in the tree.
func (o *outer) below(t testing.TB, fd int) {
	t.Helper()
	defer unix.Close(fd)
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil || name != o.root && !strings.HasPrefix(name, o.root+"/") {
		t.Errorf("opened %q, %v", name, err)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

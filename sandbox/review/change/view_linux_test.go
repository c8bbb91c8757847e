package change

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cove/sandbox/review"
	"cove/sandbox/review/tree"
	"cove/sandbox/review/tree/stage"
	"cove/sandbox/spec"
	"cove/userns"
	"cove/userns/fdpass"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case tree.StageName:
		stage.Main()
	case insideName:
		insideMain()
	case applyName:
		applyMain()
	}
	os.Exit(m.Run())
}

// skip skips, unless COVE_TEST_REQUIRE says that here nothing may be missing.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("COVE_TEST_REQUIRE") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// testMap maps whoever runs the test to root inside, and more ids where there are some.
func testMap(t testing.TB) userns.IDMap {
	t.Helper()
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	sub := userns.SubIDs{UIDs: []userns.SubRange{{Start: 1879048192, Count: 65536}}, GIDs: []userns.SubRange{{Start: 1879048192, Count: 65536}}}
	if uid != 0 {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		if sub, err = userns.ReadSubIDs(me.Username, uid); err != nil {
			t.Fatal(err)
		}
	}
	m, err := userns.Allocate(sub, uid, gid, 0, 0)
	if err != nil {
		skip(t, err.Error())
	}
	return m
}

// view is a project with a view of it, as package review keeps one.
type view struct {
	t       testing.TB
	project string
	r       review.Record
	d       string
}

func (v *view) Record() review.Record { return v.r }
func (v *view) Dir() string           { return v.d }

var kinds = []spec.RootKind{spec.RootOverlay, spec.RootFuse, spec.RootCopy}

// elsewhere is where projects are made, if not beside their views.
var elsewhere string

// newView makes a project by a script that is run in it, and an empty view.
func newView(t testing.TB, kind spec.RootKind, script string) *view {
	t.Helper()
	if kind == spec.RootFuse {
		if _, err := exec.LookPath("fuse-overlayfs"); err != nil {
			skip(t, err.Error())
		}
	}
	base := t.TempDir()
	v := &view{t: t, project: base + "/project", d: base + "/view"}
	if elsewhere != "" {
		dir, err := os.MkdirTemp(elsewhere, "cove-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		v.project = dir + "/project"
	}
	for _, dir := range []string{v.project, v.d, v.d + "/0", v.d + "/0/upper", v.d + "/0/work"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	v.outside(script)
	time.Sleep(15 * time.Millisecond) // more than one tick of the clock of file times
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		t.Fatal(err)
	}
	v.r = review.Record{Project: v.project, IDMap: testMap(t), Kind: kind, Began: time.Unix(now.Unix()),
		Views: []review.View{{Lower: v.project, Upper: v.d + "/0/upper"}}}
	mode, err := os.Stat(v.project)
	if err == nil {
		err = os.Chmod(v.r.Views[0].Upper, mode.Mode().Perm())
	}
	if err == nil && kind == spec.RootCopy {
		err = exec.Command("cp", "-aT", "--reflink=auto", v.project, v.r.Views[0].Upper).Run()
	}
	if err == nil {
		err = os.WriteFile(v.d+"/record.json", nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(15 * time.Millisecond)
	t.Cleanup(v.remove)
	return v
}

// remove removes what other ids own, and modes shut.
func (v *view) remove() {
	v.inside(insideRequest{Bare: true, Script: "chmod -R u+rwx . 2>/dev/null; find . -mindepth 1 -delete", At: v.d})
	v.inside(insideRequest{Bare: true, Script: "chmod -R u+rwx . 2>/dev/null; find . -mindepth 1 -delete", At: v.project})
}

// outside runs a script in the project, as the user.
func (v *view) outside(script string) {
	v.t.Helper()
	cmd := exec.Command("sh", "-euc", "umask 022; "+script)
	cmd.Dir = v.project
	if out, err := cmd.CombinedOutput(); err != nil {
		v.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// write runs a script in the view, as a sandbox's root would, and returns what the view holds afterwards.
func (v *view) write(script string) string {
	v.t.Helper()
	return v.inside(insideRequest{Script: script})
}

// dump tells what a folder outside holds, whatever modes say.
func (v *view) dump(dir string) string {
	v.t.Helper()
	return v.inside(insideRequest{Bare: true, At: dir})
}

func (v *view) merged() string { return v.write("") }

func (v *view) open() *Set {
	v.t.Helper()
	s, err := Open(context.Background(), v, func(w string) { v.t.Log("warned:", w) })
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { s.Close() })
	return s
}

// changes is the list, a line for each.
func (v *view) changes() string {
	v.t.Helper()
	s := v.open()
	defer s.Close()
	var b strings.Builder
	for _, c := range s.Changes {
		fmt.Fprintf(&b, "%s %s", c.Kind, c.Path)
		if c.From != "" {
			fmt.Fprintf(&b, " < %s", c.From)
		}
		if c.Conflict != "" {
			b.WriteString(" !")
		}
		if c.Refused != "" {
			b.WriteString(" refused")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const insideName = "cove-test-inside"

type insideRequest struct {
	IDMap              userns.IDMap
	Kind               spec.RootKind
	Bare               bool // no view: At itself
	At                 string
	Lower, Upper, Work string
	Script             string
	Seed               int64 // random changes, unless 0
	NoLinks            bool  // no hard links among them
	Quiet              bool  // nothing is dumped: it is too deep
}

type insideReply struct{ Dump, Err string }

// inside does something in namespaces in which the view is mounted, and dumps what is there then.
func (v *view) inside(req insideRequest) string {
	v.t.Helper()
	req.IDMap, req.Kind = v.r.IDMap, v.r.Kind
	req.Lower, req.Upper, req.Work = v.project, v.d+"/0/upper", v.d+"/0/work"
	child, err := userns.Start(context.Background(), userns.Config{Stage: insideName, IDMap: v.r.IDMap, Stdio: true,
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}})
	if err != nil {
		v.t.Fatal(err)
	}
	defer child.Discard()
	var r insideReply
	if err = child.Conn.Send(req); err == nil {
		_, err = child.Conn.Recv(&r)
	}
	if err != nil || r.Err != "" {
		v.t.Fatalf("inside: %v %s", err, r.Err)
	}
	return r.Dump
}

func insideMain() {
	runtime.LockOSThread()
	conn, err := fdpass.FromFD(userns.ConnFD)
	if err != nil {
		panic(err)
	}
	var req insideRequest
	if _, err := conn.Recv(&req); err != nil {
		os.Exit(1)
	}
	var r insideReply
	if r.Dump, err = req.run(); err != nil {
		r.Err = err.Error()
	}
	_ = conn.Send(r)
	os.Exit(0)
}

func (req *insideRequest) run() (string, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	// The test's folders may be walked through by their owner alone: so from here on by descriptors.
	var fds []int
	paths := []string{req.Lower, req.Upper, req.Work, filepath.Dir(req.Upper)}
	if req.Bare {
		paths = []string{req.At}
	}
	for _, p := range paths {
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return "", fmt.Errorf("%s: %w", p, err)
		}
		fds = append(fds, fd)
	}
	_ = unix.Setgroups(nil)
	if err := unix.Setresgid(0, 0, 0); err != nil {
		return "", err
	}
	if err := unix.Setresuid(0, 0, 0); err != nil {
		return "", err
	}
	unix.Umask(0o022)
	if err := req.mount(fds); err != nil {
		return "", err
	}
	if req.Seed != 0 {
		// fuse-overlayfs 1.10 fails with names of one file here and there; what counts is what it leaves.
		if err := change(req.Seed, !req.NoLinks); err != nil && (req.Bare || req.Kind != spec.RootFuse) {
			return "", fmt.Errorf("change: %w", err)
		}
	}
	if req.Script != "" {
		if out, err := exec.Command("sh", "-euc", req.Script).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", req.Script, err, out)
		}
	}
	var out string
	var err error
	if !req.Quiet {
		out, err = dump()
	}
	if req.Kind == spec.RootFuse && !req.Bare {
		_ = unix.Chdir("/")
		if err := unix.Unmount("/mnt", 0); err != nil {
			return "", fmt.Errorf("unmount: %w", err)
		}
	}
	return out, err
}

// mount puts the working directory where the view is.
func (req *insideRequest) mount(fds []int) error {
	at := func(i int) string { return fmt.Sprintf("/proc/self/fd/%d", fds[i]) }
	switch {
	case req.Bare:
		return unix.Fchdir(fds[0])
	case req.Kind == spec.RootCopy:
		return unix.Fchdir(fds[1])
	case req.Kind == spec.RootOverlay:
		opts := "userxattr,lowerdir=" + at(0) + ",upperdir=" + at(1) + ",workdir=" + at(2)
		if err := unix.Mount("overlay", "/mnt", "overlay", 0, opts); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
	default:
		for i, to := range map[int]string{0: "/mnt", 3: "/media"} { // it opens them by path
			if err := unix.Mount(at(i), to, "", unix.MS_BIND, ""); err != nil {
				return err
			}
		}
		cmd := exec.Command("fuse-overlayfs", "-o", "lowerdir=/mnt,upperdir=/media/upper,workdir=/media/work", "/mnt")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("fuse-overlayfs: %w: %s", err, out)
		}
	}
	return unix.Chdir("/mnt")
}

// dump tells of the working directory what counts, a line for each path.
func dump() (string, error) {
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%q %o", path, st.Mode)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" > %q", to)
		case unix.S_IFREG:
			if st.Size > 64<<20 {
				line += fmt.Sprintf(" %d", st.Size)
				break
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", st.Size, sha256.Sum256(b))
			if st.Nlink > 1 {
				if _, ok := first[st.Ino]; !ok {
					first[st.Ino] = path
				}
			}
			fallthrough
		case unix.S_IFDIR:
			xattrs, err := tree.ReadXattrs(
				func(b []byte) (int, error) { return unix.Llistxattr(path, b) },
				func(name string, b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
			if err != nil {
				return err
			}
			if len(xattrs) > 0 {
				line += fmt.Sprintf(" %q", fmt.Sprint(xattrs))
			}
		}
		lines = append(lines, line)
		return nil
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n", err
}

// differ fails with the lines that two dumps do not have in common.
func differ(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	var b bytes.Buffer
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "have %s\n", l)
		}
	}
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "want %s\n", l)
		}
	}
	t.Fatalf("%s:\n%s", what, b.String())
}

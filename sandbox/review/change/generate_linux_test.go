package change

import (
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A generator makes a random tree in the working directory, and changes it at random, as a program would that works in it.
type generator struct {
	rnd   *rand.Rand
	links bool
	err   error
}

var someNames = []string{"a", "b", "c", "lib", "x y", "\xff odd", ".z", "Makefile", "\x1b[31m"}

func (g *generator) must(err error) {
	if err != nil && g.err == nil {
		g.err = err
	}
}

// paths lists what there is; kind "" takes all.
func (g *generator) paths(dirs bool) []string {
	var out []string
	g.must(filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() == dirs && (path != "." || dirs) {
			out = append(out, path)
		}
		return err
	}))
	return out
}

func (g *generator) one(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[g.rnd.Intn(len(list))]
}

// fresh is a path at which nothing is.
func (g *generator) fresh() string {
	for range 20 {
		p := filepath.Join(g.one(g.paths(true)), someNames[g.rnd.Intn(len(someNames))])
		if _, err := os.Lstat(p); err != nil && strings.Count(p, "/") < 4 {
			return p
		}
	}
	return ""
}

func (g *generator) content() []byte {
	b := []byte(strings.Repeat(fmt.Sprintf("line %d\n", g.rnd.Intn(4)), g.rnd.Intn(4)))
	if g.rnd.Intn(5) == 0 {
		b = append(b, 0, 0xff)
	}
	return b
}

// attributes gives a path a mode, a time and perhaps an attribute. Everything stays readable for its owner, or an undo could
// not keep it.
func (g *generator) attributes(p string, dir bool) {
	modes := []os.FileMode{0o644, 0o600, 0o755, 0o444, 0o664}
	if dir {
		modes = []os.FileMode{0o755, 0o700, 0o775}
	}
	g.must(os.Chmod(p, modes[g.rnd.Intn(len(modes))]))
	if g.rnd.Intn(6) == 0 {
		g.must(unix.Lsetxattr(p, "user.test", []byte{byte('a' + g.rnd.Intn(2))}, 0))
	}
	if !dir {
		t := time.Unix(1_000_000_000+g.rnd.Int63n(1000), g.rnd.Int63n(1e9))
		g.must(os.Chtimes(p, t, t))
	}
}

func (g *generator) file(p string) {
	g.must(os.WriteFile(p, g.content(), 0o644))
	if g.rnd.Intn(8) == 0 {
		g.must(os.Truncate(p, 1<<20))
	}
	g.attributes(p, false)
}

func (g *generator) step() {
	files, dirs := g.paths(false), g.paths(true)
	dirs = slices.DeleteFunc(dirs, func(d string) bool { return d == "." })
	regular := func(p string) bool {
		st, err := os.Lstat(p)
		return err == nil && st.Mode().IsRegular()
	}
	switch p := g.fresh(); g.rnd.Intn(14) {
	case 0, 1:
		if p != "" {
			g.file(p)
		}
	case 2, 3:
		if p != "" {
			g.must(os.Mkdir(p, 0o755))
			g.attributes(p, true)
		}
	case 4:
		if p != "" {
			g.must(os.Symlink([]string{"a", "../b", "/etc/passwd", "nowhere"}[g.rnd.Intn(4)], p))
		}
	case 5:
		if f := g.one(files); g.links && p != "" && f != "" && regular(f) {
			g.must(os.Link(f, p))
		}
	case 6, 7:
		if f := g.one(files); f != "" {
			g.must(os.Remove(f))
			if g.rnd.Intn(3) == 0 {
				g.must(os.Mkdir(f, 0o755))
			} else if g.rnd.Intn(2) == 0 {
				g.file(f)
			}
		}
	case 8:
		if d := g.one(dirs); d != "" {
			g.must(os.RemoveAll(d))
			switch g.rnd.Intn(4) {
			case 0:
				g.file(d)
			case 1:
				g.must(os.Mkdir(d, 0o755))
				g.file(d + "/a")
			case 2:
				g.must(os.Symlink("b", d))
			}
		}
	case 9, 10:
		if f := g.one(files); f != "" && regular(f) {
			b, err := os.ReadFile(f)
			g.must(err)
			g.must(os.WriteFile(f, append(g.content(), b...), 0o644))
		}
	case 11:
		if f := g.one(files); f != "" && regular(f) {
			g.attributes(f, false)
		} else if d := g.one(dirs); d != "" {
			g.attributes(d, true)
		}
	case 12:
		if f := g.one(files); f != "" && p != "" {
			g.must(os.Rename(f, p))
		}
	case 13:
		// A folder from below cannot be renamed (EXDEV), one that is new can.
		if d := g.one(dirs); d != "" && p != "" && !strings.HasPrefix(p, d+"/") {
			if err := os.Rename(d, p); err != nil && !strings.Contains(err.Error(), "cross-device") {
				g.must(err)
			}
		}
	}
}

// change makes some random changes in the working directory.
func change(seed int64, links bool) error {
	g := &generator{rnd: rand.New(rand.NewSource(seed)), links: links}
	for range 5 + g.rnd.Intn(40) {
		g.step()
	}
	return g.err
}

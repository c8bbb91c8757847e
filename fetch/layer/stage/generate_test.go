package stage

import (
	"archive/tar"
	"fmt"
	"maps"
	"math/rand"
	"path"
	"slices"
	"strings"
	"time"
)

// A generator makes layers that could be an image's: a parent is a directory or a link to one, a hard link names a file,
// a whiteout something that is there. It follows what the layers become.
type generator struct {
	rnd   *rand.Rand
	tree  map[string]tar.Header // what there is now, by real path
	mine  map[string]bool       // of it, what the layer that is being made has put there
	layer []tar.Header
	calm  bool // nothing but a directory comes where the layer has put one: containerd gives up then
}

var generatedNames = []string{"a", "b", "c", "lib", "\xff odd"}

// generate makes up to four layers of up to 25 entries.
func generate(seed int64) [][]tar.Header {
	g := &generator{rnd: rand.New(rand.NewSource(seed)), tree: map[string]tar.Header{}, calm: seed%3 != 0}
	var layers [][]tar.Header
	for range 2 + g.rnd.Intn(3) {
		g.layer, g.mine = nil, map[string]bool{}
		for range 3 + g.rnd.Intn(22) {
			g.entry()
		}
		layers = append(layers, g.layer)
	}
	return layers
}

// pick returns one of the paths that ok holds for; "" when there is none.
func (g *generator) pick(ok func(string, tar.Header) bool) string {
	var list []string
	for _, p := range slices.Sorted(maps.Keys(g.tree)) {
		if ok(p, g.tree[p]) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return list[g.rnd.Intn(len(list))]
}

func isDir(_ string, h tar.Header) bool { return h.Typeflag == tar.TypeDir }

// place chooses where a new entry goes: the name in the tar, which may lead through a link, and the real path.
func (g *generator) place() (name, real string) {
	dir := ""
	if g.rnd.Intn(4) > 0 {
		dir = g.pick(isDir)
	}
	base := generatedNames[g.rnd.Intn(len(generatedNames))]
	real = path.Join(dir, base)
	if strings.Count(real, "/") > 4 {
		return base, base
	}
	name = real
	// Through a link to that directory, if there is one.
	if link := g.pick(func(p string, h tar.Header) bool {
		return h.Typeflag == tar.TypeSymlink && dir != "" && path.Join(path.Dir(p), h.Linkname) == dir && !strings.HasPrefix(h.Linkname, "/")
	}); link != "" && g.rnd.Intn(2) == 0 {
		name = path.Join(link, base)
	}
	// Below a directory that no one has described.
	if g.rnd.Intn(8) == 0 {
		if _, ok := g.tree[real]; !ok && dir != "" {
			g.tree[real] = tar.Header{Typeflag: tar.TypeDir}
			g.mine[real] = true
			return path.Join(name, "n"), path.Join(real, "n")
		}
	}
	return name, real
}

// drop forgets a path and what is below it.
func (g *generator) drop(real string) {
	for p := range g.tree {
		if p == real || strings.HasPrefix(p, real+"/") {
			delete(g.tree, p)
			delete(g.mine, p)
		}
	}
}

// taken says that nothing but a directory may come at this path.
func (g *generator) taken(real string) bool {
	return g.calm && g.mine[real] && g.tree[real].Typeflag == tar.TypeDir
}

func (g *generator) put(real string, h tar.Header) {
	if h.Typeflag != tar.TypeDir && g.taken(real) {
		return
	}
	if old, ok := g.tree[real]; ok && !(old.Typeflag == tar.TypeDir && h.Typeflag == tar.TypeDir) {
		g.drop(real)
	}
	g.tree[real], g.mine[real] = h, true
	g.layer = append(g.layer, h)
}

// attributes are any that a file may have, but ids only of those that are mapped.
func (g *generator) attributes(h tar.Header) tar.Header {
	h.Format = tar.FormatPAX
	h.Mode = []int64{0o644, 0o755, 0o1777, 0o4755, 0o2755, 0o600, 0o700}[g.rnd.Intn(7)]
	h.Uid, h.Gid = []int{0, 0, 33, 1000, 65534}[g.rnd.Intn(5)], []int{0, 0, 33, 1000, 65534}[g.rnd.Intn(5)]
	h.ModTime = time.Unix(g.rnd.Int63n(3_000_000_000)-1_000_000_000, g.rnd.Int63n(1e9))
	if n := g.rnd.Intn(6); n < 2 && (h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir) {
		h.PAXRecords = map[string]string{fmt.Sprintf("SCHILY.xattr.user.%d", n): "value\x00\xff"}
	}
	return h
}

func (g *generator) entry() {
	switch n := g.rnd.Intn(20); {
	case n < 7:
		name, real := g.place()
		if old := g.tree[real]; old.Typeflag == tar.TypeDir && g.rnd.Intn(3) > 0 {
			return
		}
		g.put(real, g.attributes(tar.Header{Name: name, Typeflag: tar.TypeReg}))
	case n < 12:
		name, real := g.place()
		g.put(real, g.attributes(tar.Header{Name: name, Typeflag: tar.TypeDir}))
	case n < 15:
		g.link()
	case n < 16:
		name, real := g.place()
		g.put(real, g.attributes(tar.Header{Name: name, Typeflag: tar.TypeFifo}))
	case n < 17:
		g.hardlink()
	case n < 19:
		g.whiteout()
	default:
		g.opaque()
	}
}

// link makes a symbolic link, mostly one to a directory that is there, through which later entries may go.
func (g *generator) link() {
	name, real := g.place()
	target := []string{"nowhere", "a", "../b", "/a/b"}[g.rnd.Intn(4)]
	if dir := g.pick(isDir); dir != "" && g.rnd.Intn(3) > 0 && dir != real && !strings.HasPrefix(dir, real+"/") {
		target = strings.Repeat("../", strings.Count(real, "/")) + dir
	}
	h := g.attributes(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target})
	g.put(real, h)
}

func (g *generator) hardlink() {
	name, real := g.place()
	target := g.pick(func(p string, h tar.Header) bool {
		return h.Typeflag == tar.TypeReg && p != real && !strings.HasPrefix(p, real+"/")
	})
	if target == "" || g.taken(real) {
		return
	}
	// A link's header has what its target's has, as every tar that was written by a program.
	h := g.tree[target]
	of := h
	h.Name, h.Linkname, h.Typeflag, h.PAXRecords = name, target, tar.TypeLink, nil
	if old, ok := g.tree[real]; ok && old.Typeflag == tar.TypeDir {
		g.drop(real)
	}
	g.layer = append(g.layer, h)
	g.tree[real], g.mine[real] = of, true
}

// whiteout removes something that a lower layer has put there.
func (g *generator) whiteout() {
	gone := g.pick(func(p string, _ tar.Header) bool { return !g.owns(p) })
	if gone == "" {
		return
	}
	g.drop(gone)
	dir, base := path.Split(gone)
	g.layer = append(g.layer, tar.Header{Name: dir + whiteoutPrefix + base, Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX})
}

// owns says whether this layer has put there p or anything below it.
func (g *generator) owns(p string) bool {
	for m := range g.mine {
		if m == p || strings.HasPrefix(m, p+"/") {
			return true
		}
	}
	return false
}

// opaque empties a directory of what lower layers have put there.
func (g *generator) opaque() {
	dir := g.pick(isDir)
	if dir == "" {
		return
	}
	for p := range g.tree {
		if strings.HasPrefix(p, dir+"/") && !g.owns(p) {
			delete(g.tree, p)
		}
	}
	g.layer = append(g.layer, tar.Header{Name: dir + "/" + whiteoutOpaque, Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX})
}

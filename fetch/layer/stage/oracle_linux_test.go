package stage

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cove/fetch/layer"
)

// Layers made at random are unpacked by cove, umoci and containerd, and what comes out is compared: lstat(2), extended
// attributes, content. A seed that finds a difference is printed, with the layers cut down to what still shows it.

var (
	oracleSeed  = flag.Int64("oracle.seed", 0, "the only seed that TestOracles tries")
	oracleCount = flag.Int("oracle.n", 12, "how many seeds TestOracles tries")
)

// oracleDir is what TestMain removes.
var oracleDir string

// containerdOracle builds the program of testdata/containerd, once; COVE_CONTAINERD names one that is built already.
var containerdOracle = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("COVE_CONTAINERD"); bin != "" {
		return bin, nil
	}
	dir, err := os.MkdirTemp("", "cove-oracle")
	if err != nil {
		return "", err
	}
	oracleDir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "containerd")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Dir = "testdata/containerd"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build testdata/containerd: %w\n%s", err, out)
	}
	return bin, nil
})

// An oracle is somebody else's way of making one tree of layers.
type oracle struct {
	name  string
	apply func(dir string, tars [][]byte) (root string, err error)
}

func oracles(t *testing.T) []oracle {
	t.Helper()
	bin, err := containerdOracle()
	if err != nil {
		skip(t, err.Error())
	}
	return []oracle{
		{"umoci", func(dir string, tars [][]byte) (string, error) {
			if err := writeLayout(dir+"/layout", tars); err != nil {
				return "", err
			}
			_, err := run(t, inside("umoci", "raw", "unpack", "--image", dir+"/layout:x", dir+"/umoci"))
			return dir + "/umoci", err
		}},
		{"containerd", func(dir string, tars [][]byte) (string, error) {
			args := []string{bin, dir + "/containerd"}
			for n, data := range tars {
				name := fmt.Sprintf("%s/%d.tar", dir, n)
				if err := os.WriteFile(name, data, 0o644); err != nil {
					return "", err
				}
				args = append(args, name)
			}
			if err := os.Mkdir(dir+"/containerd", 0o755); err != nil {
				return "", err
			}
			_, err := run(t, inside(args...))
			return dir + "/containerd", err
		}},
	}
}

// writeLayout writes an OCI layout of those layers, tagged x.
func writeLayout(dir string, tars [][]byte) error {
	if err := os.MkdirAll(dir+"/blobs/sha256", 0o755); err != nil {
		return err
	}
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	var failed error
	blob := func(kind string, v any) descriptor {
		data, ok := v.([]byte)
		if !ok {
			var err error
			if data, err = json.Marshal(v); err != nil {
				failed = err
			}
		}
		sum := sha256.Sum256(data)
		if err := os.WriteFile(dir+"/blobs/sha256/"+hex.EncodeToString(sum[:]), data, 0o644); err != nil {
			failed = err
		}
		return descriptor{MediaType: "application/vnd.oci.image." + kind, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: len(data)}
	}
	var layers []descriptor
	var diffIDs []string
	for _, data := range tars {
		d := blob("layer.v1.tar", data)
		layers, diffIDs = append(layers, d), append(diffIDs, d.Digest)
	}
	config := blob("config.v1+json", map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	manifest := blob("manifest.v1+json", map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers})
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "x"}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	for _, err := range []error{failed, err, os.WriteFile(dir+"/index.json", index, 0o644),
		os.WriteFile(dir+"/oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`), 0o644)} {
		if err != nil {
			return err
		}
	}
	return nil
}

// A trial is one set of layers, unpacked by all.
type trial struct {
	ours, umoci, containerd map[string]node
	overlay                 map[string]node // the same layers as ours, as the kernel puts them together
	err                     map[string]error
	began                   int64
}

func (b *bench) trial(layers [][]tar.Header) *trial {
	b.t.Helper()
	t := b.t.(*testing.T)
	dir, err := os.MkdirTemp("", "cove-trial")
	if err != nil {
		t.Fatal(err)
	}
	// What belongs to others inside only root inside can remove.
	defer func() {
		if _, err := run(t, inside("rm", "-rf", dir)); err != nil {
			t.Error(err)
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &trial{err: map[string]error{}, began: time.Now().Add(-time.Second).UnixNano()}
	var tars [][]byte
	var places []layer.Place
	for _, hdrs := range layers {
		contents := map[string]string{}
		for _, h := range hdrs {
			if h.Typeflag == tar.TypeReg {
				contents[h.Name] = fmt.Sprint(h.Name, h.ModTime.UnixNano())
			}
		}
		tars = append(tars, tarOf(t, contents, hdrs...))
	}
	for _, data := range tars {
		at, _, _, err := b.unpack(data, places...)
		if err != nil {
			r.err["cove"] = err
			break
		}
		places = append(places, at)
	}
	at, flat := b.fresh()
	if r.err["cove"] == nil {
		if _, err := b.s.Flatten(places, at); err != nil {
			t.Fatal(err)
		}
		r.ours = b.list(flat)
		r.overlay = b.mounted(dir+"/merged", places)
	}
	for _, o := range oracles(t) {
		root, err := o.apply(dir, tars)
		if err != nil {
			r.err[o.name] = err
			continue
		}
		got := b.list(root)
		if o.name == "umoci" {
			r.umoci = got
		} else {
			r.containerd = got
		}
	}
	for _, p := range append(places, at) {
		if err := b.s.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// wrong says what is not as it should be: where both oracles are of one mind, that counts, and where they are not,
// either may be followed.
func (r *trial) wrong() []string {
	var out []string
	if r.err["cove"] != nil {
		if r.err["umoci"] == nil || r.err["containerd"] == nil {
			out = append(out, fmt.Sprintf("only an oracle takes it: %v (umoci: %v, containerd: %v)", r.err["cove"], r.err["umoci"], r.err["containerd"]))
		}
		return out
	}
	for _, path := range slices.Sorted(maps.Keys(r.ours)) {
		seen, ok := r.overlay[path]
		if mine := r.ours[path]; !ok || !r.same(mine, seen) {
			out = append(out, fmt.Sprintf("%s: %s\n\toverlayfs: %s", path, shown(mine, true), shown(seen, ok)))
		}
	}
	for path, seen := range r.overlay {
		if _, ok := r.ours[path]; !ok {
			out = append(out, fmt.Sprintf("%s: not there\n\toverlayfs: %s", path, shown(seen, true)))
		}
	}
	var others []map[string]node
	for _, o := range []map[string]node{r.umoci, r.containerd} {
		if o != nil {
			others = append(others, o)
		}
	}
	paths := maps.Clone(r.ours)
	for _, o := range others {
		maps.Copy(paths, o)
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		mine, there := r.ours[path]
		agree := len(others) == 0
		var told []string
		for _, o := range others {
			theirs, has := o[path]
			if path == "." {
				mine.Time, theirs.Time = 0, 0 // no entry describes it
			}
			if has == there && (!has || r.same(mine, theirs)) {
				agree = true
			}
			told = append(told, shown(theirs, has))
		}
		if !agree {
			out = append(out, fmt.Sprintf("%s: %s\n\tothers: %s", path, shown(mine, there), strings.Join(told, "\n\t        ")))
		}
	}
	return out
}

func shown(n node, has bool) string {
	if !has {
		return "not there"
	}
	return fmt.Sprintf("%+v", n)
}

// same compares ours with an oracle's.
func (r *trial) same(mine, theirs node) bool {
	// A directory that no entry of the last layer to touch it describes has the time of that touch, which is now.
	if theirs.Kind == "dir" && theirs.Time >= r.began {
		mine.Time, theirs.Time = 0, 0
	}
	// overlayfs breaks links between layers: a file that a higher layer links to leaves the other names below behind.
	if mine.Names <= theirs.Names {
		mine.Names, theirs.Names = 0, 0
	}
	return mine == theirs
}

// show prints layers as the test's own helpers would make them.
func show(layers [][]tar.Header) string {
	var s strings.Builder
	for n, hdrs := range layers {
		fmt.Fprintf(&s, "layer %d:\n", n)
		for _, h := range hdrs {
			fmt.Fprintf(&s, "\t%c %q %q mode %o owner %d:%d time %d.%09d %v\n", h.Typeflag, h.Name, h.Linkname, h.Mode, h.Uid, h.Gid,
				h.ModTime.Unix(), h.ModTime.Nanosecond(), slices.Sorted(maps.Keys(h.PAXRecords)))
		}
	}
	return s.String()
}

// shrink takes away layers and entries for as long as something stays wrong.
func (b *bench) shrink(layers [][]tar.Header) ([][]tar.Header, []string) {
	wrong := b.trial(layers).wrong()
	for again := true; again; {
		again = false
		for n := range layers {
			for i := range layers[n] {
				less := slices.Clone(layers)
				less[n] = slices.Delete(slices.Clone(layers[n]), i, i+1)
				if w := b.trial(less).wrong(); len(w) > 0 {
					layers, wrong, again = less, w, true
					break
				}
			}
			if again {
				break
			}
		}
	}
	return slices.DeleteFunc(layers, func(l []tar.Header) bool { return len(l) == 0 }), wrong
}

func TestOracles(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("the oracles run in a user namespace of an ordinary user's subordinate ids")
	}
	for _, tool := range []string{"umoci", "unshare", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			skip(t, err.Error())
		}
	}
	if _, err := run(t, inside("true")); err != nil {
		skip(t, err.Error())
	}
	b := newBench(t, testMap(t))
	seeds := []int64{*oracleSeed}
	if *oracleSeed == 0 {
		seeds = nil
		for n := range *oracleCount {
			seeds = append(seeds, int64(n+1))
		}
	}
	took := 0
	for _, seed := range seeds {
		layers := generate(seed)
		r := b.trial(layers)
		t.Logf("seed %d: umoci: %v, containerd: %v", seed, r.err["umoci"], r.err["containerd"])
		if r.err["umoci"] == nil || r.err["containerd"] == nil {
			took++
		}
		if len(r.wrong()) == 0 {
			continue
		}
		less, wrong := b.shrink(layers)
		t.Errorf("-oracle.seed %d:\n%s%s", seed, show(less), strings.Join(wrong, "\n"))
	}
	if took < len(seeds)/2 {
		t.Errorf("of %d images the oracles took %d", len(seeds), took)
	}
}

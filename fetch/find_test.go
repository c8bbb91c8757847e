package fetch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cove/fetch/image"
	"cove/fetch/oci"
	rt "cove/fetch/registrytest"
	"cove/fetch/store"

	"go.podman.io/image/v5/docker/reference"
)

var (
	aDigest  = string(oci.FromString("x"))
	longPath = strings.Repeat("a/", 122) + "a" // with docker.io, 255 bytes
)

// What people write is read without the reference package; the bool says so.
var writtenNames = map[string]bool{
	"alpine": true, "alpine:3.20": true, "team/app": true, "team/app:2": true, "docker.io/alpine": true, "docker.io/library/alpine:3": true,
	"index.docker.io/alpine": true, "quay.io/a/b": true, "localhost/x": true, "localhost:5000/x:1": true, "127.0.0.1:5000/cove/debian:latest": true,
	"ghcr.io/a-b/c__d.e/f---g:V1.0_x-y": true, "a.b/c:1@" + aDigest: true, "alpine@" + aDigest: true, "Registry.Example/x": true,
	"docker.io/" + longPath: true, "docker.io/" + longPath + "b": false, longPath: true, longPath + ":1": true, longPath + "b": false, "io/" + longPath: false,
	"x.y/abcdef" + longPath: true, "x.y/abcdefg" + longPath: false,
	"": false, "Alpine": false, "Team/app": false, "a b": false, "a/b/": false, "/a": false, "a//b": false, "a..b": false, "a.-b": false, "a___b": false,
	"-a": false, "a-": false, "x:": false, "x:.t": false, "x:-t": false, "x:t/u": false, "x:t:u": false, "x@": false, "x@sha256:12": false,
	"x:" + strings.Repeat("t", 128): true, "x:" + strings.Repeat("t", 129): false, "[::1]:5000/x": false, "a.b:/x": false, "a.b:1x/y": false,
	"a.b:5000/x": true, "-a.b/x": false, "a-.b/x": false, "a..b/x": false, ".a/x": false, "a_b.c/x": false, "x@" + aDigest + "@" + aDigest: false,
	"x@sha512:" + strings.Repeat("0", 128): true, "x@sha384:" + strings.Repeat("0", 96): false, aDigest[7:]: false, aDigest[7:] + ":1": true, "x/" + aDigest[7:]: true, aDigest: true, "é": false, "x:é": false,
}

func TestParseName(t *testing.T) {
	for name, want := range writtenNames {
		got, err := image.ParseName(name)
		if (err == nil) != want || err != nil && !errors.Is(err, image.ErrUnresolved) {
			t.Errorf("%q: %+v %v", name, got, err)
		}
		sameName(t, name)
	}
	// And all short ones of the letters that mean something.
	names := []string{""}
	for len(names) > 0 && len(names[0]) < 4 {
		var longer []string
		for _, name := range names {
			for _, c := range "aA1.-_/:" {
				longer = append(longer, name+string(c))
				sameName(t, name+string(c))
			}
		}
		names = longer
	}
}

// sameName is the law: what package image reads it reads as the reference package does, and that is
// everything but digests of other algorithms and what comes out without a domain ("a_b.c/x").
func sameName(t *testing.T, name string) {
	ours, err := image.ParseName(name)
	theirs, terr := parse("docker://" + name)
	switch {
	case err == nil && (terr != nil || theirs.Target != *ours):
		t.Errorf("%q is %+v, and in truth %+v %v", name, ours, theirs, terr)
	case err != nil && terr == nil && reference.Domain(theirs.named) != "" && (theirs.Pinned == "" || theirs.Pinned.Validate() == nil):
		t.Errorf("%q is not read, and is %+v", name, theirs.Target)
	}
}

func FuzzReference(f *testing.F) {
	for name := range writtenNames {
		f.Add(name)
	}
	f.Fuzz(sameName)
}

// lookup is what Pull looks in the store with.
func lookup(ref string, o Options) (*Image, error) {
	t, err := parseLocked(ref, o.Locked)
	if err != nil {
		return nil, err
	}
	want, err := oci.ParsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	img, err := t.Lookup(o.local(), want)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	return img, nil
}

// agree checks what image.Find promises: Pull's answer or none.
func agree(t *testing.T, what, ref string, o Options) (*Image, error) {
	t.Helper()
	found, ferr := image.Find(ref, o.local())
	looked, lerr := lookup(ref, o)
	unresolved := errors.Is(ferr, image.ErrUnresolved)
	if ferr == nil && (lerr != nil || !reflect.DeepEqual(found, looked)) {
		t.Errorf("%s: Find: %+v, Lookup: %+v %v", what, found, looked, lerr)
	}
	if ferr != nil && !unresolved && (lerr == nil || errors.Is(ferr, store.ErrNotFound) != errors.Is(lerr, store.ErrNotFound)) {
		t.Errorf("%s: Find: %v, Lookup: %+v %v", what, ferr, looked, lerr)
	}
	if ferr != nil {
		return nil, ferr
	}
	pulled, err := Pull(ctx, ref, o)
	if err != nil || !reflect.DeepEqual(found, pulled) {
		t.Errorf("%s: Find: %+v, Pull: %+v %v", what, found, pulled, err)
	}
	return found, nil
}

func TestFind(t *testing.T) {
	r, o := registry(t), options(t)
	arm, amd := rt.Simple(rt.File("arch", "arm64")), rt.Simple(rt.File("arch", "amd64"))
	arm.Platform.OS, arm.Platform.Architecture = "linux", "arm64"
	amd.Platform.OS, amd.Platform.Architecture = "linux", "amd64"
	o.Platform = "linux/amd64"
	multi, index := r.AddIndex("team/multi:1", amd, arm)
	latest, single := r.Add("single:latest", amd)
	dir := t.TempDir()
	layout, archive, plain := filepath.Join(dir, "lay:out"), filepath.Join(dir, "oci.tar"), filepath.Join(dir, "plain")
	if err := rt.WriteLayout(layout, map[string]rt.Image{"v1": amd}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, tarDir(t, layout), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(plain, 0o755); err != nil {
		t.Fatal(err)
	}
	untagged := strings.TrimSuffix(latest, ":latest")
	pinned := strings.TrimSuffix(multi, ":1") + "@" + string(index)
	pinnedSingle := "docker://" + untagged + ":other@" + string(single)
	stored := []string{multi, latest, untagged, pinned, pinnedSingle, "docker://" + multi, "oci:" + layout + ":v1", "oci:" + layout, "oci-archive:" + archive + ":v1"}
	for _, ref := range stored {
		if _, err := agree(t, "before", ref, o); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s, not pulled: %v", ref, err)
		}
	}
	for _, ref := range []string{multi, latest, "oci:" + layout, "oci:" + layout + ":v1", "oci-archive:" + archive + ":v1"} {
		if _, err := Pull(ctx, ref, o); err != nil {
			t.Fatal(err)
		}
	}
	// A short name is stored as it was typed, as the pull of one does: what it means may change with registries.conf.
	short(t, o, "team/short", multi)
	stored = append(stored, "team/short", "docker://team/short")
	for _, ref := range stored {
		if img, err := agree(t, "pulled", ref, o); err != nil || img.Platform != "linux/amd64" {
			t.Errorf("%s: %+v %v", ref, img, err)
		}
		for name, other := range map[string]func(*Options){
			"another platform": func(o *Options) { o.Platform = "arm64" },
			"same platform":    func(o *Options) { o.Platform = "x86_64" },
			"no platform":      func(o *Options) { o.Platform = "a//b" },
			"another idmap":    func(o *Options) { o.IDMap.UIDs = o.IDMap.UIDs[:1]; o.IDMap.UIDs[0].ContainerID = 7 },
			"never":            func(o *Options) { o.Policy = Never },
		} {
			c := o
			c.IDMap.UIDs = append(c.IDMap.UIDs[:0:0], c.IDMap.UIDs...)
			other(&c)
			img, err := agree(t, name, ref, c)
			if found := name == "same platform" || name == "never"; found != (err == nil) {
				t.Errorf("%s, %s: %+v %v", ref, name, img, err)
			}
		}
		for _, p := range []PullPolicy{Always, Newer} {
			c := o
			c.Policy = p
			if img, err := image.Find(ref, c.local()); !errors.Is(err, image.ErrUnresolved) {
				t.Errorf("%s, policy %d: %+v %v", ref, p, img, err)
			}
		}
	}
	for _, ref := range []string{"short", "team/short:latest", "docker.io/team/short", "docker.io/library/none"} {
		if img, err := agree(t, "another name", ref, o); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %+v %v", ref, img, err)
		}
	}
	for _, p := range []PullPolicy{Missing, Always, Never, Newer} {
		c := o
		c.Policy = p
		for ref, kind := range map[string]Kind{"host": Host, "dir:" + plain: Dir} {
			if img, err := agree(t, fmt.Sprint("policy ", p), ref, c); err != nil || img.Kind != kind {
				t.Errorf("%s: %+v %v", ref, img, err)
			}
		}
	}
	for _, ref := range []string{"", "UPPER/case", "dir:", "dir:" + plain + "/none", "oci:", "docker-daemon:x", "x@sha384:" + strings.Repeat("0", 96), "[::1]:5000/x"} {
		if img, err := agree(t, "refused", ref, o); err == nil {
			t.Errorf("%s: %+v", ref, img)
		}
	}
	// A layout that has changed is another image, unless nothing may be read again.
	if err := rt.WriteLayout(layout, map[string]rt.Image{"v1": rt.Simple(rt.File("new", "er"))}); err != nil {
		t.Fatal(err)
	}
	if img, err := agree(t, "changed", "oci:"+layout+":v1", o); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%+v %v", img, err)
	}
	o.Policy = Never
	if _, err := agree(t, "changed", "oci:"+layout+":v1", o); err != nil {
		t.Error(err)
	}
}

// short files what ref names under a short name too, as a pull through registries.conf does.
func short(t *testing.T, o Options, typed, ref string) {
	t.Helper()
	want, err := oci.ParsePlatform(o.Platform)
	if err != nil {
		t.Fatal(err)
	}
	name, err := o.Store.Resolve(ref, want.String())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := o.Store.Record(store.Handle{Manifest: name.Manifest, Key: o.IDMap.Key()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := o.Store.Begin(ctx, o.IDMap)
	if err != nil {
		t.Fatal(err)
	}
	defer a.End()
	if err := a.PutRecord(rec, name, typed); err != nil {
		t.Fatal(err)
	}
}

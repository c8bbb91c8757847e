package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"cove/fetch/oci"
	"cove/fetch/store"
	"cove/userns"
)

// images measures a store of n images of two layers, of which they share one.
func (s *scale) images(n int) error {
	refs, err := s.fill(n)
	if err != nil {
		return err
	}
	last := refs[len(refs)-1]
	for _, c := range []struct {
		what  string
		times int
		argv  []string
	}{
		{"store: run", 9, []string{"run", "--image", last, "--", "/bin/true"}},
		{"store: image inspect", 3, []string{"image", "inspect", last}},
		{"store: images", 3, []string{"images"}},
		{"store: images --size", 1, []string{"images", "--size"}},
		{"store: gc --dry-run", 3, []string{"gc", "--dry-run"}},
		{"store: gc", 1, []string{"gc"}},
		{"store: rmi of one", 1, []string{"rmi", last}},
		{"store: rmi of a tenth", 1, append([]string{"rmi"}, refs[:n/10]...)},
	} {
		if err := s.row(n, c.times, c.what, "", append([]string{s.cove}, c.argv...)...); err != nil {
			return err
		}
	}
	return nil
}

// fill puts images into the store as a pull does, without what comes before.
func (s *scale) fill(n int) (refs []string, err error) {
	st, err := store.Open(filepath.Join(s.dir, "store"))
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	subids, err := userns.ReadSubIDs(me.Username, uint32(os.Getuid()))
	if err != nil {
		return nil, err
	}
	m, err := userns.Allocate(subids, uint32(os.Getuid()), uint32(os.Getgid()), 0, 0)
	if err != nil {
		return nil, err
	}
	a, err := st.Begin(s.ctx, m)
	if err != nil {
		return nil, err
	}
	defer a.End()
	names := map[string]string{}
	layer := func(text string, files map[string]string) (store.LayerRecord, error) {
		id := oci.FromString(text)
		tmp, err := a.TempLayer()
		for name, from := range files {
			at := filepath.Join(a.LayersDir(), tmp, name)
			if err == nil {
				err = os.MkdirAll(filepath.Dir(at), 0o755)
			}
			if err == nil {
				err = copyFile(at, from)
			}
		}
		names[tmp] = id.Encoded()
		return store.LayerRecord{Digest: id, Size: 1, DiffID: id, Dir: id.Encoded(), Bytes: 1, Entries: 1, Disk: 4096}, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	base, err := layer("base", map[string]string{"bin/true": self})
	if err != nil {
		return nil, err
	}
	own := make([]store.LayerRecord, n)
	for i := range own {
		if own[i], err = layer(fmt.Sprint("layer ", i), nil); err != nil {
			return nil, err
		}
	}
	if err := a.PublishLayers(names); err != nil {
		return nil, err
	}
	for i := range n {
		ref := fmt.Sprintf("registry.example.org/scale:%d", i)
		config := []byte(fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["N=%d"]},"rootfs":{"type":"layers"}}`, i))
		manifest := []byte(fmt.Sprintf(`{"schemaVersion":2,"annotations":{"n":"%d"}}`, i))
		rec := &store.Record{Manifest: oci.FromBytes(manifest), MediaType: oci.MediaTypeManifest, ConfigID: oci.FromBytes(config), Platform: "linux/amd64",
			Pulled: time.Now(), IDMap: m, Layers: []store.LayerRecord{base, own[i]}}
		if err := a.PutBlob(rec.Manifest, manifest); err != nil {
			return nil, err
		}
		if err := a.PutBlob(rec.ConfigID, config); err != nil {
			return nil, err
		}
		if err := a.PutRecord(rec, store.Name{Ref: ref, Platform: "linux/amd64", Manifest: rec.Manifest}, ref); err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// perFolder is how many files lie in one folder, and how many folders in another.
const perFolder = 20

// fileName is the path of the i-th of many files.
func fileName(i int) string {
	return fmt.Sprintf("%d/%d/%d/file-%d", i/perFolder/perFolder/perFolder, i/perFolder/perFolder, i/perFolder, i)
}

// layer measures an image with one layer of n files.
func (s *scale) layer(n int) error {
	dir := filepath.Join(s.dir, "oci")
	if err := s.layOut(dir, n); err != nil {
		return err
	}
	ref := "oci:" + dir + ":scale"
	for _, c := range []struct {
		what  string
		times int
		argv  []string
	}{
		{"layer: pull", 1, []string{"pull", ref}},
		{"layer: run", 9, []string{"run", "--image", ref, "--", "/bin/true"}},
		{"layer: image verify", 1, []string{"image", "verify", ref}},
		{"layer: images --size", 1, []string{"images", "--size"}},
		{"layer: rmi", 1, []string{"rmi", ref}},
	} {
		if err := s.row(n, c.times, c.what, "", append([]string{s.cove}, c.argv...)...); err != nil {
			return err
		}
	}
	return nil
}

// layOut writes an OCI layout of an image with one layer, a tar that is not compressed.
func (s *scale) layOut(dir string, n int) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	layer, err := writeLayer(filepath.Join(dir, "layer"), blobs, n)
	if err != nil {
		return err
	}
	put := func(mediaType string, v any) (oci.Descriptor, error) {
		data, err := json.Marshal(v)
		if err != nil {
			return oci.Descriptor{}, err
		}
		d := oci.FromBytes(data)
		return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}, os.WriteFile(filepath.Join(blobs, d.Encoded()), data, 0o644)
	}
	config, err := put(oci.MediaTypeConfig, map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": []oci.Digest{layer.Digest}}})
	if err != nil {
		return err
	}
	manifest, err := put(oci.MediaTypeManifest, oci.Manifest{Versioned: oci.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeManifest, Config: config, Layers: []oci.Descriptor{layer}})
	if err != nil {
		return err
	}
	manifest.Annotations = map[string]string{oci.AnnotationRefName: "scale"}
	index, err := json.Marshal(oci.Index{Versioned: oci.Versioned{SchemaVersion: 2}, Manifests: []oci.Descriptor{manifest}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

func writeLayer(tmp, blobs string, n int) (oci.Descriptor, error) {
	f, err := os.Create(tmp)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer f.Close()
	sum := newSummed(f)
	w := tar.NewWriter(sum)
	self, err := os.Executable()
	if err != nil {
		return oci.Descriptor{}, err
	}
	program, err := os.ReadFile(self)
	if err == nil {
		err = w.WriteHeader(&tar.Header{Name: "bin/true", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg})
	}
	if err == nil {
		_, err = w.Write(program)
	}
	for i := 0; i < n && err == nil; i++ {
		err = w.WriteHeader(&tar.Header{Name: fileName(i), Mode: 0o644, Typeflag: tar.TypeReg})
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = sum.flush()
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	d := sum.digest()
	return oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: d, Size: sum.size}, os.Rename(tmp, filepath.Join(blobs, d.Encoded()))
}

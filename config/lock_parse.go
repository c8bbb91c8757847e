package config

import (
	"fmt"
	"maps"
	"slices"

	"cove/fetch/oci"
)

// lockReader reads a lock. It is strict: what this cove does not know is something that it would not hold to.
type lockReader struct {
	doc      *document
	mistakes []Mistake
}

// parseLock reads a lock and tells everything that is wrong with it.
func parseLock(data []byte) (*Lock, []Mistake) {
	r := &lockReader{doc: parseTOML(data)}
	if r.mistakes = r.doc.mistakes; len(r.mistakes) > 0 {
		return nil, r.mistakes
	}
	l := &Lock{}
	if r.version(r.doc.tree["version"]) {
		r.known("", r.doc.tree, "version", "image", "setup")
		r.image(l, r.doc.tree["image"])
		r.setup(l, r.doc.tree["setup"])
	}
	if len(r.mistakes) > 0 {
		return nil, r.mistakes
	}
	return l, nil
}

// wrong notes a mistake in the value of a key.
func (r *lockReader) wrong(key, format string, args ...any) {
	line, col := r.doc.valuePlace(key)
	r.mistakes = append(r.mistakes, Mistake{Line: line, Col: col, Text: fmt.Sprintf(format, args...)})
}

// version comes first: nothing else of another format is worth a word.
func (r *lockReader) version(value any) bool {
	switch v, ok := value.(int64); {
	case value == nil:
		r.wrong("version", "version is missing: this is no lock of cove's")
	case !ok:
		r.wrong("version", "version = %s: want %d", showValue(value), lockVersion)
	case v != lockVersion:
		r.wrong("version", "version = %d: this cove knows %d; it takes the one that wrote it", v, lockVersion)
	default:
		return true
	}
	return false
}

// known refuses the keys of a table that have no meaning.
func (r *lockReader) known(parent string, table map[string]any, names ...string) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if !slices.Contains(names, name) {
			line, col := r.doc.keyPlace(keyOf(parent, name))
			r.mistakes = append(r.mistakes, Mistake{Line: line, Col: col,
				Text: fmt.Sprintf("unknown key %q%s", keyOf(parent, name), didYouMean(name, names))})
		}
	}
}

func (r *lockReader) image(l *Lock, value any) {
	table, ok := value.(map[string]any)
	if !ok {
		r.wrong("image", "image: want a table [image]%s", butGot(value))
		return
	}
	r.known("image", table, "ref", "platform")
	if l.Image.Ref = r.text("image.ref", table["ref"]); l.Image.Ref == "" && table["ref"] == "" {
		r.wrong("image.ref", `image.ref = "": names no image`)
	}
	list, ok := tablesOf(table["platform"])
	switch {
	case !ok || len(list) == 0:
		r.wrong("image.platform", "image.platform: want [[image.platform]] tables%s", butGot(table["platform"]))
		return
	case len(list) > maxLockedPlatforms:
		r.wrong("image.platform", "image.platform: more than %d platforms", maxLockedPlatforms)
		return
	}
	for i, one := range list {
		key := elementOf("image.platform", i)
		p := r.platform(key, one)
		if l.Image.Platform(p.Name) != nil && p.Name != "" {
			r.wrong(key+".name", "%s.name = %q: it is there twice", key, p.Name)
			continue
		}
		l.Image.Put(p)
	}
}

func (r *lockReader) platform(key string, table map[string]any) LockedPlatform {
	r.known(key, table, "name", "index", "manifest", "layers")
	p := LockedPlatform{Name: r.text(key+".name", table["name"])}
	if table["name"] != nil && !isPlatform(p.Name) {
		r.wrong(key+".name", "%s.name = %s: not a platform such as \"linux/amd64\"", key, showValue(table["name"]))
	}
	if table["index"] != nil {
		p.Index = r.digest(key+".index", table["index"])
	}
	p.Manifest = r.digest(key+".manifest", table["manifest"])
	list, ok := table["layers"].([]any)
	switch {
	case !ok:
		r.wrong(key+".layers", "%s.layers: want a list of digests%s", key, butGot(table["layers"]))
	case len(list) > maxLockedLayers:
		r.wrong(key+".layers", "%s.layers: more than %d layers", key, maxLockedLayers)
	default:
		for i, d := range list {
			p.Layers = append(p.Layers, r.digest(elementOf(key+".layers", i), d))
		}
	}
	return p
}

// isPlatform takes a platform as oci writes it, so that one has one name.
func isPlatform(name string) bool {
	p, err := oci.ParsePlatform(name)
	return err == nil && name == p.String() && len(name) <= 64 && only(name, letters+digits+"/._-")
}

func (r *lockReader) text(key string, value any) string {
	s, ok := value.(string)
	if !ok {
		r.wrong(key, "%s: want a string%s", key, butGot(value))
	}
	return s
}

func (r *lockReader) digest(key string, value any) oci.Digest {
	s, ok := value.(string)
	switch d := oci.Digest(s); {
	case !ok:
		r.wrong(key, "%s: want a digest%s", key, butGot(value))
	case d.Validate() != nil:
		r.wrong(key, "%s = %s: %v", key, showValue(s[:min(len(s), 200)]), d.Validate())
	default:
		return d
	}
	return ""
}

// butGot ends a sentence that begins with what was wanted.
func butGot(value any) string {
	if value == nil {
		return "; there is none"
	}
	return ", not " + kindOf(value)
}

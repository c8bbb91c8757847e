package sandbox

import (
	"fmt"
	"path"

	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/sandbox/spec"
)

// blame says of a command that could not be started when it is because a file of the image has gone from the store. It
// looks only then: a start that goes well reads no listing.
func blame(s Status, of *spec.Spec, o Options) Status {
	if s.Text == "" || o.Store == nil || o.Image == nil || len(of.Process.Argv) == 0 {
		return s
	}
	name := path.Base(string(of.Process.Argv[0]))
	switch s.Code {
	case 127:
	case 126:
		name = "" // the command is there; an interpreter or a loader of whatever name is not
	default:
		return s
	}
	file, layer := o.Store.Lost(*o.Image, name)
	if file == "" {
		return s
	}
	if rec, err := o.Store.Record(*o.Image); err == nil && rec.Setup != nil && rec.Layers[len(rec.Layers)-1].DiffID == layer {
		s.Text += fmt.Sprintf("; what setup has made is damaged: its layer %.19s has lost %s: --rebuild makes it anew", layer, oci.Short("/"+file))
		return s
	}
	s.Text += fmt.Sprintf("; the image is damaged: its layer %.19s has lost %s: `cove image verify %s` says what else",
		layer, oci.Short("/"+file), of.Root.Image)
	if !image.IsLocal(of.Root.Image) { // for what was made here no registry is asked
		s.Text += fmt.Sprintf(", `cove pull %s` mends it", of.Root.Image)
	}
	return s
}

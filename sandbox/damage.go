package sandbox

import (
	"fmt"
	"path"

	"cove/fetch/oci"
)

// blame says of a command that could not be started when it is because a file of the image has gone from the store. It
// looks only then: a start that goes well reads no listing.
func (b *box) blame(s Status) Status {
	if s.Text == "" || b.opts.Store == nil || b.opts.Image == nil || len(b.spec.Process.Argv) == 0 {
		return s
	}
	name := path.Base(string(b.spec.Process.Argv[0]))
	switch s.Code {
	case 127:
	case 126:
		name = "" // the command is there; an interpreter or a loader of whatever name is not
	default:
		return s
	}
	file, layer := b.opts.Store.Lost(*b.opts.Image, name)
	if file == "" {
		return s
	}
	s.Text += fmt.Sprintf("; the image is damaged: its layer %.19s has lost %s: `cove image verify %s` says what else, `cove pull %s` mends it",
		layer, oci.Short("/"+file), b.spec.Root.Image, b.spec.Root.Image)
	return s
}

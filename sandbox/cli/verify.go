package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/fetch/oci"
	"cove/fetch/store"

	"github.com/urfave/cli/v2"
)

func (a *app) imageVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "compare what the store holds with what was pulled, file by file",
		UsageText: "cove image verify [--json] [REF...]",
		Flags:     []cli.Flag{jsonFlag()},
		Action:    a.action(a.imageVerify),
	}
}

// errDamaged says that a check has found something; what, is on stdout.
type errDamaged struct {
	found  int64
	refs   []string // that a pull would mend
	local  []string // made here, which none would
	setups []string // made by profiles' setups
}

func (e *errDamaged) Error() string {
	if e.found == 1 {
		return "image verify: 1 problem found"
	}
	return fmt.Sprintf("image verify: %d problems found", e.found)
}

func (a *app) imageVerify(c *cli.Context) error {
	s, err := a.OpenStore()
	if err != nil {
		return err
	}
	var refs []string
	for _, ref := range c.Args().Slice() {
		refs = append(refs, storedName(s, ref))
	}
	v, unmarked := s.Verify(a.Ctx, refs...)
	if v == nil {
		return unmarked
	}
	if c.Bool("json") {
		err = writeJSON(a.Stdout, v)
	} else {
		_, err = a.Stdout.WriteString(verified(v))
	}
	if err = errors.Join(err, unmarked); err != nil || v.Found == 0 {
		return err
	}
	e := &errDamaged{found: v.Found}
	for _, p := range v.Problems {
		for _, ref := range p.Refs {
			// What has no name cannot be pulled; `cove gc` takes it.
			list := &e.refs
			switch {
			case image.IsLocal(ref):
				list = &e.local
			case store.IsSetup(ref):
				list = &e.setups
			}
			if oci.Digest(ref).Validate() != nil && !slices.Contains(*list, ref) {
				*list = append(*list, ref)
			}
		}
	}
	return e
}

func verified(v *store.Verification) string {
	var b strings.Builder
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "%s\n", escape(problem(p)))
	}
	if more := v.Found - int64(len(v.Problems)); more > 0 {
		fmt.Fprintf(&b, "and %d more in the same layers\n", more)
	}
	fmt.Fprintf(&b, "checked %d images: %d layers, %d files and folders, %s\n", v.Images, v.Layers, v.Entries, size(v.Bytes))
	return b.String()
}

// problem is one line: the image, the part of it, the file in that, and what is wrong.
func problem(p store.Problem) string {
	var parts []string
	if len(p.Refs) > 0 {
		parts = append(parts, strings.Join(p.Refs, ", "))
	}
	what := string(p.What)
	if p.Digest != "" {
		what += " " + short(p.Digest.String())
	}
	parts = append(parts, what)
	if p.Entry != nil {
		parts = append(parts, "/"+*p.Entry)
	} else {
		parts = append(parts, p.Path)
	}
	return strings.Join(parts, ": ") + " " + wrong(p.Kind, p.Detail)
}

// wrong is what happened, as the end of a sentence.
func wrong(kind layer.Damage, detail string) string {
	words := map[layer.Damage]string{
		layer.Missing: "is missing", layer.Added: "was added", layer.Type: "is of another kind", layer.Content: "has another content",
		layer.Size: "has another size", layer.Mode: "has another mode", layer.Owner: "has another owner", layer.Time: "has another time",
		layer.Target: "leads elsewhere", layer.Link: "is no longer the same file as its other names", layer.Attribute: "has another extended attribute",
		layer.Unreadable: "cannot be read", store.Damaged: "is damaged", store.Unlisted: "cannot be checked: an older cove has unpacked it, and kept no listing",
	}
	text := words[kind]
	if text == "" {
		text = string(kind)
	}
	if detail != "" {
		text += " (" + detail + ")"
	}
	return text
}

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cove/config"
)

// grantsText is the question: what the user is to agree to, or has agreed to. The grants' own texts were quoted by config.
func grantsText(p *config.Profile, d config.Decision, whole bool) string {
	var b strings.Builder
	name := quote(p.File)
	changes, gone := d.Changes()
	switch {
	case d.Trusted && len(d.Kept)+len(d.Own) == 0:
		fmt.Fprintf(&b, "%s grants nothing beyond its own folder.\n", name)
	case d.Trusted && len(d.Kept) == 0:
		fmt.Fprintf(&b, "%s wants nothing but what your own config.toml approves.\n", name)
	case d.Trusted && d.Known:
		fmt.Fprintf(&b, "You agreed to what %s grants%s. What runs inside may\n", name, on(d.Agreed))
	case d.Trusted: // for its registry is approved
		fmt.Fprintf(&b, "%s wants nothing that you have not agreed to. What runs inside may\n", name)
	case d.Anew:
		fmt.Fprintf(&b, "%s lies in another folder than the one that you agreed to%s. It wants that what runs inside may\n", name, on(d.Agreed))
	case d.Known && d.Changed:
		fmt.Fprintf(&b, "%s has changed since you agreed to it%s. What runs inside may now also\n", name, on(d.Agreed))
	case d.Known:
		fmt.Fprintf(&b, "%s wants more than you agreed to%s. What runs inside may now also\n", name, on(d.Agreed))
	default:
		fmt.Fprintf(&b, "%s wants that what runs inside may\n", name)
	}
	for _, c := range changes {
		if c[0].Text == "" {
			writeGrant(&b, "  + ", c[1])
			continue
		}
		writeGrant(&b, "  - ", c[0])
		writeGrant(&b, "  + ", c[1])
	}
	switch {
	case d.Trusted:
		writeGrants(&b, "    ", d.Kept)
	case whole && len(d.Kept) > 0:
		b.WriteString("as agreed before:\n")
		writeGrants(&b, "    ", d.Kept)
	case len(d.Kept) > 0:
		fmt.Fprintf(&b, "unchanged, as agreed before: %d (`cove trust --show` lists them)\n", len(d.Kept))
	}
	if len(gone) > 0 {
		b.WriteString("no longer wanted:\n")
		writeGrants(&b, "  - ", gone)
	}
	if len(d.Own) > 0 {
		b.WriteString("approved by your own config.toml:\n")
		writeGrants(&b, "    ", d.Own)
	}
	return b.String()
}

// fewLines are grants that stay in sight above the question.
const fewLines = 12

// counted says of how many grants the question is, where there are so many that one of another kind could be overlooked among
// them.
func counted(d config.Decision) string {
	if len(d.New) <= fewLines {
		return ""
	}
	kinds := map[string]int{}
	for _, g := range d.New {
		kinds[g.Kind]++
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[kind], kind))
	}
	return fmt.Sprintf("That is %d grants: %s.\n", len(d.New), strings.Join(parts, ", "))
}

// on is a day for a sentence, "" for one that nobody knows.
func on(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " on " + t.Local().Format("2006-01-02")
}

func writeGrants(b *strings.Builder, mark string, grants []config.Grant) {
	for _, g := range grants {
		writeGrant(b, mark, g)
	}
}

// writeGrant points at what is not as it looks, below the line.
func writeGrant(b *strings.Builder, mark string, g config.Grant) {
	fmt.Fprintf(b, "%s%s\n", mark, escape(g.Text))
	for _, note := range notes(g.Text) {
		fmt.Fprintf(b, "      ! %s\n", escape(note))
	}
}

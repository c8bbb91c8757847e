package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cove/config"
	"cove/sandbox/programs"
	"cove/sandbox/review"
	"cove/sandbox/review/change"
	"cove/sandbox/start"
)

// viewAt finds the view that the current folder is in: its project is that folder or one above it.
func (a *app) viewAt() (store, project, here string, err error) {
	if store, here, err = a.storeAndHere(); err != nil {
		return "", "", "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		_, err := review.Look(store, dir)
		if !errors.Is(err, review.ErrNone) {
			programs.Guard(dir)
			return store, dir, here, err
		}
		if dir == filepath.Dir(dir) {
			return "", "", "", fmt.Errorf("review %q: %w", here, review.ErrNone)
		}
	}
}

// storeAndHere are the store's folder and the current one, without links in their paths.
func (a *app) storeAndHere() (store, here string, err error) {
	if store, err = config.StoreDir(a.StoreDir, os.Getenv); err != nil {
		return "", "", err
	}
	if here, err = os.Getwd(); err == nil {
		here, err = filepath.EvalSymlinks(here)
	}
	if err != nil {
		return "", "", fmt.Errorf("find the current folder: %w", err)
	}
	if real, err := filepath.EvalSymlinks(store); err == nil {
		store = real
	}
	return store, here, nil
}

// inProject makes paths relative to the project that are relative to the current folder.
func inProject(project, here string, operands []string) ([]string, error) {
	var out []string
	for _, op := range operands {
		if op == "" {
			return nil, start.Usagef("a path is empty")
		}
		p := op
		if !filepath.IsAbs(p) {
			p = filepath.Join(here, p)
		}
		rel, err := filepath.Rel(project, filepath.Clean(p))
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return nil, start.Usagef("%s: not in the project, %s", quote(op), quote(project))
		}
		if rel == "." {
			rel = ""
		}
		out = append(out, rel)
	}
	return out, nil
}

// looked is a view that is only looked at: nobody is kept from it meanwhile.
type looked struct {
	record review.Record
	dir    string
}

func (l looked) Record() review.Record { return l.record }
func (l looked) Dir() string           { return l.dir }

// lookAtChanges compares a view with its project, also while a sandbox works in it.
func (a *app) lookAtChanges(ctx context.Context, store, project string) (*change.Set, error) {
	s, err := review.Open(store, project)
	var inUse *review.InUseError
	switch {
	case errors.As(err, &inUse):
		who := "another cove"
		if inUse.By != "" {
			who = "the sandbox " + quote(inUse.By)
		}
		a.warn("%s works in the view: this is how it is now", who)
	case err != nil:
		return nil, err
	default:
		s.Close()
	}
	r, err := review.Look(store, project)
	if err != nil {
		return nil, err
	}
	return change.Open(ctx, looked{r, review.Dir(store, project)}, func(w string) { a.warn("%s", w) })
}

// heldChanges is a view that nobody else has meanwhile.
type heldChanges struct {
	*change.Set
	session *review.Session
	project string
}

func (h *heldChanges) Close() error { return errors.Join(h.Set.Close(), h.session.Close()) }

// holdChanges locks a view and compares it with its project.
func (a *app) holdChanges(store, project string) (*heldChanges, error) {
	s, err := review.OpenSoon(a.Ctx, store, project)
	if err != nil {
		return nil, err
	}
	h, err := a.compare(s, project)
	if err != nil {
		s.Close()
	}
	return h, err
}

func (a *app) compare(s *review.Session, project string) (*heldChanges, error) {
	set, err := change.Open(a.Ctx, s, func(w string) { a.warn("%s", w) })
	if err != nil {
		return nil, err
	}
	return &heldChanges{set, s, project}, nil
}

// writeSummary tells what a set of changes is.
func (a *app) writeSummary(b *strings.Builder, changes []*change.Change, all bool) {
	s := change.Summarize(changes, all)
	var kinds []string
	for _, k := range change.Kinds {
		if n := s.Counts[k]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kindWord(k)))
		}
	}
	if len(kinds) == 0 {
		b.WriteString("nothing is changed\n")
		return
	}
	fmt.Fprintf(b, "%s: %s; %s\n", numbered(s.Total, "change", "changes"), strings.Join(kinds, ", "), size(s.Bytes))
	shown := s.Changes
	const most = 40
	if !all && len(shown) > most {
		// Those with something to say first.
		var first, rest []*change.Change
		for _, c := range shown {
			if len(c.Warnings) > 0 || c.Conflict != "" || c.Refused != "" {
				first = append(first, c)
			} else {
				rest = append(rest, c)
			}
		}
		shown = append(first, rest[:max(0, min(len(rest), most-len(first)))]...)
	}
	var rows [][]string
	for _, c := range shown {
		rows = append(rows, summaryRow(c))
	}
	for _, f := range s.Folded {
		rows = append(rows, []string{"ignored", string(f.Path), numbered(f.Changes, "change", "changes") + ", " + size(f.Bytes), ""})
	}
	writeRows(b, rows)
	if left := len(s.Changes) - len(shown); left > 0 {
		fmt.Fprintf(b, "  and %d more: cove diff --all --name-status\n", left)
	}
}

func kindWord(k change.Kind) string {
	switch k {
	case change.Type:
		return "type"
	case change.Target:
		return "link target"
	case change.Mode:
		return "mode"
	case change.Xattr:
		return "extended attribute"
	}
	return string(k)
}

func numbered(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// summaryRow is one change: what, where, how large, and what to look at.
func summaryRow(c *change.Change) []string {
	path, detail := c.Shown(), ""
	switch {
	case c.Kind == change.Renamed:
		detail = "from " + escape(string(c.From))
	case c.Kind == change.Mode:
		detail = fmt.Sprintf("%04o -> %04o", c.Old.Mode&0o7777, c.New.Mode&0o7777)
	case c.Kind == change.Type:
		detail = c.Old.What() + " -> " + c.New.What()
	case c.New.IsLink():
		detail = "-> " + escape(string(c.New.Target))
	case c.Kind == change.Changed:
		detail = size(c.Old.Size) + " -> " + size(c.New.Size)
	case c.New.IsFile():
		detail = size(c.New.Size)
	case c.New == nil && c.Old.IsFile():
		detail = size(c.Old.Size)
	}
	if c.New.IsDir() || c.New == nil && c.Old.IsDir() {
		path += "/"
	}
	var notes []string
	notes = append(notes, c.Warnings...)
	if c.Conflict != "" {
		notes = append(notes, "CONFLICT: "+c.Conflict)
	}
	if c.Refused != "" {
		notes = append(notes, "cannot be applied: "+c.Refused)
	}
	if len(notes) > 0 {
		notes[0] = "! " + notes[0]
	}
	return []string{string(c.Kind), path, detail, strings.Join(notes, "; ")}
}

// writeRows writes rows in columns; a long path takes no more than its due.
func writeRows(b *strings.Builder, rows [][]string) {
	widths := []int{0, 0, 0}
	for _, r := range rows {
		for i := range widths {
			r[i] = escape(r[i])
			if n := len([]rune(r[i])); n <= 50 {
				widths[i] = max(widths[i], n)
			}
		}
	}
	for _, r := range rows {
		line := " "
		for i := range widths {
			line += " " + r[i] + strings.Repeat(" ", max(0, widths[i]-len([]rune(r[i])))+1)
		}
		b.WriteString(strings.TrimRight(line+escape(r[3]), " ") + "\n")
	}
}

package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"cove/fetch/store"
	"cove/sandbox"
)

// tellPersists says what persist has kept for whom.
func (a *app) tellPersists(s *store.Store) error {
	kept, err := s.Persists(a.Ctx)
	var b strings.Builder
	for _, k := range kept {
		b.WriteString(persistText(k) + "\n")
	}
	_, werr := a.Stdout.WriteString(b.String())
	return errors.Join(err, werr)
}

func persistText(k store.PersistUse) string {
	text := fmt.Sprintf("%s kept by persist for %s on %s", size(k.Bytes), escape(k.Project), escape(k.Image))
	switch {
	case k.InUse != "":
		text += fmt.Sprintf(", in use by %s", quote(k.InUse))
	case k.Gone:
		text += ", a folder that is not there"
	}
	return text
}

// dropPersists drops what is kept for the projects in some folders, which need not be there any more.
func (a *app) dropPersists(s *store.Store, dirs []string, dry bool) ([]store.PersistUse, error) {
	all := []store.PersistUse{}
	for _, dir := range dirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			abs = real
		}
		gone, err := s.DropPersisted(a.Ctx, store.ProjectName(abs), dry)
		var inUse *store.InUseError
		if errors.As(err, &inUse) {
			return nil, &sandbox.PersistError{Project: abs, Why: err.Error(), Holder: inUse.Holder.Name}
		}
		if err == nil && len(gone) == 0 {
			err = fmt.Errorf("gc --persist %s: nothing is kept for that folder", quote(dir))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, gone...)
	}
	return all, nil
}

// persistsBut is what is kept and was not dropped.
func (a *app) persistsBut(s *store.Store, dropped []store.PersistUse) ([]store.PersistUse, error) {
	kept, err := s.Persists(a.Ctx)
	return slices.DeleteFunc(kept, func(k store.PersistUse) bool {
		return slices.ContainsFunc(dropped, func(d store.PersistUse) bool { return d.Persist == k.Persist })
	}), err
}

func (a *app) printPersists(dry bool, kept, dropped []store.PersistUse) error {
	word := "dropped"
	if dry {
		word = "would drop"
	}
	var b strings.Builder
	for _, p := range dropped {
		fmt.Fprintf(&b, "%s %s\n", word, persistText(p))
	}
	for _, k := range kept {
		fmt.Fprintf(&b, "%s; `cove gc --persist DIR` drops it\n", persistText(k))
	}
	_, err := a.Stdout.WriteString(b.String())
	return err
}

package sandbox

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"cove/sandbox/review"
	"cove/sandbox/spec"
)

// useView locks the copy-on-write view of a project under review, makes it when there is none, and closes the other ways to
// the project.
func (b *box) useView(ctx context.Context) error {
	views := b.spec.Views()
	if len(views) == 0 {
		return nil
	}
	project := string(views[0].Source)
	want := review.Want{Project: project, IDMap: b.spec.IDMap, Kind: views[0].View.Kind, By: b.spec.Name}
	for _, v := range views {
		want.Paths = append(want.Paths, string(v.View.Path))
	}
	view, err := review.Use(ctx, b.opts.Store.Dir(), want)
	if err != nil {
		return err
	}
	b.view = view
	var targets []string
	for _, m := range b.spec.Mounts {
		if m.Kind == spec.MountView {
			continue
		}
		if rel, ok := below(string(m.Target), string(views[0].Target)); ok && rel != "" {
			targets = append(targets, strings.TrimPrefix(rel, "/"))
		}
	}
	placed := view.Missing(targets)
	b.undo(func() error {
		b.servers.Wait()
		placed.Remove()
		ctx, cancel := context.WithTimeout(context.Background(), removeTime)
		defer cancel()
		return view.Leave(ctx)
	})
	return b.guardReviewed(project)
}

// guardReviewed makes read-only what other mounts show of a project under review: as a whole where a mount is of something
// in it, in part where one is of a folder above it. What counts is the place in the file system: the same folder may have
// several names outside.
func (b *box) guardReviewed(project string) error {
	mounts, err := review.ReadMounts()
	if err != nil {
		return fmt.Errorf("review %q: %w", project, err)
	}
	for i := range b.spec.Mounts {
		m := &b.spec.Mounts[i]
		if m.Kind != spec.MountBind || m.ReadOnly {
			continue
		}
		source, err := filepath.EvalSymlinks(string(m.Source))
		if err != nil {
			continue // whoever opens it says so
		}
		shown := spec.Below{Target: m.Target}
		for _, at := range review.Shown(mounts, source, project) {
			if at == "" {
				b.warn("%q is read-only inside: it is of the project, which is under review", string(m.Target))
				m.ReadOnly = true
				break
			}
			shown.Paths = append(shown.Paths, spec.Path(at))
		}
		if !m.ReadOnly && len(shown.Paths) > 0 {
			b.spec.Reviewed = append(b.spec.Reviewed, shown)
		}
	}
	return nil
}

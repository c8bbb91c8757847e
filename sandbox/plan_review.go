package sandbox

import (
	"errors"
	"fmt"
	"path"

	"cove/sandbox/spec"
)

// ErrReviewAsRoot says that root has no views: its projects are shown by id-mapped mounts, which none is made of.
var ErrReviewAsRoot = errors.New("workspace review as root: inside, root's own files are nobody's, and a view of them would be of no use")

// views mounts the workspace as a copy-on-write view, and what is mounted inside it each as one of its own.
func (p *planner) views() error {
	r := p.in.Review
	if r == nil {
		return errors.New("bug: workspace review without a look at the project")
	}
	if p.in.Host.UID == 0 {
		return ErrReviewAsRoot
	}
	kind, err := p.viewKind(r)
	if err != nil {
		return err
	}
	project := p.profile.Dir
	for i, rel := range append([]string{""}, r.Nested...) {
		p.spec.Mounts = append(p.spec.Mounts, spec.Mount{
			Kind: spec.MountView, Source: spec.Path(path.Join(project, rel)), Target: spec.Path(path.Join(p.workspace, rel)),
			View: &spec.View{Kind: kind, Dir: spec.Path(fmt.Sprintf("%s/%d", r.Dir, i)), Path: spec.Path(rel)},
		})
	}
	// A file has no upper directory.
	for _, rel := range r.Files {
		p.bind(path.Join(project, rel), path.Join(p.workspace, rel), true, "")
	}
	return nil
}

// viewKind chooses how a view is made: as the one was that is there, or else as this machine and this project let it.
func (p *planner) viewKind(r *Review) (spec.RootKind, error) {
	h := p.in.Host
	if r.Kind != "" {
		why := ""
		switch {
		case r.Kind == spec.RootOverlay && !h.NativeOverlay.OK:
			why = h.NativeOverlay.Why
		case r.Kind == spec.RootFuse && !h.Fuse():
			why = "it is not installed, or /dev/fuse cannot be used"
		}
		if why != "" {
			return "", &KeptViewError{Kind: r.Kind, Why: why}
		}
		return r.Kind, nil
	}
	native := h.NativeOverlay
	switch {
	case native.OK && len(r.Nested)+len(r.Files) > 0:
		native.OK, native.Why = false, "something is mounted inside it"
	case native.OK:
		native = r.Overlay
	}
	switch {
	case native.OK:
		return spec.RootOverlay, nil
	case h.Fuse():
		p.lost("no native overlay on %s (%s): using fuse-overlayfs, which is slower", p.profile.Dir, native.Why)
		return spec.RootFuse, nil
	}
	p.lost("neither native overlay (%s) nor fuse-overlayfs for %s: its view is a copy of it", native.Why, p.profile.Dir)
	return spec.RootCopy, nil
}

// A KeptViewError says that the view that a project has, with changes in it, cannot be mounted any more.
type KeptViewError struct {
	Kind spec.RootKind
	Why  string
}

func (e *KeptViewError) Error() string {
	return fmt.Sprintf("the project's view was made with %s, which cannot be had now (%s)", e.Kind, e.Why)
}

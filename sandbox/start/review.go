package start

import (
	"fmt"
	"os"
	"syscall"

	"cove/config"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/review"
	"cove/userns"
)

// review looks at a project that a copy-on-write view is wanted of; nil where none is.
func (c *Call) review(in *sandbox.Input, s *store.Store) (*sandbox.Review, error) {
	project := in.Profile.Dir
	if in.Profile.Workspace.Mode != "review" || project == "" || s == nil {
		return nil, nil
	}
	if s.Dir() == project || inside(project, s.Dir()) {
		return nil, fmt.Errorf("review %q: cove's store lies in it (%s), and its view would lie in itself", project, s.Dir())
	}
	kept, err := c.Review(s.Dir(), project)
	if err != nil {
		return nil, err
	}
	r := &sandbox.Review{Dir: review.Dir(s.Dir(), project)}
	if kept != nil {
		r.Kind = kept.Kind
	}
	mounts, err := review.ReadMounts()
	if err == nil {
		r.Nested, r.Files, err = review.Inside(mounts, project)
	}
	if err != nil {
		return nil, fmt.Errorf("review %q: %w", project, err)
	}
	if kept != nil || len(r.Nested)+len(r.Files) > 0 || !in.Host.NativeOverlay.OK {
		return r, nil
	}
	info, err := os.Stat(project)
	if err != nil {
		return nil, fmt.Errorf("review %q: %w", project, err)
	}
	if r.Overlay.Why = foreign(info, in.IDMap); r.Overlay.Why == "" {
		r.Overlay, err = in.Host.TryLower(c.Ctx, s.Dir(), project)
	}
	return r, err
}

// foreign says that a folder, and most likely what is in it, belongs to somebody who is nobody inside, as a group that users
// share does. The kernel's overlay copies a file for such an owner or not at all, and cannot: EOVERFLOW.
func foreign(info os.FileInfo, m userns.IDMap) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	if _, mapped := m.ContainerUID(st.Uid); !mapped {
		return fmt.Sprintf("it belongs to the user %d, who is nobody inside", st.Uid)
	}
	if _, mapped := m.ContainerGID(st.Gid); !mapped {
		return fmt.Sprintf("it belongs to the group %d, which is nobody's inside", st.Gid)
	}
	return ""
}

// distrust takes from a command that is not trusted what its profile grants beyond reading: mounts are read-only, since what
// they are of is in no view, and nothing of the caller's session can be used. A mount that was typed is what it is.
func distrust(p *config.Profile) {
	p.Integrations = config.Integrations{}
	for i := range p.Mounts {
		if p.OriginOf(fmt.Sprintf("mount[%d]", i)).Kind != config.FromFlag {
			p.Mounts[i].Mode = "ro"
		}
	}
}

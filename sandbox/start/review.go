package start

import (
	"fmt"
	"os"
	"slices"
	"strconv"
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

// distrust takes from a command that is not trusted what its profile, or the user's own defaults, grant beyond the project:
// mounts can only be read, since what they are of is in no view; nothing of the caller's session and environment is there, no
// file of the caller's home, no port of this machine, and no right or system call that a sandbox does not have by itself. What
// was typed is what it is.
func distrust(l Line, p *config.Profile) {
	typed := func(key string) bool { return p.OriginOf(key).Kind == config.FromFlag }
	var mounts []config.Mount
	for i, m := range p.Mounts {
		if !typed(fmt.Sprintf("mount[%d]", i)) {
			// Who may only read a socket can connect to it all the same: no mount's flag keeps from that.
			if info, err := os.Stat(m.Source); err == nil && info.Mode()&os.ModeSocket != 0 {
				continue
			}
			m.Mode = "ro"
		}
		mounts = append(mounts, m)
	}
	p.Mounts = mounts
	// A name that the profile has too is not told from the profile's.
	p.Env.Pass = slices.DeleteFunc(slices.Clone(p.Env.Pass), func(name string) bool { return !slices.Contains(l.Words("env"), name) })
	p.Integrations, p.Home.Dotfiles = config.Integrations{}, nil
	if !typed("security.new_privileges") {
		p.Security.NewPrivileges = false
	}
	if !typed("security.nested") {
		p.Security.Nested = false
	}
	if !typed("security.seccomp") {
		p.Security.Seccomp = config.Seccomp{}
	}
	p.Network.HostPorts = slices.DeleteFunc(slices.Clone(p.Network.HostPorts), func(port uint16) bool {
		return !slices.ContainsFunc(l.Words("host-port"), func(word string) bool { return word == strconv.Itoa(int(port)) })
	})
	var published []config.Publish
	for _, word := range l.Words("publish") {
		some, _ := config.ParsePublishes(word) // read before; "auto" is none
		published = append(published, some...)
	}
	p.Network.Publish = slices.DeleteFunc(slices.Clone(p.Network.Publish), func(one config.Publish) bool { return !slices.Contains(published, one) })
	p.Network.PublishAuto = p.Network.PublishAuto && slices.Contains(l.Words("publish"), "auto")
	p.Security.Caps = slices.DeleteFunc(config.ExpandCaps(p.Security.Caps), func(c string) bool { return !slices.Contains(config.DefaultCaps(), c) })
}

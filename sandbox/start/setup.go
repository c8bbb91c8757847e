package start

import (
	"errors"
	"fmt"

	"cove/config"
	"cove/fetch/image"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/homes"
	"cove/sandbox/spec"
)

// SetUp is an image that is to be made of another one by a profile's setup.
type SetUp struct {
	Work    sandbox.SetUp // but for Begin, Output and Keep
	Key     string
	Apart   string // of the key
	Rebuild bool   // though it is there
	Offline bool   // no socket may be opened for it
	For     string
}

// setUp puts what setup has made of the image in the image's place. To find that costs two small files that are read.
func (c *Call) setUp(in *sandbox.Input, s *store.Store, l Line) error {
	text := in.Profile.Setup
	rebuild := l.Bool("rebuild")
	if len(text) == 0 {
		if rebuild && !in.Profile.Persist {
			return Usagef("--rebuild: there is neither a setup nor persist, and so nothing to make anew")
		}
		return nil
	}
	base := in.Image
	switch base.Kind {
	case image.Host:
		return errors.New(`setup: the image "host" is this machine's own root file system, read-only: nothing can be set up in it`)
	case image.Dir:
		return fmt.Errorf("setup: the image %q is a folder, whose files may change at any time: what comes of it cannot be kept", base.Ref)
	}
	by, apart := askedBy(in.Profile), in.Profile.SetupApart()
	found, setup, err := base.SetUp(s, text, apart)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil && (!rebuild || l.Bool("dry-run")) {
		in.Image = found
		h, _ := found.Handle()
		if !setup.AskedBy(by) {
			s.NoteSetup(h, by)
		}
		return nil
	}
	if l.Bool("dry-run") {
		c.Warn("setup has not been run: this is the image without it")
		return nil
	}
	own, err := in.ForSetup()
	if err != nil {
		return err
	}
	decided, err := sandbox.Plan(own)
	if err != nil {
		return fmt.Errorf("plan the sandbox of setup: %w", err)
	}
	options, err := c.options(&own, s)
	if err != nil {
		return err
	}
	work := sandbox.SetUp{Spec: decided, Options: options, Base: base, Commands: text}
	made, err := c.SetUp(&SetUp{Work: work, Key: base.SetupKey(text, apart), Apart: apart, Rebuild: rebuild, Offline: l.Bool("offline"), For: by})
	if err == nil {
		in.Image = made
	}
	return err
}

// askedBy is the file that a setup is from, "" of one that was typed.
func askedBy(p *config.Profile) string { return p.OriginOf("setup").File }

// persist says where the root file system's changes are kept, and finds out how they were made.
func persist(in *sandbox.Input, s *store.Store, l Line) (*sandbox.Persist, error) {
	p := in.Profile
	if !p.Persist {
		return nil, nil
	}
	by := p.NameOf("persist")
	switch {
	case in.ReadOnly:
		return nil, Usagef("%s and --read-only exclude each other: nothing could be changed that is kept (--persist=false)", by)
	case p.Dir == "":
		return nil, fmt.Errorf("%s: there is no project folder here to keep a root file system for", by)
	case in.Image.Kind == image.Host:
		return nil, fmt.Errorf(`%s: the image "host" is this machine's own root file system, read-only: there is nothing to keep`, by)
	case in.Image.Kind == image.Dir:
		return nil, fmt.Errorf("%s: the image %q is a folder, whose files may change at any time: changes to it cannot be kept", by, in.Image.Ref)
	}
	h, _ := in.Image.Handle()
	of := store.Persist{Project: store.ProjectName(p.Dir), Image: p.Image, Platform: in.Image.Platform}
	born, err := homes.Born(p.Dir)
	if err != nil {
		return nil, fmt.Errorf("%s: look at the project %q: %w", by, p.Dir, err)
	}
	out := &sandbox.Persist{Persisted: store.Persisted{Persist: of, Manifest: h.Manifest, Key: h.Key, Born: born}, Restart: l.Bool("rebuild")}
	have, err := s.ReadPersisted(of)
	if err != nil && !out.Restart {
		return nil, err
	}
	if have != nil && !out.Restart {
		in.Kept = spec.RootKind(have.Kind)
	}
	return out, nil
}

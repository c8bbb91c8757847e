package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"cove/config"
	"cove/fetch"
	"cove/fetch/image"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/start"
)

// errSetup is a setup that did not come to its end, and where its log is.
type errSetup struct {
	error
	log  string
	last []string // lines of it
	none bool     // it had no network
}

func (e *errSetup) Unwrap() error { return e.error }

func (e *errSetup) Error() string {
	var b strings.Builder
	b.WriteString(e.error.Error())
	for _, l := range e.last {
		b.WriteString("\n  | " + l)
	}
	if e.log != "" {
		b.WriteString("\nthe log is " + e.log)
	}
	return b.String()
}

// errSetupOffline says that an image is not set up, and that what does it would need a network.
type errSetupOffline struct{ ref string }

func (e *errSetupOffline) Error() string {
	return fmt.Sprintf("setup of image %q: it has not been run here, and its commands have a network, which --offline forbids", e.ref)
}

// setUp makes an image by a profile's setup, or waits for another cove that does.
func (a *app) setUp(w *start.SetUp) (*image.Image, error) {
	s, base := w.Work.Options.Store, w.Work.Base
	before, _, _ := base.SetUp(s, w.Work.Commands, w.Apart)
	work, err := s.BeginSetup(a.Ctx, w.Key, func() { a.Warn("setup: another cove is at it; waiting for that one") })
	if err != nil {
		return nil, a.interruptedOr(fmt.Errorf("setup: %w", err))
	}
	defer work.End()
	// What another one has made meanwhile is as new as what would be made now.
	now, _, err := base.SetUp(s, w.Work.Commands, w.Apart)
	if err == nil && (!w.Rebuild || before == nil || before.Digest != now.Digest) {
		return now, a.hold(now, s)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if w.Offline && w.Work.Spec.Network.Mode != "none" {
		return nil, &errSetupOffline{base.Ref}
	}
	show, err := newSetupShow(a.Stderr, work.Log)
	if err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	a.Warn("setup of %s: %s, once (network: %s)", base.Ref, plural(len(w.Work.Commands), "command"), networkWord(w.Work.Spec.Network.Mode, w.Work.Spec.Network.Egress.Listed))
	w.Work.Begin = func(n int) { show.begin(n, w.Work.Commands) }
	w.Work.Output = show
	w.Work.Keep = func(held *sandbox.Held) error { return a.keepSetup(w, held) }
	err = w.Work.Run(a.Ctx)
	last := show.end(err == nil)
	if err == nil {
		if now, _, err = base.SetUp(s, w.Work.Commands, w.Apart); err == nil {
			err = a.hold(now, s)
		}
		return now, err
	}
	if a.Ctx.Err() != nil {
		return nil, a.interruptedOr(err)
	}
	var command *sandbox.CommandError
	if !errors.As(err, &command) {
		last = nil
	}
	return nil, &errSetup{err, work.Log, last, command != nil && w.Work.Spec.Network.Mode == "none"}
}

// hold keeps an image while this process lives. One that was set up by a command that was typed is nobody's, and the next
// collection's, as soon as another cove may take the setup's lock.
func (a *app) hold(img *image.Image, s *store.Store) error {
	release, err := img.Use(s)
	a.held = append(a.held, release)
	return err
}

func networkWord(mode string, listed bool) string {
	if mode == "user" && listed {
		return "what is allowed"
	}
	return mode
}

// keepSetup makes an image of what the commands have left.
func (a *app) keepSetup(w *start.SetUp, held *sandbox.Held) error {
	req, err := commitRequest(held, w.Work.Options.Store)
	if err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	req.Ref, req.Command = store.SetupName(w.Key), "cove setup: "+strings.Join(w.Work.Commands, "; ")
	if req.Created, err = createdNow(); err != nil {
		return err
	}
	base := w.Work.Base
	req.Setup = &store.Setup{Of: base.Ref, Base: base.Digest, Text: w.Work.Commands}
	if w.For != "" {
		req.Setup.For = []string{w.For}
	}
	done, err := fetch.Commit(a.Ctx, *req)
	if err != nil {
		return fmt.Errorf("setup: keep what it has made: %w", err)
	}
	if held.Running > 0 {
		a.Warn("setup: %d processes that it left running could not be stopped while it was read", held.Running)
	}
	a.Log.Debug("set up", "image", base.Ref, "layer", done.Layer, "bytes", done.Bytes)
	return nil
}

// setupWanted tells whether one of the profiles that asked for a setup asks for it still. One that cannot be read may.
func setupWanted(u *store.Setup) bool {
	for _, file := range u.For {
		if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
			continue
		}
		text, ok := config.SetupIn(file)
		if !ok || len(text) == len(u.Text) && strings.Join(text, "\x00") == strings.Join(u.Text, "\x00") {
			return true
		}
	}
	return false
}

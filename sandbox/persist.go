package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"cove/fetch/store"
	"cove/sandbox/spec"
)

// Persist says which changes of a root file system are kept, and what they have to be of.
type Persist struct {
	store.Persisted
	Restart bool // what is kept is dropped first
}

// A PersistError says that what is kept for a project cannot be used now: it is in use, or of another image.
type PersistError struct {
	Project string
	Why     string
	Holder  string // the sandbox that uses it; "" where that is not what is wrong
}

func (e *PersistError) Error() string {
	return fmt.Sprintf("the root file system that is kept for %q: %s", e.Project, e.Why)
}

// keptRoot puts a root file system together as it was when its changes were made: whiteouts and opaque directories are
// marked otherwise by each kind.
func (p *planner) keptRoot() error {
	root, h := &p.spec.Root, p.in.Host
	root.Kind = p.in.Kept
	why := ""
	switch root.Kind {
	case spec.RootOverlay:
		if !h.NativeOverlay.OK {
			why = "it was changed with a native overlay, and there is none here any more (" + h.NativeOverlay.Why + ")"
		}
	case spec.RootFuse:
		if !h.Fuse() {
			why = "it was changed with fuse-overlayfs, which is not here any more"
		}
	case spec.RootCopy:
	default:
		why = fmt.Sprintf("it is of a kind unknown here, %q: a newer cove made it", root.Kind)
	}
	if why != "" {
		return &PersistError{Project: p.profile.Dir, Why: why}
	}
	return nil
}

// usePersisted takes what is kept for the project in place of a run's own directory, or makes it.
func (b *box) usePersisted(ctx context.Context) error {
	s, want, root := b.opts.Store, b.opts.Persist, &b.spec.Root
	if err := s.Sweep(ctx); err != nil {
		b.warn("remove what killed sandboxes left in the store: %v", err)
	}
	failed := func(why string, holder string) error {
		return &PersistError{Project: want.Folder(), Why: why, Holder: holder}
	}
	run, have, err := s.OpenPersist(ctx, want.Persist, b.spec.IDMap)
	var inUse *store.InUseError
	switch {
	case errors.As(err, &inUse):
		return failed(inUse.Error(), inUse.Holder.Name)
	case err != nil:
		return fmt.Errorf("open the root file system that is kept: %w", err)
	}
	b.undo(run.Lock.Close)
	if have != nil && want.Restart {
		if err := s.Restart(ctx, run, b.spec.IDMap); err != nil {
			return fmt.Errorf("drop the root file system that was kept: %w", err)
		}
		have = nil
	}
	if have != nil {
		if why := misfit(have, &want.Persisted); why != "" {
			return failed(why, "")
		}
		if have.Kind != string(root.Kind) {
			return failed("it was made otherwise meanwhile, with "+have.Kind+": try again", "")
		}
	}
	b.persisted, root.RunDir = run, spec.Path(run.Dir)
	if err := b.giveToSandbox(run.Dir, run.Upper, run.Work); err != nil {
		return err
	}
	if have != nil {
		return nil
	}
	if root.Kind == spec.RootCopy {
		if err := b.flatten(ctx, run); err != nil {
			return err
		}
	}
	made := want.Persisted
	made.Kind, made.Made = string(root.Kind), time.Now().UTC()
	return s.Keep(run, made)
}

// misfit says why what is kept does not go with what would run now; "" where it does. Another folder that later has the same
// path is another project: it is to have nothing of the first one's, nor to run what that has left there.
func misfit(have, want *store.Persisted) string {
	switch {
	case have.Born != want.Born && have.Born != "" && want.Born != "":
		return "it is of another folder, which had that path before"
	case have.Manifest != want.Manifest:
		return fmt.Sprintf("it was changed on %s, and the image is %s now", have.Manifest, want.Manifest)
	case have.Key != want.Key:
		return "its files are owned as another mapping of ids has it"
	}
	return ""
}

// holdPersisted notes who uses what is kept, before anything is mounted on it.
func (b *box) holdPersisted() error {
	if b.persisted == nil {
		return nil
	}
	h := store.Holder{ID: b.spec.ID, Name: b.spec.Name, Init: b.child.Pid()}
	if err := b.persisted.SetHolder(h); err != nil {
		return fmt.Errorf("note who uses the root file system that is kept: %w", err)
	}
	return nil
}

// placedName has what cove has put into the root file system that is kept, in this run and those before: that is no change
// of anybody's, and `cove commit` leaves it out.
const placedName = "/placed.json"

func readPlaced(dir string) (placed []spec.Placed) {
	data, err := os.ReadFile(dir + placedName)
	if err == nil {
		_ = json.Unmarshal(data, &placed)
	}
	return placed
}

// notePlaced adds to that. What is not noted is one folder more in an image, and no error.
func (b *box) notePlaced(now []spec.Placed) {
	if b.persisted == nil {
		return
	}
	all := readPlaced(b.persisted.Dir)
	before := len(all)
	for _, one := range now {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	if len(all) == before {
		return
	}
	if err := writePlaced(b.persisted.Dir, all); err != nil {
		b.warn("note what was put into the root file system that is kept: %v", err)
	}
}

func writePlaced(dir string, all []spec.Placed) error {
	data, err := json.Marshal(all)
	name := dir + placedName
	if err == nil {
		err = os.WriteFile(name+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	return err
}

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cove/config"
	"cove/fetch/store"
	"cove/sandbox"
	"cove/sandbox/homes"
	"cove/sandbox/review"
	"cove/sandbox/spec"
	"cove/sandbox/start"
	"cove/userns"

	"github.com/urfave/cli/v2"
)

func (a *app) gcCommand() *cli.Command {
	return &cli.Command{
		Name:      "gc",
		Usage:     "give disk back: what no image needs, and what killed commands left",
		UsageText: "cove gc [--dry-run] [--views] [--homes] [--json] [--persist DIR]...",
		Flags: []cli.Flag{jsonFlag(),
			wordsFlag("persist", "drop what persist has kept for the project in `DIR` too"),
			&cli.BoolFlag{Name: "dry-run", Usage: "remove nothing, say what would be"},
			&cli.BoolFlag{Name: "views", Usage: "remove also what waits for review of projects that are gone"},
			&cli.BoolFlag{Name: "homes", Usage: "remove also the homes of projects that are gone"}},
		Action: a.action(a.gc),
	}
}

// goneHome is the home of a project that is gone.
type goneHome struct {
	Project spec.Path `json:"project,omitempty"` // "" where that is not known
	Dir     spec.Path `json:"dir"`
	Bytes   int64     `json:"bytes"`
	Removed bool      `json:"removed"` // or would be
}

func (a *app) gc(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	s, err := a.OpenStore()
	if err != nil {
		return err
	}
	dry := c.Bool("dry-run")
	dropped, err := a.dropPersists(s, (line{c}).Words("persist"), dry)
	if err != nil {
		return err
	}
	removed, err := s.Collect(a.Ctx, dry)
	if err != nil {
		return err
	}
	views, err := review.Sweep(a.Ctx, s.Dir(), c.Bool("views"), dry, a.holdsChanges)
	if err != nil {
		return err
	}
	removed.Leftovers += views.Leftovers
	removed.Bytes += views.Bytes
	kept, err := a.persistsBut(s, dropped)
	if err != nil {
		return err
	}
	gone, err := a.goneHomes(c.Bool("homes"), dry)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(a.Stdout, collected{Removed: removed, Views: viewUses(views.Views), RemovedViews: viewUses(views.Removed), Persist: kept, RemovedPersist: dropped, Homes: gone})
	}
	return errors.Join(a.printRemoved(c, removed), a.printPersists(dry, kept, dropped), a.printViews(c, views), a.printHomes(c, gone))
}

// goneHomes looks for the homes of projects that are gone. They are removed only where that was asked for: a project on a
// disk that is not mounted now is not to be told from one that is gone.
func (a *app) goneHomes(remove, dry bool) ([]goneHome, error) {
	out := []goneHome{}
	data, err := config.DataHome(os.Getenv)
	if err != nil {
		return out, err
	}
	all, err := homes.List(filepath.Join(data, "cove"))
	if err != nil {
		return out, err
	}
	all = slices.DeleteFunc(all, func(h homes.Home) bool { return !h.Gone })
	if len(all) == 0 {
		return out, nil
	}
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return out, err
	}
	running, err := sandbox.List(dir)
	if err != nil {
		return out, err
	}
	m, err := a.everyID()
	if err != nil {
		return out, err
	}
	for _, h := range all {
		if slices.ContainsFunc(running, func(i sandbox.Info) bool { return h.Project != "" && string(i.Project) == h.Project }) {
			continue // a sandbox of it still runs
		}
		one := goneHome{Project: spec.Path(h.Project), Dir: spec.Path(h.Dir), Bytes: store.DiskOf(a.Ctx, m, h.Dir), Removed: remove}
		if remove && !dry {
			if err := store.RemoveTree(a.Ctx, m, h.Dir); err != nil {
				return out, fmt.Errorf("remove the home of %q: %w", h.Project, err)
			}
			if err := h.Forget(); err != nil {
				return out, fmt.Errorf("remove the home of %q: %w", h.Project, err)
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// everyID is a mapping in which every file can be removed that a sandbox of the caller's has made.
func (a *app) everyID() (userns.IDMap, error) {
	h, err := a.Machine(false)
	if err != nil {
		return userns.IDMap{}, err
	}
	return start.IDMap(h, 0, 0)
}

func (a *app) printHomes(c *cli.Context, gone []goneHome) error {
	var b strings.Builder
	var kept, bytes int64
	for _, h := range gone {
		project := "a project that is not known"
		if h.Project != "" {
			project = quote(string(h.Project)) + ", which is gone"
		}
		switch {
		case !h.Removed:
			kept, bytes = kept+1, bytes+h.Bytes
		case c.Bool("dry-run"):
			fmt.Fprintf(&b, "would remove the home of %s: %s\n", project, size(h.Bytes))
		default:
			fmt.Fprintf(&b, "removed the home of %s: %s\n", project, size(h.Bytes))
		}
	}
	if kept > 0 {
		homes := "homes of projects that are gone"
		if kept == 1 {
			homes = "home of a project that is gone"
		}
		fmt.Fprintf(&b, "%d %s, %s: `cove gc --homes` removes what is shown by `cove gc --homes --dry-run`\n", kept, homes, size(bytes))
	}
	_, err := a.Stdout.WriteString(b.String())
	return err
}

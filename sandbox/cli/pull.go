package cli

import (
	"errors"
	"fmt"
	"runtime/debug"

	"cove/config"
	"cove/fetch"
	"cove/fetch/image"
	"cove/fetch/layer"
	"cove/sandbox"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) pullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "get images into the store",
		UsageText: "cove pull [OPTIONS] [REF...]",
		Flags: append([]cli.Flag{
			profileFlag(), jsonFlag(),
			&cli.StringFlag{Name: "platform", Usage: "of a multi-platform image, `OS/ARCH`[/VARIANT]"},
			&cli.StringFlag{Name: "pull", Usage: "ask the registry `WHEN`: always, missing, newer, never", Value: "always"},
			wordsFlag("verify-key", "they must be signed by the public key in `FILE`, or by one of several"),
			&cli.BoolFlag{Name: "frozen", Usage: "get nothing but what cove.lock has"},
			&cli.BoolFlag{Name: "offline", Usage: "ask no registry: what is missing is an error"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print the digests only, and no progress"},
		}, urfaveFlags(start.BoundFlags)...),
		Action: a.action(a.pull),
	}
}

func (a *app) pull(c *cli.Context) error {
	source, err := start.ImageSource(line{c})
	if err != nil {
		return err
	}
	if a.Bounds, err = start.Bounds(line{c}); err != nil {
		return err
	}
	a.quiet = c.Bool("quiet")
	refs, user := c.Args().Slice(), ""
	var verify []config.Demand
	if len(refs) == 0 {
		p, err := a.LoadProfile(line{c}, nil)
		if err != nil {
			return err
		}
		if p.Image == "host" {
			return start.Usagef("which image? (no REF was given, and the profile's image is the host)")
		}
		if err := a.CheckTrust(p); err != nil {
			return err
		}
		if err := source.UseLock(line{c}, p); err != nil {
			return err
		}
		refs, user, verify = []string{p.Image}, p.User, p.Verify
	}
	if keys := (line{c}).Words("verify-key"); len(keys) > 0 {
		d, err := config.ReadDemand("--verify-key", keys)
		if err != nil {
			return err
		}
		verify = append(verify, d)
	}
	if c.Args().Present() && c.Bool("frozen") {
		return start.Usagef("--frozen is for the profile's image: no REF goes with it")
	}
	h, err := a.Machine(false)
	if err != nil {
		return err
	}
	if !h.UserNS.OK {
		return sandbox.ErrNoUserNS
	}
	var pulled []pulledImage
	for _, ref := range refs {
		in := sandbox.Input{Profile: &config.Profile{Image: ref, User: user, Verify: verify}, Host: h}
		if _, err := a.Image(&in, source); err != nil {
			return err
		}
		pulled = append(pulled, pulledImage{in.Image.Ref, in.Image.Digest.String(), in.Image.ID.String(), in.Image.Platform})
	}
	if c.Bool("json") {
		return writeJSON(a.Stdout, pulled)
	}
	for _, p := range pulled {
		if a.quiet {
			if _, err := fmt.Fprintln(a.Stdout, p.Digest); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(a.Stdout, "%s %s\n", p.Digest, escape(p.Ref)); err != nil {
			return err
		}
	}
	return nil
}

type pulledImage struct {
	Ref      string `json:"ref"`
	Digest   string `json:"digest"`
	ID       string `json:"id"`
	Platform string `json:"platform"`
}

// bounded sets what may be pulled.
func (a *app) bounded(o fetch.Options) fetch.Options {
	b := a.Bounds
	o.Limits = layer.Limits{Bytes: b.Bytes, Entries: b.Entries, Ratio: b.Ratio}
	o.MaxManifest, o.MaxDepth, o.MaxTime = b.Manifest, b.Depth, b.Time
	return o
}

// pullShown gets one image, and shows that on stderr when anything has to be fetched.
func (a *app) pullShown(w start.Wanted) (*image.Image, error) {
	var p *progress
	o := a.bounded(fetch.Options{Store: w.Store, IDMap: w.IDMap, Platform: w.Platform, Policy: w.Policy, Locked: w.Locked, Offline: w.Offline, Demands: w.Demands})
	o.Progress = func(e fetch.Event) {
		if e.Kind == fetch.Kept {
			// Less is done than was asked for, which is a warning's to say.
			a.Warn("%s: cannot be asked, and what is in the store is used: %s", e.Ref, e.Why)
			return
		}
		if a.quiet {
			return
		}
		if p == nil {
			p = newProgress(a.Stderr)
		}
		p.event(e)
	}
	// Documents of megabytes are read into more than they are, and the garbage of that would be kept as long as there
	// is memory: collected sooner, a pull stays below 100 MB whatever the image says of itself.
	was := debug.SetMemoryLimit(48 << 20)
	img, err := fetch.Pull(a.Ctx, w.Ref, o)
	debug.SetMemoryLimit(was)
	if p != nil {
		p.finish()
	}
	if err != nil && a.Ctx.Err() != nil {
		return nil, errors.Join(a.Ctx.Err(), err)
	}
	return img, err
}

package cli

import (
	"errors"
	"fmt"

	"cove/config"
	"cove/fetch"
	"cove/fetch/store"
	"cove/sandbox"

	"github.com/urfave/cli/v2"
	"os"
)

func (a *app) pullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "get images into the store",
		UsageText: "cove pull [--platform OS/ARCH] [REF...]",
		Flags: []cli.Flag{
			profileFlag(), jsonFlag(),
			&cli.StringFlag{Name: "platform", Usage: "of a multi-platform image, `OS/ARCH`[/VARIANT]"},
			&cli.StringFlag{Name: "pull", Usage: "ask the registry `WHEN`: always, missing, newer, never", Value: "always"},
		},
		Action: a.action(a.pull),
	}
}

func (a *app) pull(c *cli.Context) error {
	policy, err := pullPolicy(c)
	if err != nil {
		return err
	}
	refs, user := c.Args().Slice(), ""
	if len(refs) == 0 {
		p, err := a.loadProfile(c, nil)
		if err != nil {
			return err
		}
		if p.Image == "host" {
			return usagef("which image? (no REF was given, and the profile's image is the host)")
		}
		if err := a.checkTrust(p); err != nil {
			return err
		}
		refs, user = []string{p.Image}, p.User
	}
	h, err := a.probe(false)
	if err != nil {
		return err
	}
	if !h.UserNS.OK {
		return errNoUserNS
	}
	var pulled []pulledImage
	for _, ref := range refs {
		in := sandbox.Input{Profile: &config.Profile{Image: ref, User: user}, Host: h}
		if _, err := a.image(&in, c.String("platform"), policy); err != nil {
			return err
		}
		pulled = append(pulled, pulledImage{in.Image.Ref, in.Image.Digest.String(), in.Image.ID.String(), in.Image.Platform})
	}
	if c.Bool("json") {
		return writeJSON(a.stdout, pulled)
	}
	for _, p := range pulled {
		if _, err := fmt.Fprintf(a.stdout, "%s %s\n", p.Digest, escape(p.Ref)); err != nil {
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

// pullOne gets one image, and shows that on stderr when anything has to be fetched.
func (a *app) pullOne(ref string, o fetch.Options) (*fetch.Image, error) {
	var p *progress
	o.Progress = func(e fetch.Event) {
		if p == nil {
			p = newProgress(a.stderr)
		}
		p.event(e)
	}
	image, err := fetch.Pull(a.ctx, ref, o)
	if p != nil {
		p.finish()
	}
	if err != nil && a.ctx.Err() != nil {
		return nil, errors.Join(a.ctx.Err(), err)
	}
	return image, err
}

func pullPolicy(c *cli.Context) (fetch.PullPolicy, error) {
	word, err := choice(c, "pull", "missing", "always", "never", "newer")
	return map[string]fetch.PullPolicy{"missing": fetch.Missing, "always": fetch.Always, "never": fetch.Never, "newer": fetch.Newer}[word], err
}

func (a *app) openStore() (*store.Store, error) {
	dir, err := config.StoreDir(a.storeDir, os.Getenv)
	if err != nil {
		return nil, err
	}
	return store.Open(dir)
}

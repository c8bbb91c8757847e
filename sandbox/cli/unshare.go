package cli

import (
	"os"
	"path/filepath"
	"strings"

	"cove/config"
	"cove/fetch/image"
	"cove/sandbox"
	"cove/sandbox/programs"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) unshareCommand() *cli.Command {
	return &cli.Command{
		Name:      "unshare",
		Usage:     "a command in the store's user namespace, to look into images",
		UsageText: "cove unshare [--mount REF=DIR] [--] [COMMAND [ARG...]]",
		Flags: []cli.Flag{
			wordsFlag("mount", "mount the image's root read-only, `REF=DIR`"),
		},
		Action: a.action(a.unshare),
	}
}

func (a *app) unshare(c *cli.Context) error {
	h, err := a.Machine(false)
	if err != nil {
		return err
	}
	if !h.UserNS.OK {
		return sandbox.ErrNoUserNS
	}
	if a.Bounds, err = start.Bounds(line{c}); err != nil {
		return err
	}
	m, err := start.IDMap(h, 0, 0)
	if err != nil {
		return err
	}
	var mounts []sandbox.UnshareMount
	for _, v := range (line{c}).Words("mount") {
		cut := strings.LastIndexByte(v, '=')
		if cut <= 0 || cut == len(v)-1 {
			return start.Usagef("--mount %s: want REF=DIR", quote(v))
		}
		target, err := filepath.Abs(v[cut+1:])
		if err != nil {
			return err
		}
		in := sandbox.Input{Profile: &config.Profile{Image: v[:cut]}, Host: h}
		if _, err := a.Image(&in, start.Source{}); err != nil {
			return err
		}
		if in.Image.Kind == image.Host {
			return start.Usagef("--mount %s: the host is no image", quote(v))
		}
		mounts = append(mounts, sandbox.UnshareMount{Layers: in.Image.Layers, Target: target})
	}
	argv := c.Args().Slice()
	if len(argv) == 0 {
		argv = []string{"/bin/sh"}
		if shell := os.Getenv("SHELL"); filepath.IsAbs(shell) {
			argv = []string{shell}
		}
	}
	programs.Restore() // the command is the caller's, and nothing of cove's own is looked for any more
	status, err := sandbox.Unshare(a.Ctx, m, mounts, argv)
	return a.status(status, err)
}

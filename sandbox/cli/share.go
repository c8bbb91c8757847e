package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"cove/fetch"
	"cove/fetch/image"
	"cove/fetch/oci"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) pushCommand() *cli.Command {
	return &cli.Command{
		Name:      "push",
		Usage:     "send an image of the store to a registry",
		UsageText: "cove push [--platform OS/ARCH] REF [REGISTRY/NAME[:TAG]]",
		Flags: []cli.Flag{
			jsonFlag(), platformFlag(), compressionFlag(),
			&cli.StringFlag{Name: "digestfile", Usage: "write the digest that it has there into `FILE`"},
		},
		Action: a.action(a.push),
	}
}

func platformFlag() cli.Flag {
	return &cli.StringFlag{Name: "platform", Usage: "where there are several, `OS/ARCH`[/VARIANT]"}
}

func compressionFlag() cli.Flag {
	return &cli.StringFlag{Name: "compression", Usage: "pack layers with `FORMAT`: gzip, zstd", Value: "gzip"}
}

// sharing are the options of what takes an image out of the store, and what ends its progress.
func (a *app) sharing(c *cli.Context, verb string) (fetch.ShareOptions, func(), error) {
	o := fetch.ShareOptions{Platform: c.String("platform")}
	word, err := start.Choice(line{c}, "compression", "gzip", "zstd")
	if err != nil {
		return o, nil, err
	}
	o.Compression = fetch.Compression(word)
	if _, err := oci.ParsePlatform(o.Platform); err != nil {
		return o, nil, start.Usagef("--platform: %v", err)
	}
	if o.Store, err = a.OpenStore(); err != nil {
		return o, nil, err
	}
	p := newProgress(a.Stderr)
	p.verb = verb
	o.Progress = p.event
	return o, p.finish, nil
}

func (a *app) push(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 || len(args) > 2 {
		return start.Usagef("which image, and where to? (REF [REGISTRY/NAME[:TAG]])")
	}
	o, finish, err := a.sharing(c, "push")
	if err != nil {
		return err
	}
	sent, err := fetch.Push(a.Ctx, storedName(o.Store, args[0]), append(args, "")[1], o)
	finish()
	if err != nil {
		return a.interruptedOr(err)
	}
	if file := c.String("digestfile"); file != "" {
		if err := os.WriteFile(file, []byte(sent.Digest), 0o666); err != nil {
			return fmt.Errorf("--digestfile: %w", err)
		}
	}
	return a.printShared(c, a.Stdout, sent)
}

// interruptedOr says of an interrupted command that it was.
func (a *app) interruptedOr(err error) error {
	if a.Ctx.Err() != nil {
		return errors.Join(a.Ctx.Err(), err)
	}
	return err
}

func (a *app) printShared(c *cli.Context, to *os.File, s *fetch.Shared) error {
	if c.Bool("json") {
		return writeJSON(to, s)
	}
	digest := s.Digest
	if digest == "" {
		digest = s.ID // a docker archive has no manifest
	}
	_, err := fmt.Fprintf(to, "%s %s\n", digest, escape(s.Ref))
	return err
}

func (a *app) imageSaveCommand() *cli.Command {
	return &cli.Command{
		Name:      "save",
		Usage:     "write an image of the store into a file",
		UsageText: "cove image save [--format FORMAT] [-o FILE] REF\ncove image save REF oci-archive:FILE[:TAG] | docker-archive:FILE[:NAME]",
		Flags: []cli.Flag{
			jsonFlag(), platformFlag(), compressionFlag(),
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` is oci-archive or docker-archive", Value: "oci-archive"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write `FILE`; - or none is stdout"},
		},
		Action: a.action(a.imageSave),
	}
}

func (a *app) imageSave(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 || len(args) > 2 {
		return start.Usagef("which image, and where to? (REF, and -o FILE or oci-archive:FILE)")
	}
	to, err := a.saveTarget(c, args[1:])
	if err != nil {
		return err
	}
	if to.Path == "" && isTerminal(a.Stdout) {
		return start.Usagef("stdout is a terminal: -o FILE says where to write it")
	}
	o, finish, err := a.sharing(c, "save")
	if err != nil {
		return err
	}
	saved, err := fetch.Save(a.Ctx, storedName(o.Store, args[0]), to, o)
	finish()
	if err != nil {
		return a.interruptedOr(err)
	}
	if to.Path == "" {
		return nil // stdout is the archive's
	}
	return a.printShared(c, a.Stdout, saved)
}

// saveTarget is where to, by options or as a reference.
func (a *app) saveTarget(c *cli.Context, dest []string) (fetch.SaveTarget, error) {
	to := fetch.SaveTarget{Out: a.Stdout}
	word, err := start.Choice(line{c}, "format", string(image.ViaOCIArchive), string(image.ViaDockerArchive))
	if err != nil {
		return to, err
	}
	to.Format = image.Transport(word)
	if len(dest) == 0 {
		if to.Path = c.String("output"); to.Path == "-" {
			to.Path = ""
		}
		return to, nil
	}
	if c.IsSet("output") || c.IsSet("format") {
		return to, start.Usagef("%s says where to and in what form already: not also -o or --format", escape(dest[0]))
	}
	via, rest, _ := strings.Cut(dest[0], ":")
	to.Format = image.Transport(via)
	if to.Format != image.ViaOCIArchive && to.Format != image.ViaDockerArchive {
		return to, start.Usagef("%s: where to? (oci-archive:FILE or docker-archive:FILE; `cove push` sends to registries)", quote(dest[0]))
	}
	// The file need not be there yet: its name ends at the first colon, as podman has it.
	if to.Path, to.Tag, _ = strings.Cut(rest, ":"); to.Path == "" {
		return to, start.Usagef("%s: needs a file", quote(dest[0]))
	}
	return to, nil
}

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cove/config"
	"cove/config/draft"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func draftFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "put it in the place of the cove.toml that is there"},
		&cli.BoolFlag{Name: "stdout", Usage: "print it, and write no file"},
	}
}

func (a *app) initCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a cove.toml for the project in this folder",
		UsageText: "cove init [--force | --stdout]",
		Flags:     draftFlags(),
		Action:    a.action(a.init),
	}
}

func (a *app) init(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments; it writes cove.toml into the current folder")
	}
	dir, err := draftFolder(c)
	if err != nil {
		return err
	}
	d, _, err := draft.Project(dir)
	if err != nil {
		return err
	}
	return a.writeDraft(c, dir, d)
}

func (a *app) importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "write a cove.toml of a devcontainer.json",
		UsageText: "cove import [--force | --stdout] [FILE]",
		Flags:     draftFlags(),
		Action:    a.action(a.importFile),
	}
}

func (a *app) importFile(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return start.Usagef("takes one file, a devcontainer.json")
	}
	dir, err := draftFolder(c)
	if err != nil {
		return err
	}
	name := c.Args().First()
	if !c.Args().Present() {
		if name = draft.FindDevcontainer(dir); name == "" {
			return errors.New("there is no .devcontainer/devcontainer.json or .devcontainer.json here")
		}
	}
	d, left, err := draft.Import(dir, name)
	if err != nil {
		return err
	}
	if err := a.writeDraft(c, dir, d); err != nil {
		return err
	}
	if len(left) > 0 {
		a.Warn("not taken over, or not as it was:")
	}
	for _, l := range left {
		a.Warn("  %s", l)
	}
	return nil
}

// draftFolder is where the profile goes.
func draftFolder(c *cli.Context) (string, error) {
	if c.Bool("force") && c.Bool("stdout") {
		return "", start.Usagef("--force and --stdout exclude each other")
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the current folder: %w", err)
	}
	return dir, nil
}

// writeDraft writes a profile, after a look whether it is one.
func (a *app) writeDraft(c *cli.Context, dir string, d *draft.Draft) error {
	text := d.Text()
	if c.Bool("stdout") {
		_, err := a.Stdout.Write(text)
		return err
	}
	opts, err := config.DefaultOptions()
	if err != nil {
		return err
	}
	if err := config.CheckText(opts, text); err != nil {
		return fmt.Errorf("what would be written is no profile (`--stdout` shows it): %w", err)
	}
	path := filepath.Join(dir, config.FileName)
	if err := writeProfile(path, text, c.Bool("force")); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "wrote %s; `cove explain` tells what it grants, `cove shell` asks for that and enters the sandbox\n", escape(path))
	return err
}

// writeProfile puts a profile where none is, or with force in the place of the one that is there.
func writeProfile(path string, text []byte, force bool) error {
	if force {
		return config.ReplaceProfile(path, text)
	}
	// O_EXCL: what is there stays, a link to nothing too.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return &errProfileThere{}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", path, err), os.Remove(path))
	}
	return nil
}

// errProfileThere says that a profile is not overwritten.
type errProfileThere struct{}

func (e *errProfileThere) Error() string {
	return config.FileName + " is already here; nothing was written"
}

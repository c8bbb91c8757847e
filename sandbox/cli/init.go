package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cove/config"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) initCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a cove.toml for the project in this folder",
		UsageText: "cove init",
		Action:    a.action(a.init),
	}
}

func (a *app) init(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments; it writes cove.toml into the current folder")
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the current folder: %w", err)
	}
	text, err := config.Template(dir)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, config.FileName)
	// O_EXCL: what is there stays, a link to nothing too.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is already here; nothing was written", config.FileName)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %q: %w", path, err), os.Remove(path))
	}
	_, err = fmt.Fprintf(a.Stdout, "wrote %s; `cove shell` enters the sandbox\n", escape(path))
	return err
}

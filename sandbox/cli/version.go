package cli

import (
	"cove/sandbox/start"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// Version is set by the linker (-X cove/sandbox/cli.Version=v1.2.3); otherwise Go's build information tells.
var Version = ""

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "which cove this is",
		UsageText: "cove version [--json]",
		Flags:     []cli.Flag{jsonFlag()},
		Action:    a.action(a.version),
	}
}

func (a *app) version(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments")
	}
	version, revision := buildInfo()
	if c.Bool("json") {
		return writeJSON(a.Stdout, struct {
			Version  string `json:"version"`
			Revision string `json:"revision,omitempty"`
			Go       string `json:"go"`
			Platform string `json:"platform"`
		}{version, revision, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
	}
	if revision != "" {
		version += " (" + revision + ")"
	}
	_, err := fmt.Fprintf(a.Stdout, "cove %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

func buildInfo() (version, revision string) {
	version = Version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, ""
	}
	if version == "" {
		version = info.Main.Version
	}
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true" && revision != "":
			revision += "+changes"
		}
	}
	return version, revision
}

package cli

import (
	"fmt"
	"strings"

	"cove/config"
	"cove/config/draft"
	"cove/sandbox/start"
)

// whatHere says what can be done in the current folder, for who types `cove` alone. Nothing is started, and nothing that cannot be told
// is an error.
func (a *app) whatHere() string {
	lines := []string{}
	opts, err := config.DefaultOptions()
	if err != nil {
		return "`cove help` lists the commands"
	}
	file, err := config.Find(opts)
	switch {
	case err != nil:
		lines = append(lines, fmt.Sprintf("`cove config show` tells what is wrong with the profile here: %v", err))
	case file != "":
		lines = append(lines, a.hereProfile(opts, file)...)
	default:
		lines = append(lines, hereNone(opts.Cwd)...)
	}
	return strings.Join(append(lines, "`cove help` lists the commands"), "\n")
}

// hereProfile is for a folder with a profile: what stands in the way comes first.
func (a *app) hereProfile(opts config.LoadOptions, file string) []string {
	name := quote(file)
	p, _, err := config.Load(opts)
	if err != nil {
		return []string{"`cove config show` tells what is wrong with " + name}
	}
	t, err := start.OpenTrust()
	if err != nil {
		return nil
	}
	d, err := t.Check(p)
	switch {
	case err != nil:
		return nil
	case !d.Trusted:
		return []string{"`cove explain` tells what the sandbox of " + name + " may reach, `cove trust` asks you for it; then `cove shell` enters it"}
	}
	return []string{"`cove shell` enters the sandbox of " + name + ", `cove run -- COMMAND` runs one command in it", "`cove explain` tells what it may reach"}
}

// hereNone is for a folder without one.
func hereNone(dir string) []string {
	var lines []string
	_, tool, err := draft.Project(dir)
	if err == nil && tool != "" {
		lines = append(lines, "`cove init` writes a profile for this "+tool+" project")
	}
	if name := draft.FindDevcontainer(dir); name != "" {
		lines = append(lines, "`cove import` writes one of "+name)
	}
	return append(lines, "`cove run -- COMMAND` runs one here without a network and without your home, `cove try COMMAND` so that you look at what it changed")
}

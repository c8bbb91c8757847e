package cli

import (
	"fmt"
	"strings"

	"cove/config"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "what the sandbox may reach, by which line, and what is closed",
		UsageText: "cove explain [--json] [--profile FILE]",
		Flags:     []cli.Flag{profileFlag(), jsonFlag()},
		Action:    a.action(a.explain),
	}
}

// explained is a grant as `cove explain` tells it.
type explained struct {
	config.Grant
	Means string   `json:"means"`
	State string   `json:"state"` // asked, agreed, approved, own
	Notes []string `json:"notes,omitempty"`
}

func (a *app) explain(c *cli.Context) error {
	if c.Args().Present() {
		return start.Usagef("takes no arguments; --profile FILE names a profile")
	}
	p, err := a.LoadProfile(line{c}, nil)
	if err != nil {
		return err
	}
	t, err := start.OpenTrust()
	if err != nil {
		return err
	}
	d, err := t.Check(p)
	if err != nil {
		return err
	}
	grants := explainGrants(p, d)
	if c.Bool("json") {
		return writeJSON(a.Stdout, struct {
			File    string        `json:"file"`
			Hash    string        `json:"hash,omitempty"`
			Trusted bool          `json:"trusted"`
			Grants  []explained   `json:"grants"`
			Has     []config.Fact `json:"has"`
			Closed  []config.Fact `json:"closed"`
		}{p.File, p.Hash(), d.Trusted, grants, p.Has(), p.Closed()})
	}
	_, err = a.Stdout.WriteString(explainText(p, d, grants))
	return err
}

// explainGrants has what the profile wants, with what became of it, and what its user's own file opens.
func explainGrants(p *config.Profile, d config.Decision) []explained {
	state := map[string]explained{}
	for _, l := range []struct {
		word   string
		grants []config.Grant
	}{{"asked", d.New}, {"agreed", d.Kept}, {"approved", d.Own}} {
		for _, g := range l.grants {
			state[g.Key+" "+g.Text] = explained{Grant: g, State: l.word}
		}
	}
	out := []explained{}
	for _, g := range p.Reaches() {
		e, wanted := state[g.Key+" "+g.Text]
		if !wanted {
			e = explained{Grant: g, State: "own"}
		}
		e.Means, e.Notes = g.Meaning(), notes(g.Text)
		out = append(out, e)
	}
	return out
}

func explainText(p *config.Profile, d config.Decision, grants []explained) string {
	var b strings.Builder
	switch {
	case p.File == "":
		b.WriteString("No profile here: this is what cove does without one.\n")
	default:
		fmt.Fprintf(&b, "The profile %s.\n", quote(p.File))
	}
	if len(grants) > 0 {
		b.WriteString("\nWhat runs inside may reach out of the project:\n")
	} else {
		b.WriteString("\nWhat runs inside reaches nothing beyond the project.\n")
	}
	means := map[string]bool{}
	for _, e := range grants {
		writeGrant(&b, "  ", e.Grant)
		fmt.Fprintf(&b, "      %s, %s\n", placeOf(p, e.Origin), stateText(p, d, e))
		if !means[e.Means] { // once for a list of hosts
			fmt.Fprintf(&b, "      %s\n", e.Means)
			means[e.Means] = true
		}
	}
	for _, l := range []struct {
		heading string
		facts   []config.Fact
	}{{"It has, without being asked for:", p.Has()}, {"Closed:", p.Closed()}} {
		fmt.Fprintf(&b, "\n%s\n", l.heading)
		for _, f := range l.facts {
			fmt.Fprintf(&b, "  %s", escape(f.Text))
			if f.Origin != nil {
				fmt.Fprintf(&b, "  (%s, %s)", f.Key, placeOf(p, *f.Origin))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// placeOf is where a value comes from, as one would open it in an editor.
func placeOf(p *config.Profile, o config.Origin) string {
	return escape(p.NameOfOrigin(o))
}

func stateText(p *config.Profile, d config.Decision, e explained) string {
	switch e.State {
	case "agreed":
		if d.Known {
			return "agreed to" + on(d.Agreed)
		}
		return "agreed to"
	case "approved":
		return "approved by " + placeOf(p, *e.ApprovedBy)
	case "own":
		return "your own word"
	}
	return "not agreed to: nothing is started before you are asked"
}

// configExplainCommand is the same beside `cove config show`, where some look for it.
func (a *app) configExplainCommand() *cli.Command {
	c := a.explainCommand()
	c.UsageText = "cove config explain [--json] [--profile FILE]"
	return c
}

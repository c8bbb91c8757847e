package cli

import (
	"os"
	"strings"
	"syscall"

	"cove/config"
	"cove/sandbox"
	"cove/sandbox/quick"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "one command in a fresh sandbox, gone afterwards",
		UsageText: "cove run [OPTIONS] [--] [COMMAND [ARG...]]",
		Flags:     urfaveFlags(start.Flags, start.RunFlags, start.BoundFlags),
		Action:    a.action(a.run),
	}
}

func (a *app) run(c *cli.Context) error {
	if status, err, ran := quick.Outcome(); ran {
		return a.runStatus(c, status, err)
	}
	plan, err := a.plan(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		plan.Spec.Security.Seccomp.Program = nil // its digest says which it is
		return writeJSON(a.Stdout, plan.Spec)
	}
	if plan.Learn != nil {
		plan.Options.Learned = func(entries, closed []string) { a.learned(plan.Learn, entries, closed) }
	}
	status, err := sandbox.Run(a.Ctx, plan.Spec, plan.Options)
	return a.runStatus(c, status, err)
}

// learned writes what a command asked of the network into the profile that it ran under.
func (a *app) learned(p *config.Profile, entries, closed []string) {
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = quote(e)
	}
	for i, e := range closed {
		closed[i] = quote(e)
	}
	if len(closed) > 0 {
		a.Warn("private, local or this machine's own addresses were asked for, and are left out: %s", strings.Join(closed, ", "))
	}
	if len(entries) == 0 {
		a.Warn("the network was asked for nothing else that is not allowed already")
		return
	}
	if p.File == "" {
		a.Warn("there is no profile to write to (`cove init` makes one); in [network] it would be:")
		a.Warn("allow = [%s]", strings.Join(list, ", "))
		return
	}
	if err := p.AddAllow(entries); err != nil {
		a.Warn("%v; in [network] it would be:", err)
		a.Warn("allow = [%s]", strings.Join(list, ", "))
		return
	}
	a.Warn("network.allow in %s has now: %s", escape(p.File), strings.Join(list, ", "))
	a.Warn("hint: look through it: it is what was asked for, by whatever ran; the next run asks you to agree to it")
}

// plan decides, and tells what is only inconvenient, once a boot: what was told stands in a file of the runtime
// directory then, which goes when the machine does. `cove doctor` tells it always.
func (a *app) plan(c *cli.Context) (*start.Planned, error) {
	plan, err := a.Plan(line{c})
	if err != nil {
		return nil, err
	}
	file, lost := plan.Unsaid()
	for _, text := range lost {
		a.Warn("%s", text)
		a.Warn("hint: `cove doctor` prints the command that mends it (this is said once)")
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			continue
		}
		_, _ = f.WriteString(text + "\n")
		_ = f.Close()
	}
	return plan, nil
}

// status hands on how the command inside ended.
func (a *app) status(s sandbox.Status, err error) error {
	if err != nil {
		return err
	}
	if s.Text != "" {
		a.Warn("%s", s.Text)
	}
	if code := s.ExitCode(); code != 0 {
		return exitStatus(code)
	}
	return nil
}

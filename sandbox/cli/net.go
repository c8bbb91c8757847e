package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"cove/config"
	"cove/sandbox"
	"cove/sandbox/network"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) netCommand() *cli.Command {
	return &cli.Command{
		Name:  "net",
		Usage: "look at a sandbox's network",
		Subcommands: []*cli.Command{{
			Name:      "log",
			Usage:     "what it let through and what it refused, and why",
			UsageText: "cove net log [--follow] [--json] [NAME]",
			Flags: []cli.Flag{
				jsonFlag(),
				&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the sandbox ends"},
			},
			Action: a.action(a.netLog),
		}},
	}
}

func (a *app) netLog(c *cli.Context) error {
	show := a.showDecision
	if c.Bool("json") {
		show = a.printLine
	}
	return a.followLog(c, sandbox.NetLog, show)
}

// followLog shows the lines of one of a sandbox's logs.
func (a *app) followLog(c *cli.Context, open func(dir, name string) (old, now *os.File, ended func() bool, err error), show func([]byte) error) error {
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	name, err := oneSandbox(dir, c.Args().Slice())
	if err != nil {
		return err
	}
	old, now, ended, err := open(dir, name)
	if err != nil {
		return err
	}
	defer now.Close()
	if old != nil {
		defer old.Close()
		if err := eachLine(old, show); err != nil {
			return err
		}
	}
	for {
		last := ended() // before the read: what is written after it is read once more
		if err := eachLine(now, show); err != nil || !c.Bool("follow") || last {
			return err
		}
		select {
		case <-a.Ctx.Done():
			return nil
		case <-time.After(followPause):
		}
	}
}

const followPause = 200 * time.Millisecond

// oneSandbox is the sandbox that was named, or the only one that runs.
func oneSandbox(dir string, args []string) (string, error) {
	switch len(args) {
	case 0:
	case 1:
		return args[0], nil
	default:
		return "", start.Usagef("takes one sandbox")
	}
	running, err := sandbox.List(dir)
	if err != nil {
		return "", err
	}
	if len(running) != 1 {
		return "", start.Usagef("which sandbox? (%d run; `cove ps` lists them)", len(running))
	}
	return running[0].ID, nil
}

// eachLine calls show with every whole line from where f is, and leaves f behind the last of them.
func eachLine(f *os.File, show func([]byte) error) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			_, err = f.Seek(at, io.SeekStart)
			return err
		}
		if err != nil {
			return err
		}
		at += int64(len(line))
		if err := show(line); err != nil {
			return err
		}
	}
}

// printLine prints a line of the log as it is: JSON, in which Go has escaped what a terminal would act on.
func (a *app) printLine(line []byte) error {
	var d network.Decision
	if json.Unmarshal(line, &d) != nil {
		return nil
	}
	_, err := a.Stdout.WriteString(escape(strings.TrimSuffix(string(line), "\n")) + "\n")
	return err
}

func (a *app) showDecision(line []byte) error {
	var d network.Decision
	if json.Unmarshal(line, &d) != nil {
		return nil
	}
	_, err := a.Stdout.WriteString(decisionLine(d) + "\n")
	return err
}

// decisionLine is one decision for people.
func decisionLine(d network.Decision) string {
	var b strings.Builder
	verdict := "allowed"
	if !d.Allowed {
		verdict = "refused"
	}
	if d.Kind == network.More {
		return fmt.Sprintf("%s and %d more that came to nothing: too many to be told apart", d.Time.Local().Format("15:04:05.000"), d.Count)
	}
	fmt.Fprintf(&b, "%s %s %-4s ", d.Time.Local().Format("15:04:05.000"), verdict, d.Kind)
	switch {
	case d.Kind == "dns":
		fmt.Fprintf(&b, "%s %s", escape(d.Name), escape(d.Type))
		if len(d.Told) > 0 {
			fmt.Fprintf(&b, ": %s", strings.Join(d.Told, ", "))
		}
	case d.Name != "":
		fmt.Fprintf(&b, "%s (%s)", escape(d.Name)+portText(d), d.Address)
	default:
		b.WriteString(d.Address + portText(d))
	}
	if d.Reason != "" {
		fmt.Fprintf(&b, ": %s", d.Reason)
	}
	if d.Entry != "" && !d.Allowed {
		fmt.Fprintf(&b, " by %s", quote(d.Entry))
	}
	if d.Error != "" {
		fmt.Fprintf(&b, ": %s", escape(d.Error))
	}
	if d.Allowed && d.Kind != "dns" && d.Error == "" {
		fmt.Fprintf(&b, " %s out, %s in, %s", size(d.Sent), size(d.Got), d.Took.Round(time.Millisecond))
	}
	if d.Count > 1 {
		fmt.Fprintf(&b, ", %d times", d.Count)
	}
	return b.String()
}

func portText(d network.Decision) string {
	if d.Kind == "icmp" {
		return ""
	}
	return ":" + strconv.Itoa(int(d.Port))
}

package cli

import (
	"os"
	"strconv"

	"cove/config"
	"cove/sandbox"
	"cove/sandbox/spec"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

func (a *app) portCommand() *cli.Command {
	return &cli.Command{
		Name:  "port",
		Usage: "publish a running sandbox's ports, and take them back",
		Subcommands: []*cli.Command{{
			Name:      "add",
			Usage:     "publish ports, as -p does",
			UsageText: "cove port add [--json] NAME [[ADDR:]PORT:]PORT[/udp]...",
			Flags:     []cli.Flag{jsonFlag()},
			Action:    a.action(func(c *cli.Context) error { return a.changePorts(c, true) }),
		}, {
			Name:      "rm",
			Usage:     "take ports back, and end the connections through them",
			UsageText: "cove port rm [--json] NAME [[ADDR:]PORT:]PORT[/udp]...",
			Flags:     []cli.Flag{jsonFlag()},
			Action:    a.action(func(c *cli.Context) error { return a.changePorts(c, false) }),
		}, {
			Name:      "ls",
			Usage:     "the ports that are published",
			UsageText: "cove port ls [--json] [NAME]",
			Flags:     []cli.Flag{jsonFlag()},
			Action:    a.action(a.listPorts),
		}},
	}
}

// changePorts publishes, or takes back what -p with the same words has published.
func (a *app) changePorts(c *cli.Context, add bool) error {
	words := c.Args().Slice()
	if len(words) < 2 {
		return start.Usagef("want a sandbox and ports (`cove ps` lists the sandboxes that run)")
	}
	var ports []spec.Port
	for _, text := range words[1:] {
		some, err := config.ParsePublishes(text)
		if err != nil {
			return start.Usagef("%s: %v", quote(text), err)
		}
		for _, p := range some {
			ports = append(ports, spec.Port{HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Proto: p.Proto})
		}
	}
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	var now []spec.Port
	if add {
		now, err = sandbox.ChangePorts(dir, words[0], ports, nil)
	} else {
		now, err = sandbox.ChangePorts(dir, words[0], nil, ports)
	}
	if err != nil {
		return err
	}
	return a.printPorts(c, now)
}

func (a *app) listPorts(c *cli.Context) error {
	dir, err := config.RuntimeDir(os.Getenv)
	if err != nil {
		return err
	}
	name, err := oneSandbox(dir, c.Args().Slice())
	if err != nil {
		return err
	}
	now, err := sandbox.ChangePorts(dir, name, nil, nil)
	if err != nil {
		return err
	}
	return a.printPorts(c, now)
}

func (a *app) printPorts(c *cli.Context, ports []spec.Port) error {
	if c.Bool("json") {
		if ports == nil {
			ports = []spec.Port{}
		}
		return writeJSON(a.Stdout, ports)
	}
	var rows [][]string
	for _, p := range ports {
		rows = append(rows, []string{p.HostIP, strconv.Itoa(int(p.HostPort)), strconv.Itoa(int(p.ContainerPort)), p.Proto})
	}
	return writeTable(a.Stdout, []string{"ADDRESS", "PORT", "INSIDE", "PROTO"}, rows)
}

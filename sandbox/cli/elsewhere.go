package cli

import (
	"strings"

	"cove/sandbox"
	"cove/sandbox/start"

	"github.com/urfave/cli/v2"
)

// What those type who come from podman, docker, bubblewrap, toolbx or distrobox, and cove has otherwise or not at all.

// otherCommands are commands of theirs, and what to type or know instead.
var otherCommands = map[string]string{
	"attach": "`cove exec NAME COMMAND` runs one more command in a sandbox, `cove shell` joins the project's",
	"build":  "`setup` in a profile is run once in an image; `cove commit` makes one of a sandbox",
	"create": "`cove init` writes a profile, `cove shell` enters its sandbox",
	"enter":  "`cove shell` enters the project's sandbox",
	"info":   "`cove doctor` tells what this machine allows",
	"kill":   "`cove stop NAME` ends a sandbox",
	"list":   "`cove ps` lists what runs, `cove images` what is stored",
	"load":   "an archive is an image by its name: cove run --image oci-archive:FILE (or docker-archive:FILE)",
	"login":  "`podman login` or `docker login` writes credentials where cove finds them",
	"logs":   "what a command prints is where it was started; nothing is kept of it",
	"ls":     "`cove ps` lists what runs, `cove images` what is stored",
	"prune":  "`cove gc` gives disk back",
	"rm":     "a sandbox is gone when its command ends; `cove stop NAME` ends it, `cove gc` gives disk back",
	"start":  "`cove shell` enters the project's sandbox, `cove run` makes one for a command",
	"system": "`cove gc` gives disk back, `cove doctor` tells what this machine allows",
	"tag":    "`cove push` and `cove image save` take another name",
	"top":    "`cove exec NAME ps` shows what runs in a sandbox",
	"volume": "there are no volumes: -v mounts a folder, and a project's home is kept with home.mode = \"project\"",
}

// otherOptions are options of theirs for what run and shell do.
var otherOptions = map[string]string{
	"rm": "a sandbox is always gone when its command ends: leave it out", "i": interactive, "t": interactive, "it": interactive, "ti": interactive,
	"interactive": interactive, "tty": interactive,
	"d": background, "detach": background,
	"privileged": "there is none: say what is needed, such as --cap-add CAP, --nested or -v",
	"device":     "no device of this machine is inside but the usual dozen (null, zero, random, tty)",
	"net":        "it is --network here", "userns": "every sandbox has a user namespace of its own", "uidmap": ids, "gidmap": ids,
	"pid": namespaces, "ipc": namespaces, "uts": namespaces, "unshare-all": namespaces, "unshare-net": "there is no network but by --network",
	"unshare-user": namespaces, "unshare-pid": namespaces, "unshare-ipc": namespaces, "unshare-uts": namespaces, "unshare-cgroup": namespaces,
	"share-net": "--network host is this machine's own network; --network user is one of the sandbox's own",
	"bind":      "-v SRC:DST mounts a file or folder", "ro-bind": "-v SRC:DST:ro mounts one read-only", "dev-bind": "-v SRC:DST mounts a file or folder; devices stay closed",
	"setenv": "-e K=V sets a variable", "unsetenv": environment, "clearenv": environment, "chdir": "-w DIR starts there",
	"proc": furniture, "dev": furniture, "die-with-parent": "a sandbox always ends with cove", "new-session": "a command always has a session of its own",
	"restart": "nothing is started again", "m": "it is --memory here", "h": "--hostname HOST names the machine, -h is help", "label": "sandboxes have no labels",
	"gpus": "it is --gpu here: dri, nvidia, or a device of a CDI file", "ulimit": "limits are --memory, --cpus, --pids-limit and --timeout",
}

const (
	interactive = "a command has a terminal where cove has one, and its stdin is always cove's: leave it out"
	background  = "a sandbox does not outlive the cove that made it: put & behind the command, and `cove stop NAME` ends it"
	ids         = "the mapping follows from `user` in the profile: root, me or image"
	namespaces  = "every sandbox has all namespaces of its own: leave it out"
	environment = "of the environment nothing comes in but what is named"
	furniture   = "every sandbox has /proc and /dev of its own: leave it out"
)

// knownElsewhere gives a hint to who typed one of these, or put an option where it does not belong.
func knownElsewhere(arg string, flags []cli.Flag) string {
	name, _, _ := start.OptionOf(arg)
	word := strings.TrimPrefix(strings.TrimLeft(strings.SplitN(arg, "=", 2)[0], "-"), "-")
	runs := urfaveFlags(start.Flags, start.RunFlags)
	if known, _ := flagNamed(flags, "image"); known == "" {
		if f, _ := flagNamed(runs, name); f != "" {
			return "options of a command stand behind its name: cove run " + dashed(name) + " ..."
		}
		return ""
	}
	return otherOptions[word]
}

// runStatus is status, and tells who has typed `run IMAGE COMMAND`, as for podman, where the image belongs.
func (a *app) runStatus(c *cli.Context, s sandbox.Status, err error) error {
	err = a.status(s, err)
	word := c.Args().First()
	if s.Code != 127 || s.Text == "" || c.IsSet("image") || c.IsSet("entrypoint") || c.NArg() < 2 || strings.HasPrefix(word, ".") || strings.HasPrefix(word, "/") {
		return err
	}
	a.Warn("hint: the first word is the command; an image is an option: cove run --image %s -- %s ...", shellWord(word), shellWord(c.Args().Get(1)))
	return err
}

// otherCommand gives a hint to who typed the name of one, or of a subcommand alone.
func otherCommand(word string, commands []*cli.Command) string {
	for _, c := range commands {
		for _, s := range c.Subcommands {
			if s.HasName(word) && !s.Hidden {
				return "`cove " + c.Name + " " + s.Name + "`: " + s.Usage
			}
		}
	}
	return otherCommands[word]
}

package config

import (
	"fmt"
	"slices"
	"strings"
)

// Meaning says in plain words what follows from a grant.
func (g Grant) Meaning() string {
	switch g.Kind {
	case GrantMount:
		return "What runs inside sees these files as they are outside; where it may write, it can change and delete them for good."
	case GrantDotfile:
		return "It reads the file, or all that the folder holds, at the same place of its own home, and cannot change it."
	case GrantGit:
		return "It sees all that was ever committed there, and where it may write, it can make commits, and move and lose branches. What of it makes git outside run something stays as it is."
	case GrantNetwork:
		return "Whatever it can read inside it can send there, and what answers there it can bring in."
	case GrantEnv:
		return "It learns the value that the variable has where you start it: a token in it is known inside."
	case GrantPublish:
		return "Programs of this machine, and where the address is not 127.0.0.1 others too, can connect to what listens inside."
	case GrantCap:
		return "Root inside has this power over the sandbox and what is granted to it, and reaches more of the kernel with it."
	case GrantNewPrivileges:
		return "Programs inside with the setuid bit run as their owner inside. They do not become root outside."
	case GrantNested:
		return "More of the kernel's code can be reached from inside, and of /proc and /sys more can be read."
	case GrantSeccomp:
		return "Which system calls reach the kernel is decided by this file. Some are denied over every file, see `cove help profile`."
	case GrantImage:
		return "Its programs are what runs, and the registry learns that and when you pull it."
	case GrantProtect:
		return "What is written there acts outside of every sandbox, as you, when you use git or cove the next time."
	case GrantWorkspace:
		return "Your own config.toml would have kept the project's files from that."
	case GrantHost:
		if strings.HasPrefix(g.Key, "host.gpu") {
			return "It talks to the driver itself. No log has it, and a fault in the driver is a way out of the sandbox."
		}
		if g.Key == "host.wayland" || g.Key == "host.x11" {
			return "It talks to your desktop itself, in your name: what it may do there is not for cove to say, and no log has it."
		}
		return "It uses this in your name. While the sandbox runs `cove host log` tells each use, and what was refused."
	case GrantSetup:
		return "Programs that it brings into the image are what runs, in this project and in others that ask for the same. It sees nothing of yours."
	case GrantLimit:
		return "It may use more of this machine than you would let it."
	}
	return ""
}

// Fact is something about a sandbox that is no grant, and the key of the profile that makes it so; "" where no key does.
type Fact struct {
	Text   string  `json:"text"` // for a person; every value in it is quoted
	Key    string  `json:"key,omitempty"`
	Origin *Origin `json:"origin,omitempty"`
}

type facts struct {
	p    *Profile
	list []Fact
}

func (f *facts) put(key, format string, args ...any) {
	fact := Fact{Text: fmt.Sprintf(format, args...), Key: key}
	if key != "" {
		o := f.p.OriginOf(key)
		fact.Origin = &o
	}
	f.list = append(f.list, fact)
}

// Has is what runs inside has without anybody's agreeing: the project, and what is made for it.
func (p *Profile) Has() []Fact {
	f := &facts{p: p}
	if p.Image == "host" {
		f.put("image", "this machine's own /usr, /etc, /opt and /nix, read-only, as its root file system")
	} else {
		f.put("image", "the files of the image %s; what it writes there is its own copy", quotePlain(p.Image))
		if p.Persist {
			f.put("persist", "what was written there before: that copy is kept for this project")
		}
	}
	if p.Persist {
		f.put("persist", "what earlier runs for this project have changed in these files, which is kept")
	}
	switch at := p.workspaceAt(); {
	case at == "":
		f.put("workspace.mode", "no project folder")
	case p.Workspace.Mode == "ro":
		f.put("workspace.mode", "the project folder %s to read%s", quotePlain(p.Dir), otherwiseAt(p.Dir, at))
	case p.Workspace.Mode == "rw":
		f.put("workspace.mode", "the project folder %s to read and write%s", quotePlain(p.Dir), otherwiseAt(p.Dir, at))
	case p.Workspace.Mode == "review":
		f.put("workspace.mode", "a copy-on-write view of the project folder %s%s; what it writes is kept apart until you apply it", quotePlain(p.Dir), otherwiseAt(p.Dir, at))
	default:
		f.put("workspace.mode", "the project folder %s in mode %s%s", quotePlain(p.Dir), quotePlain(p.Workspace.Mode), otherwiseAt(p.Dir, at))
	}
	if p.Home.Mode == "project" {
		f.put("home.mode", "a home folder of its own, which is kept for this project")
	} else {
		f.put("home.mode", "an empty home folder, which is gone afterwards")
	}
	for i, m := range p.Mounts {
		if m.Within {
			f.put(elementOf("mount", i), "%s of the project as %s too, to %s", quotePlain(m.Source), quotePlain(m.Target), readOrWrite(m.Mode))
		}
	}
	switch p.User {
	case "root":
		f.put("user", "the name of root, who is you outside")
	case "me":
		f.put("user", "your own name and number, without privileges")
	default:
		f.put("user", "the user that the image names, who is you outside")
	}
	if caps := ExpandCaps(p.Security.Caps); len(caps) > 0 {
		f.put("security.caps", "the capabilities %s over what is its own", strings.Join(caps, " "))
	}
	f.put("env.set", "of your environment TERM, LANG, COLORTERM and NO_COLOR, and what the profile sets (%d)", len(p.Env.Set))
	return f.list
}

func otherwiseAt(dir, at string) string {
	if at == dir {
		return ""
	}
	return ", as " + quotePlain(at)
}

// Closed is what runs inside cannot reach, and which key could open it.
func (p *Profile) Closed() []Fact {
	f := &facts{p: p}
	if p.workspaceAt() != "" && p.Workspace.Mode == "rw" && len(p.Workspace.Protect) > 0 {
		quoted := make([]string, len(p.Workspace.Protect))
		for i, name := range p.Workspace.Protect {
			quoted[i] = quotePlain(name)
		}
		f.put("workspace.protect", "writing %s of the project, which act later, outside", strings.Join(quoted, ", "))
	}
	f.put("mount", "every other file of this machine: your home, other projects, devices, the session's sockets (D-Bus, X11, Wayland, agents)")
	p.closedNetwork(f)
	f.put("env.pass", "every other variable of your environment")
	f.put("", "processes, keyrings, shared memory and terminals of this machine")
	if lost := slices.DeleteFunc(DefaultCaps(), func(c string) bool { return slices.Contains(ExpandCaps(p.Security.Caps), c) }); len(lost) > 0 {
		f.put("security.caps", "the capabilities %s, which a sandbox has else", strings.Join(lost, " "))
	}
	f.put("security.caps", "every other capability")
	if !p.Security.NewPrivileges {
		f.put("security.new_privileges", "privileges from setuid programs and file capabilities")
	}
	if !p.Security.Nested {
		f.put("security.nested", "user namespaces and mounts inside")
	}
	f.put("", "keys, bpf, perf, io_uring, userfaultfd, kernel modules, AF_VSOCK, and typing into its terminal from inside")
	return f.list
}

func (p *Profile) closedNetwork(f *facts) {
	n := p.Network
	switch {
	case n.Mode == "none":
		f.put("network.mode", "the network: there is only a loopback of its own")
	case n.Mode == "host":
		f.put("network.mode", "abstract sockets of this machine; nothing else of its network")
	case n.Allow != nil:
		f.put("network.allow", "every name and address that network.allow does not list; other names do not even resolve")
	default:
		f.put("network.mode", "private and link-local addresses, and this machine's own")
	}
	if n.Mode == "user" && len(n.Deny) > 0 {
		f.put("network.deny", "%s", strings.Join(quotedAll(texts(n.Deny)), ", "))
	}
	if n.Mode == "user" && len(n.HostPorts) == 0 {
		f.put("network.host_ports", "this machine's loopback")
	}
	if n.Mode == "user" && len(n.Publish) == 0 && !n.PublishAuto {
		f.put("network.publish", "connections from outside")
	}
}

func quotedAll(values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = quotePlain(v)
	}
	return out
}

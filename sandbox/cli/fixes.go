package cli

import (
	"fmt"
	"os"
	"strings"

	"cove/sandbox/host"
	"cove/userns"

	"golang.org/x/sys/unix"
)

// The commands that mend a machine, one place for doctor and for hints.

// family is the group of distributions that this one belongs to, which decides its packages' names.
type family string

const (
	debian  family = "debian"
	fedora  family = "fedora"
	arch    family = "arch"
	suse    family = "suse"
	alpine  family = "alpine"
	unknown family = ""
)

// thisFamily reads os-release(5).
func thisFamily() family {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if b, err := os.ReadFile(path); err == nil {
			return familyOf(string(b))
		}
	}
	return unknown
}

func familyOf(osRelease string) family {
	var ids []string
	for _, key := range []string{"ID=", "ID_LIKE="} { // its own name counts more than its relatives'
		for _, line := range strings.Split(osRelease, "\n") {
			if value, ok := strings.CutPrefix(line, key); ok {
				ids = append(ids, strings.Fields(strings.Trim(strings.TrimSpace(value), `"'`))...)
			}
		}
	}
	for _, id := range ids {
		switch id {
		case "debian", "ubuntu":
			return debian
		case "fedora", "rhel", "centos":
			return fedora
		case "arch", "archlinux":
			return arch
		case "suse", "opensuse", "sles":
			return suse
		case "alpine":
			return alpine
		}
	}
	return unknown
}

// packages are the names under which the distributions have a program.
var packages = map[string]map[family]string{
	"newuidmap":      {debian: "uidmap", fedora: "shadow-utils", arch: "shadow", suse: "shadow", alpine: "shadow-subids"},
	"fuse-overlayfs": {debian: "fuse-overlayfs", fedora: "fuse-overlayfs", arch: "fuse-overlayfs", suse: "fuse-overlayfs", alpine: "fuse-overlayfs"},
	"slirp4netns":    {debian: "slirp4netns", fedora: "slirp4netns", arch: "slirp4netns", suse: "slirp4netns", alpine: "slirp4netns"},
	"pasta":          {debian: "passt", fedora: "passt", arch: "passt", suse: "passt", alpine: "passt"},
}

var installers = map[family]string{
	debian: "apt-get install -y", fedora: "dnf install -y", arch: "pacman -S", suse: "zypper install", alpine: "apk add",
}

// place is where the advice is to be followed.
type place struct {
	family family
	around host.Around
	root   bool
}

func here() place {
	return place{family: thisFamily(), around: host.LookAround(), root: os.Geteuid() == 0}
}

// sudo makes a command one that its user may give.
func (p place) sudo(command string) string {
	switch {
	case p.root:
		return command
	case p.family == alpine:
		return "doas " + command
	}
	return "sudo " + command
}

// install is the command that brings programs, by the names that packages has.
func (p place) install(programs ...string) string {
	var names []string
	for _, program := range programs {
		name, ok := packages[program][p.family]
		if !ok {
			return "install the package that has " + strings.Join(programs, " and ")
		}
		names = append(names, name)
	}
	return p.sudo(installers[p.family] + " " + strings.Join(names, " "))
}

// container is how what is around us would have to be started, "" where there is nothing: from inside it cannot be mended.
func (p place) container() string {
	switch p.around {
	case host.Docker:
		return "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined --device /dev/fuse --device /dev/net/tun ..."
	case host.Podman:
		return "podman run --security-opt seccomp=unconfined --security-opt label=disable --security-opt unmask=ALL --device /dev/fuse --device /dev/net/tun ..."
	case host.Kubernetes:
		return `in the container's securityContext:
  procMount: Unmasked
  seccompProfile: {type: Unconfined}
  appArmorProfile: {type: Unconfined}
and in the pod's spec, which procMount asks for:
  hostUsers: false`
	case host.Cove:
		return "in the profile of the sandbox around this one:\n[security]\nnested = true"
	case host.Container:
		return "outside: lxc config set NAME security.nesting true; or what the container's manager has for containers inside"
	case host.WSL1:
		return "in Windows: wsl --set-version DISTRIBUTION 2"
	}
	return ""
}

// subidsFix grants the user ranges that nobody has.
func (p place) subidsFix(name string, uids, gids bool) string {
	who := `"$(id -un)"`
	if name != "" {
		who = shellWord(name)
	}
	first := freeSubids("/etc/subuid", "/etc/subgid")
	last := first + 65535
	command := "usermod"
	if uids {
		command += fmt.Sprintf(" --add-subuids %d-%d", first, last)
	}
	if gids {
		command += fmt.Sprintf(" --add-subgids %d-%d", first, last)
	}
	return p.sudo(command + " " + who)
}

// freeSubids is the first id behind all ranges of the files, at least where useradd begins.
func freeSubids(files ...string) uint64 {
	free := uint64(100000)
	for _, path := range files {
		for _, g := range grantsOf(path) {
			if end := uint64(g.Start) + uint64(g.Count); end < 1<<31 {
				free = max(free, end)
			}
		}
	}
	return free
}

func grantsOf(path string) []userns.Grant {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return userns.ParseGrants(f)
}

// usernsFix is the command for whatever keeps user namespaces away, and what is known of it.
func (p place) usernsFix(h *host.Host) string {
	switch reason := h.UserNSReason(); {
	case h.UserNS.OK || h.UserNSHidden():
		return ""
	case reason == "user.max_user_namespaces=0" || h.UserNS.Errno == int(unix.ENOSPC):
		return p.sysctlFix("user.max_user_namespaces", "15000")
	case reason == "kernel.unprivileged_userns_clone=0":
		return p.sysctlFix("kernel.unprivileged_userns_clone", "1")
	case p.container() != "": // that restriction is for what is not confined; here something else is in the way
		return p.container()
	case reason == "kernel.apparmor_restrict_unprivileged_userns=1":
		exe, err := os.Executable()
		if err != nil {
			exe = "/usr/local/bin/cove"
		}
		return p.appArmorFix(exe)
	case h.UserNS.Errno == int(unix.EINVAL) || h.UserNS.Errno == int(unix.ENOSYS):
		return "a kernel that was built with CONFIG_USER_NS"
	case strings.HasSuffix(h.Label, "(enforce)"):
		return "a line `userns,` in that profile (aa-status names it, /etc/apparmor.d has it); or start cove from outside of it"
	}
	return ""
}

func (p place) sysctlFix(name, value string) string {
	fix := fmt.Sprintf("echo %s=%s | %s && %s", name, value, p.sudo("tee -a /etc/sysctl.d/60-cove.conf"), p.sudo("sysctl -p /etc/sysctl.d/60-cove.conf"))
	if p.container() != "" {
		return "on the machine outside: " + fix
	}
	return fix
}

// deviceFix brings a device node that is missing, or opens one that is closed.
func (p place) deviceFix(path, module string, f host.Fact) string {
	if p.around == host.Cove {
		return "" // no sandbox has it
	}
	if outer := p.container(); outer != "" {
		return outer
	}
	if f.Errno == int(unix.EACCES) {
		return p.sudo("chmod 0666 " + path)
	}
	return p.moduleFix(module) + " && " + p.sudo("chmod 0666 "+path)
}

// filterFix brings what the packet filter of a sandbox is made of.
func (p place) filterFix() string {
	if p.container() != "" {
		return "on the machine outside: " + p.moduleFix("nf_tables")
	}
	return p.moduleFix("nf_tables")
}

// moduleFix loads a kernel module, now and at every boot.
func (p place) moduleFix(module string) string {
	return p.sudo("modprobe "+module) + " && echo " + module + " | " + p.sudo("tee -a /etc/modules-load.d/cove.conf")
}

// appArmorFix installs a profile that allows user namespaces to this one program, which is what
// Ubuntu does for the programs that it ships.
func (p place) appArmorFix(exe string) string {
	return p.sudo("tee /etc/apparmor.d/cove >/dev/null") + ` <<'EOF'
abi <abi/4.0>,
include <tunables/global>
profile cove ` + appArmorPath(exe) + ` flags=(unconfined) {
  userns,
}
EOF
` + p.sudo("apparmor_parser -r /etc/apparmor.d/cove")
}

// appArmorPath quotes a path for apparmor.d(5), where globs have a meaning.
func appArmorPath(path string) string {
	var b strings.Builder
	for _, r := range path {
		if strings.ContainsRune(`\"*?[]{}@^`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return `"` + b.String() + `"`
}

// shellWord quotes a word for a POSIX shell where it needs that.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
